"""An attempt is written once, at its end; until then its live claim is all of it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.facts import Lease, StepError
from orchestrator.engine.runs import cancel_run
from orchestrator.engine.steps import finish_step, release
from orchestrator.engine.sweeps import sweep
from orchestrator.ledger import reads
from orchestrator.ledger.reads.rows import AttemptRow
from tests.support.factories import LEASE, Lab, after, call, loop, retry

SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "mid": ({"a": call(), "b": after("a")}, "a"),
    "sink": ({"a": call()}, "a"),
    "child": ({"each": loop([1, 2, 3])}, "each.0.do"),
    "general": ({"a": call(), "b": after("a"), "c": after("a")}, "a"),
}
ONCE = """
CREATE FUNCTION once() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''written twice''; END';
CREATE TRIGGER once BEFORE UPDATE OR DELETE ON flow_step_attempts FOR EACH ROW EXECUTE FUNCTION once();
"""
LOST = StepError("WorkerLost", "its transaction was rolled back")


def run_out(lab: Lab) -> None:
    lab.forward(LEASE + timedelta(seconds=1))
    sweep.expired(lab.ledger, crash_limit=3)


def cancel(lab: Lab, lease: Lease) -> None:
    cancel_run.cancel(lab.ledger, lease.run_id, by="test", reason="a test", grace=timedelta(seconds=30))
    release.release(lab.ledger, lease)


ENDINGS: dict[str, tuple[Callable[[Lab, Lease], Any], str]] = {
    "done": (lambda lab, lease: lab.done(lease, 1, inputs='{"n": 1}'), "succeeded"),
    "failed": (lambda lab, lease: lab.fail(lease), "failed"),
    "undone": (lambda lab, lease: release.undone(lab.ledger, lease, LOST, crash_limit=3), "crashed"),
    "the lease ran out": (lambda lab, lease: run_out(lab), "crashed"),
    "the worker died": (lambda lab, lease: release.end_owned(lab.ledger, lease.owner, crash_limit=3), "crashed"),
    "it died once too often": (lambda lab, lease: release.end_owned(lab.ledger, lease.owner, crash_limit=0), "crashed"),
    "the run was cancelled": (cancel, "cancelled"),
}


def written(lab: Lab) -> list[dict[str, Any]]:
    return lab.rows("SELECT * FROM flow_step_attempts ORDER BY attempt")


def only(lab: Lab, run_id: UUID, key: str) -> AttemptRow:
    (found,) = reads.steps.attempts(lab.ledger, run_id, key)
    return found


@pytest.fixture
def once(lab: Lab) -> Iterator[None]:
    """The ledger refuses to write an attempt twice."""
    lab.execute(ONCE)
    yield
    lab.execute("DROP FUNCTION once CASCADE")


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_attempt_is_written_when_it_ends(lab: Lab, shape: str, ending: str) -> None:
    """Whoever looks sees it all the time, and what was seen while it ran stays."""
    steps, key = SHAPES[shape]
    run_id = lab.run(steps)
    lab.forward(5)
    lease = lab.take(run_id, key)
    assert written(lab) == []
    running = only(lab, run_id, key)
    assert (running.status, running.owner, running.version, running.ended_at) == ("running", "w1", lease.fence, None)
    assert running.queue_wait is not None
    assert running.queue_wait >= timedelta(seconds=5)
    end, status = ENDINGS[ending]
    end(lab, lease)
    ended = only(lab, run_id, key)
    assert (ended.status, ended.owner, ended.version) == (status, "w1", lease.fence)
    assert (ended.started_at, ended.queue_wait) == (running.started_at, running.queue_wait)
    assert ended.ended_at is not None
    assert ended.ended_at >= ended.started_at
    assert len(written(lab)) == 1


def test_a_step_that_is_handed_on_waited_for_nobody(lab: Lab) -> None:
    run_id = lab.run({"a": call(), "b": after("a")})
    following = lab.done(lab.take(run_id, "a"), 1, chain=True).next
    assert following is not None
    assert only(lab, run_id, "b").queue_wait == timedelta()
    lab.done(following, 2)
    assert [row["queue_wait"] for row in written(lab) if row["step_key"] == "b"] == [timedelta()]


def test_each_of_the_steps_that_run_has_its_own(lab: Lab) -> None:
    run_id = lab.run({"a": call(), "b": call()})
    leases = [lab.take(run_id, "a", owner="w1"), lab.take(run_id, "b", owner="w2")]
    lab.forward(10)
    assert [only(lab, run_id, key).owner for key in ("a", "b")] == ["w1", "w2"]
    steps = [reads.steps.get(lab.ledger, run_id, key) for key in ("a", "b")]
    assert [step.since for step in steps] == [only(lab, run_id, key).started_at for key in ("a", "b")]
    assert all(step.worked is not None and step.worked < timedelta(seconds=15) for step in steps)
    assert [finish_step.settled(lab.ledger, lease) for lease in leases] == [None, None]


def test_what_is_given_back_unstarted_leaves_no_attempt(lab: Lab) -> None:
    run_id = lab.run({"a": call()})
    release.release(lab.ledger, lab.take(run_id, "a"))
    assert reads.steps.attempts(lab.ledger, run_id, "a") == []
    lab.do(run_id, "a")
    assert lab.attempts(run_id, "a") == [(1, "succeeded")]


def test_the_time_that_a_step_worked_counts_the_running_attempt(lab: Lab) -> None:
    run_id = lab.run({"a": call(retry=retry(3, 1.0))})
    first = lab.take(run_id, "a")
    lab.forward(10)
    lab.fail(first)
    lab.forward(60)
    sweep.due(lab.ledger)
    second = lab.take(run_id, "a")
    lab.forward(20)
    step = reads.steps.get(lab.ledger, run_id, "a")
    assert step.worked is not None
    assert timedelta(seconds=30) <= step.worked < timedelta(seconds=40)
    assert step.since == only_running(lab, run_id).started_at
    lab.done(second, 1)
    assert lab.attempts(run_id, "a") == [(1, "failed"), (2, "succeeded")]


def only_running(lab: Lab, run_id: UUID) -> AttemptRow:
    (found,) = [row for row in reads.steps.attempts(lab.ledger, run_id, "a") if row.status == "running"]
    return found


@pytest.mark.parametrize("ending", [name for name in ENDINGS if name not in {"done", "undone"}])
def test_a_worker_of_the_release_before_wrote_its_attempt_at_the_claim(lab: Lab, ending: str) -> None:
    """Whatever ends its claim here finds that row, and ends it."""
    run_id = lab.run({"a": call(), "b": after("a")})
    lease = lab.take(run_id, "a")
    lab.execute(
        "INSERT INTO flow_step_attempts (run_id, step_key, attempt, version, owner, queue_wait)"
        " SELECT run_id, step_key, attempt, version, owner, '0' FROM flow_step_claims"
    )
    assert lab.attempts(run_id, "a") == [(1, "running")], "shown once"
    end, status = ENDINGS[ending]
    end(lab, lease)
    assert lab.attempts(run_id, "a") == [(1, status)]


def test_a_keeper_of_the_release_before_ends_a_claim_without_an_attempt(lab: Lab) -> None:
    """It knows of no row to write: the attempt's number is counted, what became of it stands in the events alone."""
    run_id = lab.run({"a": call()})
    lab.take(run_id, "a")
    lab.execute("UPDATE flow_step_claims SET expires_at = NULL")
    lab.execute(
        "UPDATE flow_steps SET status = 'ready', queued = TRUE, dispatch_no = dispatch_no + 1, ready_at = flow_now(),"
        " crashes = crashes + 1"
    )
    lab.execute(
        "INSERT INTO flow_step_dispatches (run_id, step_key, dispatch_no, task, queue, priority)"
        " SELECT run_id, step_key, dispatch_no, task, queue, priority FROM flow_steps"
    )
    assert lab.attempts(run_id, "a") == []
    lab.do(run_id, "a")
    assert lab.attempts(run_id, "a") == [(2, "succeeded")]
