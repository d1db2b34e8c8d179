"""Flows that sleep, in seeded histories: with crashes, cancels, retries and clocks that jump."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.ledger import statements
from tests.simulation import flows
from tests.simulation.arena import Arena, arena
from tests.simulation.play import Played, play
from tests.support import factories
from tests.support.servers import Server

STEPS = 100


@pytest.fixture(scope="module")
def made(pg_server: Server, template_db: str) -> Iterator[Arena]:
    with arena(pg_server, template_db) as found:
        yield found


def asleep(made: Arena, seed: int, steps: int = STEPS) -> Played:
    rng = random.Random(f"naps {seed}")
    manifests: list[dict[str, Any]] = [
        flows.with_naps(rng, flows.manifest(rng, f"flow{n}", more=False)) for n in range(2)
    ]
    return play(made, seed, steps, manifests)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_a_seed_finds_nothing(made: Arena, seed: int) -> None:
    played = asleep(made, seed)
    assert not played.wrong, str(played)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_three_hundred_seeds_find_nothing(made: Arena) -> None:
    """Longer than those of the default run, and others."""
    for seed in range(1000, 1300):
        played = asleep(made, seed, 300)
        assert not played.wrong, str(played)


@pytest.mark.slow
def test_a_sleep_that_is_woken_early_is_caught(made: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """By nobody's clock but the ledger's."""
    changed = {
        name: statements.sql(name).replace("(SELECT flow_now())", "'infinity'").replace("flow_now()", "'infinity'", 1)
        for name in ("still_to_wake",)
    }
    changed["to_wake"] = statements.sql("to_wake").replace("(SELECT flow_now() - %(late)s::interval)", "'infinity'")
    changed["end_wait"] = statements.sql("end_wait").replace("s.wake_at <= flow_now()", "TRUE")
    factories.mutate(monkeypatch, **changed)
    played = asleep(made, 0)
    assert any("I11" in one and "early" in one for one in played.wrong), str(played)
