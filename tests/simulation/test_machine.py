"""Seeded histories of the real engine: Hypothesis schedules some, plain seeds others, and mutants are caught."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from orchestrator.authoring.step import Step
from orchestrator.engine.flows import register
from orchestrator.ledger import claims, statements
from tests.proof.checker import check
from tests.simulation.arena import Arena, arena
from tests.simulation.judge import history_of, violations
from tests.simulation.machine import Machine
from tests.simulation.play import play
from tests.simulation.processes import Process
from tests.simulation.stage import Actor
from tests.simulation.world import World
from tests.soak import mutants
from tests.support import factories
from tests.support.cases import thinned
from tests.support.servers import Server

ROOT: Final = Path(__file__).resolve().parents[2]
STEPS: Final = 200
SEEDS: Final = [(seed, STEPS) for seed in range(10)]
KEPT: Final[tuple[tuple[int, int], ...]] = ((239, STEPS),)
"""Seeds and steps that once found something in the engine."""


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


def test_hypothesis_finds_nothing(made: Arena) -> None:
    """The same examples in every run; with `-m soak` there are others each time."""
    _machine(made, examples=8, steps=50, derandomize=True)


@pytest.mark.parametrize(("seed", "steps"), thinned([*SEEDS, *KEPT], *SEEDS[:4], *KEPT))
def test_a_seed_finds_nothing(made: Arena, seed: int, steps: int) -> None:
    """What is wrong is printed with the seed and the last things that were done."""
    played = play(made, seed, steps)
    assert not played.wrong, str(played)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_hypothesis_finds_nothing_in_an_hour(made: Arena) -> None:
    """Ends by itself; shrinks what it finds."""
    _machine(made, examples=500, steps=80)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_seeds_find_nothing(made: Arena) -> None:
    """Longer than those of the default run, and others."""
    for seed in range(1000, 2000):
        played = play(made, seed, 300)
        assert not played.wrong, str(played)


def test_one_seed_is_one_history(made: Arena) -> None:
    """So that what it finds can be found again."""
    assert play(made, 2, STEPS).trace == play(made, 2, STEPS).trace


# ---- that it can fail ----


def _join_without_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here commits come one after the other, so a counter that is read and written in two halves is right by luck; one
    that is not asked at all is not."""
    text = statements.sql("finish_mid")
    factories.mutate(
        monkeypatch, finish_mid=text.replace("s.deps_open > 1", "FALSE").replace("s.deps_open = 1", "TRUE")
    )


def _any_version_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., Any] = claims.claim
    monkeypatch.setattr(claims, "claim", lambda *place: original(*place[:-1], replace(place[-1], accepted=None)))


def _inputs_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old worker takes what its handlers have no parameter for."""
    monkeypatch.setattr(Step, "misfit", lambda self, names: None)


def _old_code_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts last has the current version."""
    monkeypatch.setattr(register, "register", register.deploy)


BREAKS: Final[dict[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "no fence": partial(mutants.apply, "no fence"),
    "no re-dispatch": partial(mutants.apply, "no re-dispatch"),
    "join without counter": _join_without_counter,
    "any version is claimed": _any_version_is_claimed,
    "inputs are not asked": _inputs_are_not_asked,
    "old code comes back": _old_code_comes_back,
}


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("no fence", 39),
        pytest.param("no re-dispatch", 1, marks=pytest.mark.slow),
        ("join without counter", 17),
        ("any version is claimed", 0),
        ("inputs are not asked", 0),
        ("old code comes back", 1),
    ],
)
def test_a_mutant_is_caught(made: Arena, monkeypatch: pytest.MonkeyPatch, name: str, seed: int) -> None:
    """By a seed that finds nothing in the engine as it is."""
    assert not play(made, seed, STEPS).wrong
    BREAKS[name](monkeypatch)
    assert play(made, seed, STEPS).wrong


# ---- cases that seeds came upon ----


