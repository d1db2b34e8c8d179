"""Rows that nobody can do hold up no others: a page of them ends, the next one begins behind it, and they rest."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.facts import StartRequest, Swept
from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import start_run
from orchestrator.engine.runs.cancel_run import cancel
from orchestrator.engine.sweeps import sweep
from orchestrator.engine.sweeps.walk import Walk
from orchestrator.ledger import sweeps
from orchestrator.ledger.sweeps import START
from tests.support.factories import LEASE, Lab, call

PAGE = 20
GRACE = timedelta(seconds=10)
NEWER = (
    "UPDATE flow_definition_versions SET manifest = (manifest::jsonb || '{\"newer\": 1}')::json WHERE flow = 'newer'"
)


def newer(lab: Lab, count: int, **step: object) -> None:
    """Runs of a release that this process cannot read."""
    lab.flow({"a": call(**step)}, name="newer")
    start_run.start(lab.ledger, [StartRequest("newer", "{}") for _ in range(count)])
    lab.execute(NEWER)
    lab.ledger._plans.clear()  # as another process: it never read this manifest


def all_pages(page: Callable[[], Swept]) -> list[int]:
    """What a keeper's pass changes, page after page."""
    found = [page()]
    while found[-1].more:
        found.append(page())
    return [one.changed for one in found]


def test_cancelled_runs_keep_no_deadline_waiting(lab: Lab) -> None:
    """They end with their handlers. Looked at again and again, they would be the first page for ever."""
    lab.flow({"a": call()}, name="d", deadline="PT1S")
    for _ in range(PAGE):
        lab.take(run_id := lab.start("d"), "a", lease=LEASE * 100)
        cancel(lab.ledger, run_id, by="me", reason="r", grace=GRACE)
    late = lab.start("d")
    lab.forward(2)
    walk = Walk(PAGE)
    assert all_pages(lambda: sweep.deadlines(lab.ledger, GRACE, walk)) == [1]
    assert lab.status(late) is RunStatus.TIMED_OUT
    lab.forward(LEASE * 200)
    sweep.expired(lab.ledger, crash_limit=3)


