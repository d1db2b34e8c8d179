"""The pytest plugin: the fixture `world`. It costs nothing where nobody asks for it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from orchestrator.testing.world import World


@pytest.fixture
def world() -> Iterator["World"]:
    """A new world for flows: `run = world.start(my_flow, …)`."""
    from orchestrator.testing.world import sim

    with sim() as made:
        yield made
