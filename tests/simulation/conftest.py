"""The labs of the engine's tests."""

from tests.engine.conftest import _lab, lab, unaudited_lab

__all__ = ["_lab", "lab", "unaudited_lab"]
