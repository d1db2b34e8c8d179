"""The names of modules that are loaded from .py files."""

import hashlib
import re
from pathlib import Path
from typing import Final

_LOADED: Final = re.compile(r"\borchestrator_flows_(\w+)_[0-9a-f]{12}\b")


def module_name(file: Path) -> str:
    """One for each path, the same in every process: two files of one name do not meet, and pickles find their class."""
    return f"orchestrator_flows_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"


def as_written(text: str) -> str:
    """`saga.CarrierDown` where Python says `orchestrator_flows_saga_39d3e4fc3b78.CarrierDown`."""
    return _LOADED.sub(r"\1", text)
