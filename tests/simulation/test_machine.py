"""Seeded histories of the real engine: Hypothesis schedules some, plain seeds others, and mutants are caught."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.arena import Arena, arena
from tests.simulation.machine import Machine
from tests.simulation.play import play
from tests.support.servers import Server

ROOT = Path(__file__).resolve().parents[2]
STEPS = 250


@pytest.fixture(scope="module")
def made(pg_server: Server, template_db: str) -> Iterator[Arena]:
    with arena(pg_server, template_db) as found:
        yield found


def _machine(made: Arena, examples: int, steps: int, **options: Any) -> None:
    Machine.arena = made
    profile = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        **options,
    )
    run_state_machine_as_test(cast(Any, Machine), settings=profile)


@pytest.mark.slow
def test_hypothesis_finds_nothing(made: Arena) -> None:
    """The same examples in every run; `-m soak` looks for others."""
    _machine(made, examples=20, steps=50, derandomize=True)
