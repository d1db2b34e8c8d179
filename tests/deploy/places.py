"""Where the shipped files are."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
ORCHESTRATOR = str(Path(sys.executable).with_name("orchestrator"))


def compose() -> dict[str, Any]:
    """The services and the rest, with aliases and merges resolved."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return found


def program(name: str) -> str:
    """A program of this environment or machine; without it the test is skipped, which CI refuses."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin")
    if found is None:
        pytest.skip(f"{name} is not installed: .ci/programs does that")
    return found
