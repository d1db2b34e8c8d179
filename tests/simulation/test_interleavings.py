"""All interleavings of the statements of two calls, or three, on sessions of their own.

Whatever the order, what is left is what one of the two orders without overlap leaves, every rule of the audit holds in
between, and the run goes on to its end.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from typing import Any, Final

import pytest
from sqlalchemy.exc import DBAPIError

from orchestrator.core.facts import Finished, Lease
from orchestrator.core.states import FINAL_RUN
from orchestrator.engine.sweeps import sweep
from orchestrator.errors import Conflict, IdempotencyConflict, LeaseLost
from orchestrator.ledger import statements
from tests.simulation.acts import ACTS, CRASH_LIMIT, GRACE, Act, Scene, set_up
from tests.simulation.theatre import Played, Theatre, every, open_theatre
from tests.support.factories import LEASE, Lab, mutate

GENERAL: Final = ("cancel", "sweep", "retry")
"""These meet everything."""
OTHERS: Final = (
    *("claim", "finish_a", "fail_a", "back_off_a", "renew_a", "release_a"),
    *("sink", "open", "child_0", "window_0", "due", "queue_timeout"),
)
_PAIRS: Final = """
cancel+cancel2 cancel+sweep cancel+retry sweep+sweep2 sweep+retry retry+retry_all claim+claim2 claim+queue_timeout
due+due2 finish_a+finish_b finish_a+again_a finish_a+fail_a finish_b+fail_a finish_b+back_off_a finish_a+release_a
finish_a+renew_a finish_a+sink release_a+renew_a release_a+fail_a sink+child_0 child_0+child_1 child_0+child_1_fails
last_child+cancel last_child+sweep last_child+retry_all last_child+finish_b window_0+window_1 window_0+window_1_fails
open+finish_b open+child_0 start+start2 start+start_other claim+skip claim+mark skip+mark queue_timeout+mark
due+mark_parked cancel+mark cancel+mark_failed retry+mark_failed retry+skip_failed finish_a+skip_join finish_a+mark_join
fail_a+mark_join back_off_a+skip_join cancel+mark_join finish_a+rerun retry+rerun cancel+rerun
"""
PAIRS: Final = (*((one, other) for one in GENERAL for other in OTHERS), *(pair.split("+") for pair in _PAIRS.split()))
HALTED: Final = (
    ("finish_a", "finish_b"),
    ("finish_b", "fail_a"),
    ("finish_b", "release_a"),
    ("sweep", "finish_b"),
    ("child_0", "child_1"),
)
"""In a run that was cancelled before, with handlers still at work: it ends with the last of them."""
_LONG: Final = """
sweep+fail_a sweep+back_off_a sweep+queue_timeout sweep+release_a cancel+sweep sweep+sweep2 sweep+retry last_child+sweep
"""
LONG: Final = [pair.split("+") for pair in _LONG.split()]
"""Up to hundreds of orders, because neither locks the other out for long: all of them on request, those with few
changes from one to the other always."""
_TRIPLES: Final = """
finish_a+finish_b+cancel finish_a+sweep+cancel finish_a+finish_b+sweep claim+claim2+cancel child_0+child_1+cancel
child_0+child_1_fails+sweep window_0+window_1+cancel release_a+sweep+cancel renew_a+sweep+finish_a finish_b+sweep+retry
cancel+retry+sink start+start2+start_other sweep+sweep2+cancel fail_a+finish_b+retry
"""
TRIPLES: Final = tuple(triple.split("+") for triple in _TRIPLES.split())


@pytest.fixture(scope="module")
def theatre(_lab: Lab) -> Iterator[Theatre]:
    with open_theatre(_lab.url) as opened:
        yield opened


class Stage:
    """Plays acts from the same scene again and again, and looks at what they leave."""

    def __init__(self, lab: Lab, theatre: Theatre, names: Sequence[str], *, halted: bool = False) -> None:
        self.lab = lab
        self.theatre = theatre
        self.acts = [ACTS[name] for name in names]
        self.pieces = {act.needs for act in self.acts if act.needs is not None} or {"join"}
        self.late = any(act.late for act in self.acts)
        self.halted = halted

    def serial(self) -> set[Any]:
        """What is left when they come one after the other, in every order."""
        found = set()
        for order in permutations(self.acts):
            scene = self._scene()
            results = {act.name: _caught(act.do, self.lab.ledger, scene) for act in order}
            found.add(self._end(scene, [results[act.name] for act in self.acts]))
        return found

    def play(self, choices: Sequence[int]) -> tuple[Played, Any]:
        """One interleaving; what is left."""
        scene = self._scene()
        self.theatre.ledger.current.update(self.lab.ledger.current)
        calls = [(act.name, _bound(act, self.theatre, scene)) for act in self.acts]
        played = self.theatre.play(calls, choices)
        return played, self._end(scene, played.results)

    def _scene(self) -> Scene:
        self.lab.reset()
        scene = set_up(self.lab, self.pieces, late=self.late)
        if self.halted:
            ACTS["cancel"].do(self.lab.ledger, scene)
        self.theatre.ledger.plan(self.lab.run_row(scene.run_id)["manifest_hash"])
        return scene

    def _end(self, scene: Scene, results: Sequence[Any]) -> Any:
        """Check what holds at once, let the run go on to its end, and say what came of it."""
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, LeaseLost | Conflict | IdempotencyConflict):
                raise result
        self.lab.audit()
        self._drain(scene, results)
        self.lab.audit()
        return self._left(scene)

    def _drain(self, scene: Scene, results: Sequence[Any]) -> None:
        """What is overdue is swept, those who hold a lease report, what is ready runs."""
        sweep.expired(self.lab.ledger, crash_limit=CRASH_LIMIT)  # a sweep leaves what others hold to the next one
        for lease in (*scene.held.values(), *_leases(results)):
            _caught(self.lab.done, lease, lease.step_key)
        for run_id in [row["id"] for row in self.lab.rows("SELECT id FROM flow_runs")]:
            self.lab.drain(run_id)
            if self.lab.status(run_id) in FINAL_RUN:
                continue
            self.lab.forward(LEASE * 2 + GRACE)
            sweep.expired(self.lab.ledger, crash_limit=CRASH_LIMIT)
            sweep.due(self.lab.ledger)
            self.lab.drain(run_id)
            assert self.lab.status(run_id) in FINAL_RUN, f"the run does not end: {self.lab.statuses(run_id)}"

    def _left(self, scene: Scene) -> Any:
        events = self.lab.events(scene.run_id)
        for key, status in self.lab.statuses(scene.run_id).items():
            succeeded = events.count(f"step.succeeded {key}") + events.count(f"step.marked {key}")
            assert succeeded == (status == "succeeded"), f"{key} is {status} and succeeded {succeeded} times: {events}"
            ended = [state for _, state in self.lab.attempts(scene.run_id, key)]
            assert ended.count("succeeded") <= 1, ended
            assert "running" not in ended, ended
        runs = self.lab.rows("SELECT status, epoch FROM flow_runs WHERE id = %s", scene.run_id)
        keys = self.lab.rows("SELECT count(*) AS n FROM flow_runs WHERE trigger_key IS NOT NULL")
        ends = [each for each in events if each in {f"run.{status}" for status in FINAL_RUN}]
        assert len(ends) <= runs[0]["epoch"], f"{ends} in {runs[0]['epoch']} epochs"
        return runs[0]["status"], tuple(sorted(self.lab.statuses(scene.run_id).items())), keys[0]["n"]


def _bound(act: Act, theatre: Theatre, scene: Scene) -> Callable[[], Any]:
    return lambda: act.do(theatre.ledger, scene)


def _caught(do: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return do(*arguments)
    except (LeaseLost, Conflict, IdempotencyConflict) as exc:
        return exc


def _leases(results: Sequence[Any]) -> Iterator[Lease]:
    for result in results:
        if isinstance(result, Lease):
            yield result
        elif isinstance(result, Finished) and result.next is not None:
            yield result.next


def _check(stage: Stage, preemptions: int | None = None) -> int:
    allowed = stage.serial()
    count = 0
    left: list[Any] = []

    def play(choices: Sequence[int]) -> Played:
        played, end = stage.play(choices)
        left.append(end)
        return played

    for played in every(play, preemptions):
        count += 1
        assert left[-1] in allowed, f"{left[-1]} is left, alone they leave {allowed}; {played.script}"
    return count


@pytest.mark.parametrize("names", PAIRS, ids="-".join)
def test_two_at_once(unaudited_lab: Lab, theatre: Theatre, names: Sequence[str]) -> None:
    """Every interleaving of every statement and commit."""
    count = _check(Stage(unaudited_lab, theatre, names), preemptions=2 if list(names) in LONG else None)
    print(f"{' and '.join(names)}: {count} interleavings")
    assert count >= 2
    assert theatre.deadlocks == 0


@pytest.mark.parametrize("names", HALTED, ids="-".join)
def test_two_at_once_in_a_run_that_is_being_stopped(unaudited_lab: Lab, theatre: Theatre, names: Sequence[str]) -> None:
    """One of the two is the last, and ends the run. Orders with few changes from one to the other."""
    count = _check(Stage(unaudited_lab, theatre, names, halted=True), preemptions=1)
    print(f"{' and '.join(names)}, halted: {count} interleavings")


@pytest.mark.parametrize(
    ("statement", "needed", "names", "halted"),
    [
        ("lock_run", "FOR NO KEY UPDATE", ("finish_a", "finish_b"), True),
        ("lock_run_against_claims", "FOR UPDATE", ("cancel", "back_off_a"), False),
        ("end_claim", "AND c.expires_at IS NOT NULL", ("finish_a", "fail_a"), False),
        ("release", "AND halt IS NULL", ("cancel", "release_a"), False),
        ("requeue_expired", "AND r.halt IS NULL", ("cancel", "sweep"), False),
    ],
)
def test_a_rule_that_is_taken_out_is_missed(
    unaudited_lab: Lab,
    theatre: Theatre,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    needed: str,
    names: Sequence[str],
    halted: bool,
) -> None:
    """These tests can fail: some order of the two shows what each lock, fence and look at the run is for."""
    mutate(monkeypatch, **{statement: statements.sql(statement).replace(needed, "")})
    with pytest.raises((AssertionError, DBAPIError)):
        _check(Stage(unaudited_lab, theatre, names, halted=halted))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("names", LONG, ids="-".join)
def test_two_at_once_at_length(unaudited_lab: Lab, theatre: Theatre, names: Sequence[str]) -> None:
    """Every interleaving of these, too."""
    print(f"{' and '.join(names)}: {_check(Stage(unaudited_lab, theatre, names))} interleavings")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("names", TRIPLES, ids="-".join)
def test_three_at_once(unaudited_lab: Lab, theatre: Theatre, names: Sequence[str]) -> None:
    """Every interleaving in which at most twice one is left who could go on."""
    print(f"{', '.join(names)}: {_check(Stage(unaudited_lab, theatre, names), preemptions=2)} interleavings")
