"""The rules of waits, joins, calls, polls and reruns are broken, one at a time, and each time it shows: in seeded
histories of a flow made for that rule, or in one that is played by hand."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from orchestrator.core import gates
from orchestrator.core import rerun as reruns
from orchestrator.core.facts import NotReady
from orchestrator.core.states import StepStatus
from orchestrator.engine.steps import polls, races
from orchestrator.engine.subflows import report
from orchestrator.engine.sweeps import sweep
from orchestrator.ledger import statements, subflows
from orchestrator.ledger.tx import Ledger
from tests.proof import recorder
from tests.proof.checker import check
from tests.proof.claims import i11_attempts_are_counted
from tests.proof.history import History
from tests.simulation.arena import Arena, arena
from tests.simulation.judge import history_of
from tests.simulation.play import play
from tests.simulation.world import World
from tests.support import factories
from tests.support.cases import thinned
from tests.support.factories import Lab, after, call
from tests.support.servers import Server

STEPS: Final = 120
SEEDS: Final = range(8)
"""The first that shows a mutant is enough; nearly each of them does."""
Patch = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def made(pg_server: Server, template_db: str) -> Iterator[Arena]:
    with arena(pg_server, template_db) as found:
        yield found


# ---- the mutants ----


def _without(name: str, part: str, instead: str = "") -> str:
    text = statements.sql(name)
    assert part in text, f"{name} has no {part!r}"
    return text.replace(part, instead, 1)


def _a_signal_is_taken_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks whether a signal was consumed."""
    names = ("kept_signal", "take_signal")
    factories.mutate(monkeypatch, **{name: _without(name, "AND consumed_at IS NULL") for name in names})


def _a_skip_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A join of all goes, although what it waited for was skipped or failed."""
    original = gates._is_good
    monkeypatch.setattr(gates, "_is_good", lambda join, edges: join is gates.Join.ALL or original(join, edges))


def _a_late_one_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes after a race was decided ends as a sink, and was not counted as one."""
    monkeypatch.setattr(races, "sinks_open", lambda *_: 0)


def _a_sleep_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks for the time."""
    factories.mutate(
        monkeypatch,
        to_wake=_without("to_wake", "(SELECT flow_now() - %(late)s::interval)", "'infinity'"),
        still_to_wake=_without("still_to_wake", "(SELECT flow_now())", "'infinity'"),
        end_wait=_without("end_wait", "s.wake_at <= flow_now()", "TRUE"),
    )


def _a_wait_outlives_a_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is left alone."""
    halt = _without("halt", "('blocked', 'ready', 'waiting')", "('blocked', 'ready')")
    factories.mutate(monkeypatch, halt=halt.replace("AND closed_at IS NULL", "AND FALSE"))


def _a_rerun_keeps_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the step that was asked for, and what comes after it."""
    original = reruns._kept
    monkeypatch.setattr(reruns, "_kept", lambda before, target, step, fields: original(before, target, "", fields))


def _a_child_is_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks whether its end was told, and whether the step still waits for that."""
    names = ("parent_of", "tell_parent")
    told = {name: _without(name, "AND NOT parent_told") for name in names}
    succeed = _without("succeed", "AND s.status = ANY (%(from_states)s)")
    factories.mutate(monkeypatch, **told, succeed=succeed)
    original = subflows.call
    monkeypatch.setattr(subflows, "call", lambda *place: replace(original(*place), status=StepStatus.RUNNING))


# ---- what they are played on ----


def _work(*after: str, **fields: Any) -> dict[str, Any]:
    inputs = {"fate": "@triggerBody().fates.s", "seen": []}
    return {
        "type": "work",
        "inputs": inputs,
        "run_after": {key: ["succeeded"] for key in after},
        "retry": {"max_attempts": 1},
        **fields,
    }


