"""The tables of states, and the pages that show them."""

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import pytest

from orchestrator.core.states import (
    FINAL_STEP,
    OPEN_RUN,
    RUN_MOVES,
    STEP_MOVES,
    RunStatus,
    StepEvent,
    StepStatus,
    sources,
)

PAGE = Path(__file__).parents[2] / "docs" / "states.md"


def _drawn(section: str) -> set[str]:
    text = PAGE.read_text(encoding="utf-8").split(f"## {section}", 1)[1].split("```")[1]
    return set(re.findall(r"^    (\w+ --> \w+: \w+)$", text, re.MULTILINE))


@pytest.mark.parametrize(("section", "moves"), [("Runs", RUN_MOVES), ("Steps", STEP_MOVES)])
def test_the_page_draws_exactly_the_declared_moves(
    section: str, moves: Mapping[tuple[StrEnum, StrEnum], StrEnum]
) -> None:
    """A diagram that lags behind is worse than none."""
    assert _drawn(section) == {f"{source} --> {target}: {event}" for (source, event), target in moves.items()}


def test_only_an_operator_leaves_a_final_state() -> None:
    """Everything else that would is a lost race, and has to be refused."""
    assert {event for (source, event) in STEP_MOVES if source in FINAL_STEP} == {StepEvent.RETRY}
    assert {str(event) for (source, event) in RUN_MOVES if source not in OPEN_RUN} == {"retry"}


def test_one_event_leads_into_running_for_a_step_with_a_handler() -> None:
    """Recovery re-queues, it never runs; `expand` is for loops and `delegate` for calls of flows, which have none."""
    into = {event for (_, event), target in STEP_MOVES.items() if target is StepStatus.RUNNING}
    assert into == {StepEvent.CLAIM, StepEvent.EXPAND, StepEvent.DELEGATE}


def test_sources_are_sorted() -> None:
    """They are compared with statements that spell them out."""
    assert sources(StepEvent.CLAIM) == ["blocked", "ready"]
    assert sorted(RunStatus) == sorted(set(RunStatus))
