"""The checker catches every mutant of the engine, and says nothing of the engine as it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proof.checker import check
from tests.soak import mutants
from tests.soak.hands import Hands
from tests.soak.scenarios import CAUGHT_BY, SCENARIOS


@pytest.fixture
def hands(db_url: str, tmp_path: Path) -> Iterator[Hands]:
    made = Hands(db_url, tmp_path)
    try:
        yield made
    finally:
        mutants.publish.clear()
        made.close()


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_engine_passes(hands: Hands, name: str) -> None:
    """So what the mutant breaks is the mutant's doing."""
    SCENARIOS[name](hands)
    assert [str(violation) for violation in check(hands.history()).violations] == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_mutant_is_caught(hands: Hands, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the invariant that it breaks."""
    mutants.apply(name, monkeypatch)
    if name == mutants.STALE_CLOCK:
        mutants.stop_clock(hands.url)
    SCENARIOS[name](hands)
    broken = check(hands.history()).broken
    assert broken >= CAUGHT_BY[name], broken


def test_there_is_a_scenario_for_each() -> None:
    """Twelve of twelve."""
    assert set(SCENARIOS) == set(mutants.MUTANTS) == set(CAUGHT_BY)
