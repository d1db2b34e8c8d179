"""What the pages about schedules are played with."""

from tests.cli.conftest import cli
from tests.engine.conftest import _lab, lab, unaudited_lab

__all__ = ["_lab", "cli", "lab", "unaudited_lab"]
