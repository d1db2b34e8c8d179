"""What a nursery imports before it forks is there: a module that moved would end it before its first worker."""

from importlib.util import find_spec

import pytest

from tests.support.nursery import HEAVY


@pytest.mark.parametrize("name", HEAVY)
def test_a_module_that_is_imported_beforehand_exists(name: str) -> None:
    assert find_spec(name) is not None
