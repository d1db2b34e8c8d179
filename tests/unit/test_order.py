"""The files that are to come first are there: one that was renamed would come last."""

from pathlib import Path

import pytest

from tests.conftest import HERE, LONGEST


@pytest.mark.parametrize("name", LONGEST)
def test_a_file_that_comes_first_exists(name: str) -> None:
    assert Path(HERE, name).is_file()
