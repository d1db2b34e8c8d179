"""Flows that wait for people, in seeded histories: signals early, late, twice and refused; answers; steps settled by
hand; reruns and late starts; with crashes, cancels, retries and clocks that jump."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.simulation import flows
from tests.simulation.arena import Arena, arena
from tests.simulation.play import Played, play
from tests.support.servers import Server

STEPS = 150


@pytest.fixture(scope="module")
def made(pg_server: Server, template_db: str) -> Iterator[Arena]:
    with arena(pg_server, template_db) as found:
        yield found


def asking(made: Arena, seed: int, steps: int = STEPS) -> Played:
    rng = random.Random(f"waits {seed}")
    manifests: list[dict[str, Any]] = [
        flows.with_waits(rng, flows.manifest(rng, f"flow{n}", more=n > 0)) for n in range(2)
    ]
    return play(made, seed, steps, manifests)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 20))])
def test_a_seed_finds_nothing(made: Arena, seed: int) -> None:
    played = asking(made, seed)
    assert not played.wrong, str(played)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1041, 1042, 1046, 1200])
def test_what_was_found_once(made: Arena, seed: int) -> None:
    """A late start that was opened twice (1041); the others were faults of the checker."""
    played = asking(made, seed, 300)
    assert not played.wrong, str(played)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_three_hundred_seeds_find_nothing(made: Arena) -> None:
    """Longer than those of the default run, and others."""
    for seed in range(1000, 1300):
        played = asking(made, seed, 300)
        assert not played.wrong, str(played)
