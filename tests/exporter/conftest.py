"""The lab of the engine's tests serves here too."""

from tests.engine.conftest import _lab, lab, unaudited_lab

__all__ = ["_lab", "lab", "unaudited_lab"]