def _step(fate: str, run_after: dict[str, list[str]] | None = None) -> dict[str, Any]:
    retry = {"max_attempts": 1, "backoff": {"delays": ["PT1S"]}}
    inputs = {"fate": f"@triggerBody().fates.{fate}", "seen": []}
    return {"type": "work", "inputs": inputs, "run_after": run_after or {}, "retry": retry}


@pytest.fixture
def world(made: Arena) -> Iterator[World]:
    """Two workers; `a`, and `b` if it fails."""
    steps = {"a": _step("a"), "b": _step("b", {"a": ["failed"]})}
    found = World(made, 0, 2, [{"name": "flow0", "steps": steps}])
    yield found
    found.close()


def _started(world: World, **fates: Any) -> None:
    world.people.start(0, None, {"fates": {"a": {}, "b": {}, **fates}, "lists": {}})
    world.finish(world.people.actors[0])


def _overslept(world: World) -> tuple[Process, Actor, Process]:
    """A worker, its child that slept right after its claim for longer than its lease, and a worker that has the message
    of the step since."""
    _started(world)
    late, other = world.processes
    world.deliver(0, late)
    sleeper = late.children[0]
    for _ in range(2):
        world.go(sleeper)
    assert sleeper.at == "reply", "its claim is committed"
    world.jump(31)
    world.duty(other, "expired")
    world.finish(other.keepers[0])
    world.deliver(0, other)
    return late, sleeper, other


def test_a_jump_of_the_clock_lets_a_late_worker_start_after_another_has_finished(world: World) -> None:
    """Its own clock says that it still has the step. The handler runs again, at most that: its result is refused."""
    _, sleeper, other = _overslept(world)
    world.finish(other.children[0])
    world.finish(sleeper)
    world.drain()
    history = history_of(world)
    assert [one.attempt for one in history.invocations] == [2, 1]
    assert [(row["attempt"], row["status"]) for row in history.final["flow_step_attempts"]] == [
        (1, "crashed"),
        (2, "succeeded"),
    ]
    assert violations(history) == []
    assert check(history).broken == {"I2"}, "what the judge lets pass"


@pytest.mark.parametrize("broken", [False, True])
def test_a_stopping_worker_that_slept_gives_back_nothing_of_its_successor(
    world: World, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    """It slept right after its claim. A release that asks for no version takes back the attempt of whoever works now.
    No seed meets this moment: a deploy between a claim and a handler of a step that another has taken over."""
    if broken:
        mutants.apply("release without version", monkeypatch)
    late, sleeper, other = _overslept(world)
    successor = other.children[0]
    while successor.at != "handler":
        world.go(successor)
    world.shut_down(late)
    world.finish(sleeper)
    world.finish(successor)
    world.drain()
    assert {one.invariant for one in violations(history_of(world))} == ({"I2"} if broken else set())


def test_who_takes_up_a_failure_stays_on_its_way_when_an_operator_retries_that(world: World) -> None:
    """`b` was dispatched for the failure of `a`; it runs, whatever becomes of `a` in the new epoch."""
    _started(world, a={"f": 1, "either": True})
    worker = world.processes[0]
    world.deliver(0, worker)
    handler = worker.children[0]
    while handler.at != "handler":
        world.go(handler)
    world.go(handler, "fail")
    while not handler.over:
        world.go(handler)
    world.people.retry(world.people.runs[0], None)
    world.finish(world.people.actors[0])
    (row,) = world.lab.rows("SELECT status FROM flow_steps WHERE step_key = 'b'")
    assert row["status"] == "ready"
    world.deliver(0, worker)
    world.finish(worker.children[0])
    world.audit()
    world.drain()
    history = history_of(world)
    assert violations(history) == []
    assert check(history).broken == set()


# ---- the command ----


BAD: Final = [
    (["--seed", "x"], "'x' is no seed"),
    (["--seed", "7", "--steps", "0"], "'0' is no number of steps"),
    ([], "--seed"),
    (["--seed", "-1"], "'-1' is no seed"),
    (["--seed", "7", "--histories", "many"], "'many' is no number of histories"),
]


@pytest.mark.parametrize(("arguments", "said"), thinned(BAD, *BAD[:3]))
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    """Before anything is started."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not done.stdout
