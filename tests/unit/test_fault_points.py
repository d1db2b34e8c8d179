"""Every point that the code passes can be armed: a kill test of another name would pass without a kill."""

import re
from pathlib import Path

import orchestrator
from orchestrator.engine.faults import POINTS

TESTS = Path(__file__).parents[1]


def test_every_point_that_is_passed_is_known() -> None:
    sources = Path(orchestrator.__file__).parent.rglob("*.py")
    passed = {point for file in sources for point in re.findall(r'\bfp\("([\w.]+)"\)', file.read_text("utf-8"))}
    assert "item.ended" in passed
    assert passed <= POINTS


def test_every_point_has_a_test_that_dies_there() -> None:
    """Those of ticks, beats and calls stand beside their like, not in `tests/faults`."""
    rooms = [TESTS / room for room in ("faults", "workers", "engine", "schedules")]
    said = "".join(file.read_text("utf-8") for room in rooms for file in room.rglob("test_*.py"))
    assert {point for point in POINTS if f'"{point}"' not in said and f"{point}=" not in said} == set()