def test_a_page_of_unreadable_runs_is_passed_by(unaudited_lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """Their queue timeouts are for a keeper of their release; those behind them are not held up, and one line tells."""
    lab = unaudited_lab
    newer(lab, 2 * PAGE, queue_timeout="PT1S")
    lab.forward(0.1)
    healthy = lab.run({"a": call(queue_timeout="PT1S")})
    lab.forward(2)
    walk = Walk(PAGE)
    with caplog.at_level(logging.WARNING):
        found = [sweep.queue_timeouts(lab.ledger, walk) for _ in range(3)]
    assert [(one.changed, one.more, one.unreadable) for one in found] == [
        (0, False, True),
        (0, False, False),
        (1, False, False),
    ]
    assert lab.status(healthy) is RunStatus.FAILED
    assert [record.message for record in caplog.records] == ["manifest.unreadable", "step.failed"]


def test_what_cannot_be_read_is_tried_once(unaudited_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hundred rows of one manifest would otherwise cost five hundred transactions."""
    lab = unaudited_lab
    newer(lab, PAGE, queue_timeout="PT1S")
    lab.forward(2)
    asked: list[object] = []
    real = sweeps.still_ready
    monkeypatch.setattr(sweeps, "still_ready", lambda *given: asked.append(given) or real(*given))
    walk = Walk(PAGE + 1)
    for _ in range(5):
        sweep.queue_timeouts(lab.ledger, walk)
    assert len(asked) == 1
    impatient = Walk(PAGE + 1, rest=timedelta(0))
    sweep.queue_timeouts(lab.ledger, impatient)
    sweep.queue_timeouts(lab.ledger, impatient)
    assert len(asked) == 1 + 2 * PAGE


def test_a_row_that_fails_rests(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone: the others of its flow are done."""
    lab.flow({"a": call(queue_timeout="PT1S")})
    bad, *others = [lab.start() for _ in range(3)]
    lab.forward(2)
    asked: list[UUID] = []
    real = sweeps.still_ready

    def still_ready(tx: Any, run_id: UUID, *given: Any) -> Any:
        asked.append(run_id)
        if run_id == bad and len(asked) < 9:
            raise ValueError("a bug of ours")
        return real(tx, run_id, *given)

    monkeypatch.setattr(sweeps, "still_ready", still_ready)
    walk = Walk()
    assert [sweep.queue_timeouts(lab.ledger, walk).changed for _ in range(3)] == [2, 0, 0]
    assert sorted(asked) == sorted([bad, *others])
    assert {lab.status(run_id) for run_id in others} == {RunStatus.FAILED}


def lost_behind_unreadable_runs(lab: Lab) -> tuple[UUID, UUID]:
    """Two runs whose workers are lost, the second too often, behind a page of those that nobody can end."""
    lab.flow({"a": call()}, name="newer")
    for _ in range(PAGE):
        lab.take(lab.start("newer"), "a")
    lab.execute("UPDATE flow_steps SET crashes = 9")
    lab.execute(NEWER)
    lab.ledger._plans.clear()
    lab.forward(1)
    healthy, poison = lab.run({"a": call()}), lab.start()
    lab.take(healthy, "a")
    lab.take(poison, "a")
    lab.execute("UPDATE flow_steps SET crashes = 9 WHERE run_id = %s", poison)
    lab.forward(LEASE * 2)
    return healthy, poison


def test_unreadable_runs_of_lost_workers_hold_up_nobody(unaudited_lab: Lab) -> None:
    """A step that was lost too often is ended with its manifest; the others are ready again whatever stands before."""
    lab = unaudited_lab
    healthy, poison = lost_behind_unreadable_runs(lab)
    walk = Walk(PAGE)
    found = [sweep.expired(lab.ledger, crash_limit=3, walk=walk) for _ in range(2)]
    assert [one.changed for one in found] == [1, 1]
    assert lab.statuses(healthy) == {"a": "ready"}
    assert lab.status(poison) is RunStatus.FAILED


def test_a_keeper_that_forgets_its_position_is_held_up(unaudited_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant of the test above: each page begins with the oldest rows, which nobody can do."""
    lab = unaudited_lab
    original = Walk.go

    def go(walk: Walk, *given: Any) -> Swept:
        try:
            return original(walk, *given)
        finally:
            walk.position = START

    monkeypatch.setattr(Walk, "go", go)
    _, poison = lost_behind_unreadable_runs(lab)
    walk = Walk(PAGE)
    for _ in range(3):
        sweep.expired(lab.ledger, crash_limit=3, walk=walk)
    assert lab.status(poison) is not RunStatus.FAILED


def test_a_bad_row_does_not_stop_its_page(unaudited_lab: Lab) -> None:
    """Each is a transaction of its own."""
    lab = unaudited_lab
    newer(lab, 1, queue_timeout="PT1S")
    healthy = [lab.run({"a": call(queue_timeout="PT1S")}) for _ in range(3)]
    lab.forward(2)
    swept = sweep.queue_timeouts(lab.ledger)
    assert (swept.changed, swept.unreadable) == (3, True)
    assert {lab.status(run_id) for run_id in healthy} == {RunStatus.FAILED}


def test_a_deadline_is_looked_at_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a pooler that mixes sessions up, a page once named runs without any deadline; they were ended."""
    run_id = lab.run({"a": call()})
    named = lab.rows("SELECT 'now' AS at, %s::uuid AS run_id, '' AS step_key, NULL AS manifest_hash", run_id)
    rows = [type("Named", (), row) for row in named]
    monkeypatch.setattr(sweeps, "past_deadline", lambda *_: rows)
    assert sweep.deadlines(lab.ledger, GRACE) == Swept()
    assert lab.status(run_id) is RunStatus.PENDING


def test_overruns_of_others_hold_up_nobody(lab: Lab) -> None:
    """A walk over what ran too long finds this worker's own, whoever else has how many."""
    lab.flow({"a": call(timeout="PT5S")})
    for _ in range(PAGE):
        lab.take(lab.start(), "a", owner="other/1/x/7", lease=LEASE * 9)
    lab.take(mine := lab.start(), "a", owner="h/1/r/7", lease=LEASE * 9)
    lab.forward(6)
    assert [one.run_id for one in sweep.overruns(lab.ledger, "h/1/r", Walk(PAGE))] == [mine]
    sweep.overruns(lab.ledger, "other/1/x")