def _twice(steps: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Two flows with these steps. Each handler has the fate of its own step."""
    own = {
        key: {**one, "inputs": {**one["inputs"], "fate": f"@triggerBody().fates.{key}"}} if "type" in one else one
        for key, one in steps.items()
    }
    return [{"name": f"flow{n}", "steps": own} for n in range(2)]


def _after(*keys: str, **fields: Any) -> dict[str, Any]:
    return {"run_after": {key: ["succeeded"] for key in keys}, **fields}


FORM: Final = {"type": "object", "required": ["n"]}
GO: Final = {"signal": {"name": "go", "schema": FORM}}


@dataclass(frozen=True)
class Case:
    """`caught`: what is said of the mutant. `often`: what people do all the time, because it takes that."""

    patch: Patch
    steps: Mapping[str, Any]
    caught: str
    often: tuple[str, ...] = ()


CASES: Final = {
    "a signal is taken twice": Case(
        _a_signal_is_taken_twice,
        {"a": _work(), "w": _after("a", **GO), "b": _work("w"), "v": _after("b", **GO), "x": _work("v")},
        "I14",
    ),
    "a join ignores a skip": Case(
        _a_skip_is_no_matter,
        {"a": _work(), "b": _work(when="@triggerBody().flags.b"), "join": _work("a", "b"), "x": _work("join")},
        "I5",
    ),
    "a late sibling counts twice": Case(
        _a_late_one_counts_twice,
        {
            "a": _work(),
            "b": _work(),
            "first": _after("a", "b", value="@steps('a').output ?? @steps('b').output", join="any", rest="leave"),
            "x": _work("first"),
        },
        "sinks",
    ),
    "a sleep ends early": Case(
        _a_sleep_ends_early, {"a": _work(), "nap": _after("a", sleep="PT30S"), "x": _work("nap")}, "I11"
    ),
    "a wait outlives a cancel": Case(
        _a_wait_outlives_a_cancel,
        {"w": GO, "nap": {"sleep": "PT30S"}, "x": _work("w", "nap")},
        "is cancelled",
        ("cancel",),
    ),
}


@pytest.mark.parametrize("name", thinned(CASES, "a sleep ends early"))
def test_a_mutant_is_caught(made: Arena, name: str) -> None:
    """By a seed that finds nothing in the engine as it is."""
    case, seen = CASES[name], list[str]()
    for seed in SEEDS:
        with pytest.MonkeyPatch.context() as patched:
            case.patch(patched)
            broken = play(made, seed, STEPS, _twice(case.steps), case.often)
        seen += broken.wrong
        if any(case.caught in one for one in broken.wrong):
            played = play(made, seed, STEPS, _twice(case.steps), case.often)
            assert not played.wrong, str(played)
            return
    pytest.fail(f"no seed of {SEEDS} says {case.caught!r}: {seen}")


# ---- histories played by hand ----


@pytest.mark.parametrize("broken", [False, True])
def test_a_rerun_that_keeps_what_is_to_run_again_is_caught(
    made: Arena, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    """A run ends, and is run again from its second step on."""
    world = World(made, 0, 1, _twice({"a": _work(), "b": _work("a"), "c": _work("b")}))
    try:
        world.people.start(0, None, {"fates": {"a": {}, "b": {}, "c": {}}, "lists": {}})
        world.finish(world.people.actors[0])
        world.drain()
        if broken:
            _a_rerun_keeps_it_all(monkeypatch)
        world.people.rerun(world.people.runs[0], "b")
        world.finish(world.people.actors[-1])
        world.drain()
        said = [one.sentence for one in check(history_of(world)).violations]
        assert said == (["it was to run again, and is kept"] if broken else [])
    finally:
        world.close()


@pytest.fixture
def lab(db_url: str) -> Iterator[Lab]:
    """A ledger whose changes are recorded."""
    made = Lab(db_url, Ledger.connect(db_url, name="mutant"))
    recorder.install(db_url)
    made.execute(factories.RECORDER)
    made.execute("ALTER TABLE proof_history ALTER COLUMN at SET DEFAULT flow_now()")
    yield made
    made.close()


@pytest.mark.parametrize("broken", [False, True])
def test_a_clock_of_polls_that_begins_anew_is_caught(lab: Lab, monkeypatch: pytest.MonkeyPatch, broken: bool) -> None:
    """A step is asked twice, and is not ready."""
    if broken:
        anew = _without("poll_again", "failures = 0,", "failures = 0, started_at = now,")
        factories.mutate(monkeypatch, poll_again=anew)
    run_id = lab.run({"a": call(poll={"every": "PT10S", "timeout": "PT1M"})})
    for _ in range(2):
        polls.not_yet(lab.ledger, lab.take(run_id, "a"), NotReady("in customs"))
        lab.forward(11)
        sweep.due(lab.ledger)
    clock = recorder.Offset(0, 0)
    history = History(
        changes=tuple(recorder.changes(lab.url, clock)),
        final=recorder.final_rows(lab.url, clock),
        manifests=recorder.manifests(lab.url),
    )
    said = {one.sentence for one in i11_attempts_are_counted(history)}
    assert ("the clock of its polls moves" in said) if broken else not said


@pytest.mark.parametrize("broken", [False, True])
def test_a_child_that_is_reported_twice_is_caught(lab: Lab, monkeypatch: pytest.MonkeyPatch, broken: bool) -> None:
    """By the audit that follows each act of a simulated history: the end of the call is counted again."""
    if broken:
        _a_child_is_told_twice(monkeypatch)
    lab.flow({"a": call()}, name="child")
    run_id = lab.run({"sub": {"flow": "child"}, "end": after("sub")})
    child = lab.step(run_id, "sub")["child_run_id"]
    lab.do(child, "a")
    report.tell(lab.ledger, child)
    lab.audit()
    report.tell(lab.ledger, child)
    with pytest.raises(AssertionError, match="sinks_open is 0, 1 are open") if broken else nullcontext():
        lab.audit()
