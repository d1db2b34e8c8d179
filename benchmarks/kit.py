"""The test kit: what a test costs whoever writes one."""

import logging
import time
from collections.abc import Callable
from typing import Final

from benchmarks import flows
from benchmarks.alone import Ground
from benchmarks.figures import Figure
from benchmarks.report import Result, Row
from benchmarks.workloads import Say, Sizes
from orchestrator import flow, step
from orchestrator.testing import World, sim

_OURS: Final = "a world"
_ROUNDS: Final = 20


@step(retries=72, backoff=["1h"])
def hourly(value: int) -> int:
    """Replaced by a fake that fails for three days."""
    return value


@flow
def patient(value: int) -> int:
    """One step that is tried each hour."""
    return hourly(value)


def kit(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """A chain of five, three days of attempts each hour, and a world that does nothing."""
    logging.getLogger("orchestrator").setLevel(logging.CRITICAL)  # what fails here fails on purpose
    with sim():
        pass  # its server starts with the first one
    rows = [
        _row("an empty world, ms", _empty, say),
        _row("chain of five in a world, ms", lambda: _within(_chain), say),
        _row("three days of attempts each hour, ms", lambda: _within(_days), say),
    ]
    return Result("The test kit", rows, ["The chain and the days without the world around them."], (_OURS,))


def _row(what: str, once: Callable[[], float], say: Say) -> Row:
    figure = Figure.of([once() for _ in range(_ROUNDS)])
    say(f"kit: {what} {figure.text()}")
    return Row(what, {_OURS: figure})


def _empty() -> float:
    began = time.perf_counter()
    with sim():
        return (time.perf_counter() - began) * 1000


def _within(act: Callable[[World], None]) -> float:
    with sim(flows.chain, patient) as world:
        world.start(flows.chain, value=1)  # what a session does once is done
        began = time.perf_counter()
        act(world)
        return (time.perf_counter() - began) * 1000


def _chain(world: World) -> None:
    assert world.start(flows.chain, value=1).status == "succeeded"


def _days(world: World) -> None:
    world.fake(hourly, raises=ConnectionError)
    run = world.start(patient, value=1)
    world.advance(days=3)
    assert run.status in ("failed", "waiting")
