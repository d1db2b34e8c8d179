"""Most tests of schedules end with a look at what must hold of their rows."""

from collections.abc import Iterator

import pytest

from orchestrator.engine import faults
from tests.support.factories import Lab
from tests.support.schedules import check


@pytest.fixture
def checked(lab: Lab) -> Iterator[None]:
    """Ask for it with `pytestmark` in a module whose tests leave rows that must be right."""
    yield
    faults.disarm()
    check(lab)
