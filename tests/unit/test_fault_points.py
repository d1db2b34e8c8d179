"""Every point that the code passes can be armed: a kill test of another name would pass without a kill."""

import re
from pathlib import Path

import orchestrator
from orchestrator.engine.faults import POINTS


def test_every_point_that_is_passed_is_known() -> None:
    sources = Path(orchestrator.__file__).parent.rglob("*.py")
    passed = {point for file in sources for point in re.findall(r'\bfp\("([\w.]+)"\)', file.read_text("utf-8"))}
    assert "item.ended" in passed
    assert passed <= POINTS
