"""Operations on many runs: each run once, whoever else acts, whatever dies."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from uuid_utils.compat import uuid7

from orchestrator.core.operations import (
    OPERATION_MOVES,
    Action,
    OperationEvent,
    OperationState,
    Outcome,
    operation_sources,
    operation_target,
)
from orchestrator.core.runfilter import ALL, RunFilter
from orchestrator.core.states import RunStatus
from orchestrator.engine import faults
from orchestrator.engine.operations import operate, work
from orchestrator.engine.runs import cancel_run
from orchestrator.engine.sweeps import retention
from orchestrator.errors import (
    Conflict,
    FlowNotFound,
    IdempotencyConflict,
    ManifestUnreadable,
    OperationNotFound,
    UsageError,
)
from orchestrator.ledger import operations as ledger_operations
from orchestrator.ledger import reads
from orchestrator.ledger.operations import Job, OperationRow, OutcomeRow, Which
from tests.support.eventually import eventually
from tests.support.factories import Lab, after, call

GRACE = timedelta(seconds=10)
DEMO = Which(RunFilter.of(flow="demo"))
CANCEL, RETRY, DELETE = Action


def job(action: Action, by: str = "ann", **options: bool) -> Job:
    return Job(uuid7(), action, "a bad deploy", by, options)


def create(lab: Lab, action: Action, which: Which = DEMO, **fields: Any) -> UUID:
    return operate.create(lab.ledger, job(action, **fields), which).id


def finish(lab: Lab, *operations: UUID) -> list[OperationRow]:
    """Keepers work until nothing is left."""
    for _ in range(1000):
        work.page(lab.ledger, GRACE)
        rows = [operate.get(lab.ledger, one) for one in operations]
        if all(row.is_over for row in rows):
            return rows
        lab.forward(1)
    raise AssertionError(f"they do not end: {rows}")


def outcomes(lab: Lab, operation: UUID) -> dict[UUID, OutcomeRow]:
    return {row.run_id: row for row in operate.outcomes(lab.ledger, operation, None, 10_000)}


def events(lab: Lab, run_ids: Sequence[UUID], type: str) -> Counter[UUID]:
    """How often each of these runs has such an event."""
    rows = lab.rows("SELECT run_id FROM flow_events WHERE type = %s AND run_id = ANY (%s)", type, list(run_ids))
    return Counter(row["run_id"] for row in rows)


def several(lab: Lab, count: int) -> list[UUID]:
    lab.flow({"a": call(), "b": after("a")})
    return [lab.start() for _ in range(count)]


def failed(lab: Lab, count: int) -> list[UUID]:
    made = several(lab, count)
    for run_id in made:
        lab.do_fail(run_id, "a")
    return made


# ---- what it does ----


def test_cancel_stops_the_runs_that_match(lab: Lab) -> None:
    made = several(lab, 5)
    lab.flow({"a": call()}, name="other")
    other = lab.start("other")
    lease = lab.take(made[0], "a")
    operation = create(lab, CANCEL)
    assert operate.get(lab.ledger, operation).total == 5
    (row,) = finish(lab, operation)
    assert (row.state, row.counts, row.left_out) == (OperationState.COMPLETED, {"done": 5}, {})
    assert [lab.status(run_id) for run_id in made[1:]] == [RunStatus.CANCELLED] * 4
    assert lab.status(made[0]) is RunStatus.RUNNING
    lab.done(lease)
    assert lab.status(made[0]) is RunStatus.CANCELLED
    assert lab.status(other) is RunStatus.PENDING
    assert reads.runs.get(lab.ledger, made[1]).error == {"type": "cancelled", "message": "a bad deploy", "by": "ann"}
    lab.do(other, "a")


def test_retry_runs_what_failed_again_and_gives_its_messages(lab: Lab) -> None:
    made = failed(lab, 3)
    operation = create(lab, RETRY)
    swept = work.page(lab.ledger, GRACE)
    assert sorted(dispatch.run_id for dispatch in swept.dispatches) == sorted(made)
    (row,) = finish(lab, operation)
    assert row.counts == {"done": 3}
    assert events(lab, made, "run.retried") == dict.fromkeys(made, 1)
    for run_id in made:
        lab.do(run_id, "a", "b")
        assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_delete_leaves_nothing_of_a_run_but_who_and_why(lab: Lab) -> None:
    made = several(lab, 3)
    for run_id in made[:2]:
        lab.do(run_id, "a", "b")
    operation = create(lab, DELETE)
    (row,) = finish(lab, operation)
    assert (row.counts, row.left_out) == ({"done": 2}, {"open": 1})
    assert [found["id"] for found in lab.rows("SELECT id FROM flow_runs")] == [made[2]]
    told = reads.events.of_flow(lab.ledger, "demo")
    facts = [event.facts for event in told if event.type == "run.deleted"]
    assert facts == [{"run": str(run_id), "by": "ann", "reason": "a bad deploy"} for run_id in made[:2]]


def test_a_refund_is_not_taken_back_without_force(lab: Lab) -> None:
    lab.flow({"ship": call(), "refund": call(run_after={"ship": ["failed"]}), "end": after("refund")})
    run_id = lab.start()
    lab.do_fail(run_id, "ship")
    lab.do(run_id, "refund")
    lab.do_fail(run_id, "end")
    which = Which(ids=(run_id,))
    refused = create(lab, RETRY, which)
    (row,) = finish(lab, refused)
    assert row.counts == {"left_out": 1}
    assert "refund" in (outcomes(lab, refused)[run_id].detail or "")
    (row,) = finish(lab, create(lab, RETRY, which, force=True))
    assert row.counts == {"done": 1}
    lab.drain(run_id)


# ---- which runs ----


def test_a_dry_run_says_what_would_be_done_and_why_not(lab: Lab) -> None:
    open_, stopping, done, bad, cancelled, moving = several(lab, 6)
    lease = lab.take(stopping, "a")
    for run_id in (stopping, cancelled):
        cancel_run.cancel(lab.ledger, run_id, by="bob", reason="x", grace=GRACE)
    lab.do(done, "a", "b")
    lab.do_fail(bad, "a")
    moves = lab.take(moving, "a")
    before = lab.snapshot()
    found = {action: operate.foresee(lab.ledger, action, DEMO) for action in Action}
    assert lab.snapshot() == before
    assert {action: (one.affected, one.left_out) for action, one in found.items()} == {
        CANCEL: (2, {"stopping": 1, "ended": 3}),
        RETRY: (2, {"stopping": 1, "succeeded": 1, "nothing_failed": 2}),
        DELETE: (3, {"open": 3}),
    }
    gone = uuid4()
    named = operate.foresee(lab.ledger, RETRY, Which(ids=(bad, done, gone)))
    assert (named.affected, named.left_out) == (1, {"succeeded": 1, "unknown": 1})
    lab.done(lease)
    lab.done(moves)
    assert lab.status(open_) is RunStatus.PENDING


def test_its_token_says_whether_the_number_moved(lab: Lab) -> None:
    several(lab, 2)
    token = operate.foresee(lab.ledger, CANCEL, DEMO).token
    assert not operate.create(lab.ledger, job(CANCEL), DEMO, token=token).moved
    lab.start()
    row = operate.create(lab.ledger, job(CANCEL), DEMO, token=token)
    assert (row.foreseen, row.total, row.moved) == (2, 3, True)
    for action, which in ((DELETE, DEMO), (CANCEL, Which(RunFilter.of(flow="demo", tag="x")))):
        with pytest.raises(UsageError, match="token"):
            operate.create(lab.ledger, job(action), which, token=token)
    with pytest.raises(UsageError, match="token"):
        operate.create(lab.ledger, job(CANCEL), DEMO, token="nonsense!")


def test_what_fails_after_it_was_made_is_not_retried(lab: Lab) -> None:
    """What was confirmed is what is done: else a run that fails each time would be retried for ever."""
    (bad,) = failed(lab, 1)
    operation = create(lab, RETRY)
    later = lab.start()
    lab.do_fail(later, "a")
    (row,) = finish(lab, operation)
    assert (row.total, row.counts) == (1, {"done": 1})
    lab.do_fail(bad, "a")
    assert work.page(lab.ledger, GRACE).changed == 0
    assert lab.status(later) is lab.status(bad) is RunStatus.FAILED


def test_named_runs_have_an_outcome_each(lab: Lab) -> None:
    """One that is named twice is done once; one that is not there, or has ended, says so."""
    first, done = several(lab, 2)
    lab.do(done, "a", "b")
    gone = uuid4()
    operation = create(lab, CANCEL, Which(ids=(first, done, first, gone)))
    (row,) = finish(lab, operation)
    assert (row.total, row.counts, row.wanted) == (3, {"done": 1, "left_out": 2}, {"ids": 4})
    found = outcomes(lab, operation)
    assert found[first].outcome is Outcome.DONE
    assert "has ended (succeeded)" in (found[done].detail or "")
    assert f"No run {gone}" in (found[gone].detail or "")


def test_an_operation_on_nothing_is_complete(lab: Lab) -> None:
    several(lab, 1)
    operation = create(lab, RETRY)
    (row,) = finish(lab, operation)
    assert (row.state, row.total, row.counts, row.left_out) == ("completed", 0, {}, {"nothing_failed": 1})


@pytest.mark.parametrize("which", [Which(ALL), Which(), Which(ids=tuple(uuid4() for _ in range(10_001)))])
def test_all_runs_none_or_too_many_are_refused(lab: Lab, which: Which) -> None:
    with pytest.raises(UsageError, match="Fix: "):
        operate.foresee(lab.ledger, DELETE, which)
    with pytest.raises(UsageError, match="Fix: "):
        operate.create(lab.ledger, job(DELETE), which)
    assert operate.page(lab.ledger, None, 10) == []


def test_more_runs_than_an_operation_takes_are_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    several(lab, 3)
    monkeypatch.setattr(operate, "MOST_RUNS", 2)
    for ask in (
        lambda: operate.foresee(lab.ledger, CANCEL, DEMO),
        lambda: operate.create(lab.ledger, job(CANCEL), DEMO),
    ):
        with pytest.raises(UsageError, match="More than 2 runs"):
            ask()
    assert operate.page(lab.ledger, None, 10) == []


def test_a_flow_that_is_not_there_is_told(lab: Lab) -> None:
    several(lab, 1)
    for ask in (operate.foresee, lambda ledger, action, which: operate.create(ledger, job(action), which)):
        with pytest.raises(FlowNotFound, match="did you mean `demo`"):
            ask(lab.ledger, CANCEL, Which(RunFilter.of(flow="demi")))


def test_it_has_a_reason(lab: Lab) -> None:
    several(lab, 1)
    with pytest.raises(UsageError, match="reason"):
        operate.create(lab.ledger, Job(uuid7(), CANCEL, " ", "ann", {}), DEMO)


def test_the_same_id_again_is_the_same_operation(lab: Lab) -> None:
    """Whoever lost the answer may ask again."""
    several(lab, 2)
    once = job(CANCEL)
    first = operate.create(lab.ledger, once, DEMO)
    lab.start()
    assert operate.create(lab.ledger, once, DEMO) == first


def test_a_key_gives_the_same_operation_for_a_day(lab: Lab) -> None:
    several(lab, 2)

    def ask(reason: str = "x", which: Which = DEMO) -> UUID:
        return operate.create(lab.ledger, Job(uuid7(), CANCEL, reason, "ann", {}, "k"), which).id

    found = set(lab.race(*(ask,) * 4))
    assert len(found) == 1
    for other in (lambda: ask("y"), lambda: ask(which=Which(RunFilter.of(tag="t")))):
        with pytest.raises(IdempotencyConflict):
            other()
    lab.forward(timedelta(days=1))
    assert ask("y") not in found
    finish(lab, *found)


# ---- pause, resume, cancel ----


def test_a_paused_operation_does_nothing_until_it_is_resumed(lab: Lab) -> None:
    made = several(lab, 4)
    operation = create(lab, CANCEL)
    assert work.page(lab.ledger, GRACE, runs=2).changed == 2
    row = operate.pause(lab.ledger, operation, by="bob")
    assert (row.state, row.changed_by, row.pending) == ("paused", "bob", 2)
    assert operate.pause(lab.ledger, operation, by="eve").changed_by == "bob"
    assert work.page(lab.ledger, GRACE).changed == 0
    assert sum(lab.status(run_id) is RunStatus.PENDING for run_id in made) == 2
    operate.resume(lab.ledger, operation, by="bob")
    (row,) = finish(lab, operation)
    assert row.counts == {"done": 4}
    for act in (operate.pause, operate.resume, operate.cancel):
        with pytest.raises(Conflict, match="completed"):
            act(lab.ledger, operation, by="bob")


def test_a_cancelled_operation_leaves_the_rest_alone(lab: Lab) -> None:
    made = several(lab, 4)
    operation = create(lab, CANCEL)
    work.page(lab.ledger, GRACE, runs=1)
    row = operate.cancel(lab.ledger, operation, by="bob")
    assert (row.state, row.counts, row.is_over) == ("cancelled", {"done": 1, "pending": 3}, True)
    assert work.page(lab.ledger, GRACE).changed == 0
    assert sum(lab.status(run_id) is RunStatus.PENDING for run_id in made) == 3


def test_whoever_pauses_waits_for_the_act_under_way(lab: Lab) -> None:
    """Nothing is begun after the pause was answered: not even by a keeper that had read the row before."""
    first, second = several(lab, 2)
    operation = create(lab, CANCEL)
    with lab.holding("SELECT 1 FROM flow_runs WHERE id = %s FOR UPDATE", first):
        keeper = lab.later(lambda: work.page(lab.ledger, GRACE))
        eventually(lambda: lab.waiting_sessions() == 1)
        pausing = lab.later(lambda: operate.pause(lab.ledger, operation, by="bob"))
        eventually(lambda: lab.waiting_sessions() == 2)
    assert keeper.result().changed == 1
    assert pausing.result().counts == {"done": 1, "pending": 1}
    assert lab.status(first) is RunStatus.CANCELLED
    assert lab.status(second) is RunStatus.PENDING


def test_moves_are_those_of_the_table(lab: Lab) -> None:
    assert {operation_target(event) for event in OperationEvent} == {"paused", "running", "cancelled", "completed"}
    assert operation_sources(OperationEvent.CANCEL) == ["paused", "running"]
    assert {source for source, _ in OPERATION_MOVES} == {"paused", "running"}
    several(lab, 1)
    operation = create(lab, CANCEL)
    with lab.ledger.tx() as tx:
        assert not ledger_operations.move(tx, operation, OperationState.PAUSED, OperationEvent.COMPLETE, None)


# ---- several people, several keepers, and what goes wrong ----


@pytest.mark.parametrize("action", [CANCEL, RETRY])
def test_two_people_at_once_do_each_run_once(lab: Lab, action: Action) -> None:
    made = several(lab, 20) if action is CANCEL else failed(lab, 20)
    both = [create(lab, action, by=who) for who in ("ann", "bob")]
    lab.race(*(lambda: work.page(lab.ledger, GRACE),) * 3)
    rows = finish(lab, *both)
    assert sum(row.counts.get("done", 0) for row in rows) == 20
    assert sum(row.counts.get("left_out", 0) for row in rows) == 20
    event = "run.cancel_requested" if action is CANCEL else "run.retried"
    assert events(lab, made, event) == dict.fromkeys(made, 1)
    details = {row.detail for one in both for row in outcomes(lab, one).values() if row.detail}
    assert all("stopped already" in one or "none of its steps failed" in one for one in details)


def test_keepers_at_once_share_the_runs(lab: Lab) -> None:
    made = failed(lab, 30)
    operation = create(lab, RETRY)
    lab.race(*(lambda: work.page(lab.ledger, GRACE),) * 4)
    (row,) = finish(lab, operation)
    assert row.counts == {"done": 30}
    assert events(lab, made, "run.retried") == dict.fromkeys(made, 1)


def test_a_short_operation_does_not_wait_for_a_long_one(lab: Lab) -> None:
    made = several(lab, 30)
    long = create(lab, CANCEL)
    short = create(lab, CANCEL, Which(ids=tuple(made[-2:])))
    work.page(lab.ledger, GRACE, runs=4)
    rows = [operate.get(lab.ledger, one) for one in (long, short)]
    assert [row.counts.get("done") for row in rows] == [2, 2]
    assert [row.is_over for row in rows] == [False, True]
    finish(lab, long)


def test_one_bad_run_stops_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again, later each time; then it counts as failed, with the error."""
    made = failed(lab, 4)
    real, tried = work.retry_step.retry_in, Counter[UUID]()

    def broken(ledger: Any, tx: Any, run_id: UUID, *rest: Any) -> Any:
        tried[run_id] += 1
        if run_id == made[1]:
            raise ManifestUnreadable("of a newer release")
        if run_id == made[2] and tried[run_id] < 3:
            raise ZeroDivisionError("once or twice")
        return real(ledger, tx, run_id, *rest)

    monkeypatch.setattr(work.retry_step, "retry_in", broken)
    operation = create(lab, RETRY)
    swept = work.page(lab.ledger, GRACE)
    assert (swept.changed, swept.unreadable) == (2, True)
    assert work.page(lab.ledger, GRACE).changed == 0, "bad ones rest"
    (row,) = finish(lab, operation)
    assert row.counts == {"done": 3, "failed": 1}
    found = outcomes(lab, operation)
    assert (found[made[1]].tries, tried[made[1]]) == (work.TRIES, work.TRIES)
    assert found[made[1]].detail == "ManifestUnreadable: of a newer release [manifest_unreadable]"
    assert (found[made[2]].outcome, found[made[2]].tries) == (Outcome.DONE, 2)
    for run_id in (made[0], made[2], made[3]):
        lab.do(run_id, "a", "b")


