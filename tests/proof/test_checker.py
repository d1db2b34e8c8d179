"""Every invariant tells a wrong history from a right one."""

import pytest

from tests.proof import (
    stories_calls,
    stories_edge,
    stories_items,
    stories_polls,
    stories_reports,
    stories_right,
    stories_signals,
    stories_ticks,
    stories_wrong_runs,
    stories_wrong_steps,
    stories_wrong_ticks,
)
from tests.proof.checker import INVARIANTS, check
from tests.proof.executions import pids_of
from tests.proof.stories import RIGHT, WRONG, AnnouncedResult

TOLD = (
    stories_calls,
    stories_edge,
    stories_items,
    stories_polls,
    stories_reports,
    stories_right,
    stories_signals,
    stories_ticks,
    stories_wrong_runs,
    stories_wrong_steps,
    stories_wrong_ticks,
)
"""They note their stories when they are imported."""


@pytest.mark.parametrize(("name", "tell"), RIGHT, ids=[name for name, _ in RIGHT])
def test_a_right_history_passes(name: str, tell: AnnouncedResult) -> None:
    """A checker that cries wolf is switched off."""
    assert [str(violation) for violation in check(tell()).violations] == []


@pytest.mark.parametrize(("invariant", "name", "tell"), WRONG, ids=[f"{i}-{name}" for i, name, _ in WRONG])
def test_a_wrong_history_is_caught(invariant: str, name: str, tell: AnnouncedResult) -> None:
    """A checker that cannot fail is worthless."""
    verdict = check(tell())
    assert invariant in verdict.broken, [str(violation) for violation in verdict.violations]


def test_every_invariant_is_broken_by_some_history() -> None:
    """Nothing is checked that no test has seen fail."""
    assert {invariant for invariant, _, _ in WRONG} == set(INVARIANTS)


def test_an_owner_names_its_processes() -> None:
    """A thread, and a random part that happens to be all digits, are none."""
    assert pids_of("host/10/12345678/11") == {10, 11}
    assert pids_of("host/10/12345678/t3") == {10}