class Died(BaseException):
    """As if the process were killed there."""


@pytest.mark.parametrize("point", ["operation.selected", "operation.acted", "operation.committed"])
def test_a_keeper_that_dies_skips_nothing_and_doubles_nothing(lab: Lab, point: str) -> None:
    made = failed(lab, 3)
    operation = create(lab, RETRY)
    passed = Counter[str]()

    def die() -> None:
        passed[point] += 1
        if passed[point] == 2 or point == "operation.selected":
            faults.disarm()
            raise Died

    faults.arm(point, die)
    with pytest.raises(Died):
        work.page(lab.ledger, GRACE)
    (row,) = finish(lab, operation)
    assert row.counts == {"done": 3}
    assert events(lab, made, "run.retried") == dict.fromkeys(made, 1)


# ---- reading ----


def test_operations_are_listed_newest_first_and_found_by_a_part_of_their_id(lab: Lab) -> None:
    several(lab, 1)
    made = [create(lab, CANCEL) for _ in range(3)]
    assert [row.id for row in operate.page(lab.ledger, None, 2)] == made[:0:-1]
    assert [row.id for row in operate.page(lab.ledger, made[1], 2)] == made[:1]
    operate.cancel(lab.ledger, made[1], by="bob")
    assert [row.id for row in operate.page(lab.ledger, None, 5, only_open=True)] == [made[2], made[0]]
    assert operate.find(lab.ledger, str(made[1])) == made[1]
    assert operate.find(lab.ledger, str(made[1])[-12:]) == made[1]
    with pytest.raises(Conflict, match="matches several"):
        operate.find(lab.ledger, str(made[1])[:6])
    for name in (str(uuid4()), "xyz", "12"):
        with pytest.raises(OperationNotFound):
            operate.find(lab.ledger, name)
    for ask in (operate.get, lambda ledger, id: operate.outcomes(ledger, id, None, 5)):
        with pytest.raises(OperationNotFound):
            ask(lab.ledger, uuid4())
    finish(lab, made[0], made[2])


def test_outcomes_come_in_pages_and_by_kind(lab: Lab) -> None:
    made = several(lab, 5)
    operation = create(lab, CANCEL)
    work.page(lab.ledger, GRACE, runs=3)
    first = operate.outcomes(lab.ledger, operation, None, 2)
    assert [row.run_id for row in first] == made[:2]
    assert [row.run_id for row in operate.outcomes(lab.ledger, operation, first[-1].run_id, 10)] == made[2:]
    assert len(operate.outcomes(lab.ledger, operation, None, 10, Outcome.PENDING)) == 2
    finish(lab, operation)


def test_operations_that_ended_long_ago_are_forgotten(lab: Lab) -> None:
    several(lab, 2)
    old, open_ = create(lab, CANCEL), create(lab, CANCEL)
    operate.pause(lab.ledger, open_, by="bob")
    finish(lab, old)
    lab.forward(timedelta(days=31))
    assert retention.ended_operations(lab.ledger, timedelta(days=30)) == 1
    assert [row.id for row in operate.page(lab.ledger, None, 5)] == [open_]
    assert lab.rows("SELECT DISTINCT operation_id FROM flow_operation_runs") == [{"operation_id": open_}]
