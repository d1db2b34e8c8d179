"""Runs that are wide or long can be stopped and retried: with more time than a statement has, in linear time."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import cancel_run
from orchestrator.engine.steps import retry_step
from orchestrator.engine.sweeps import sweep
from orchestrator.ledger.tx import Ledger
from tests.support.factories import LEASE, Lab, after, call, loop

SLOW = timedelta(seconds=0.8)
"""How long each UPDATE of steps takes here, as if it had a million of them: longer than a statement may."""
LIMIT = timedelta(seconds=0.6)
WIDE = 600
"""More than a loop's window lets in at once, twice."""


@pytest.fixture
def product(lab: Lab) -> Iterator[Ledger]:
    """What a client or a keeper has, with a limit that is soon over."""
    ledger = lab.another(statement_timeout=LIMIT, name="product")
    yield ledger
    ledger.close()


@contextmanager
def slow_updates(lab: Lab) -> Iterator[None]:
    lab.execute(
        "CREATE FUNCTION test_slow() RETURNS trigger LANGUAGE plpgsql AS"
        f" 'BEGIN PERFORM pg_sleep({SLOW.total_seconds()}); RETURN NULL; END';"
        " CREATE TRIGGER test_slow AFTER UPDATE ON flow_steps FOR EACH STATEMENT EXECUTE FUNCTION test_slow()"
    )
    try:
        yield
    finally:
        lab.execute("DROP FUNCTION test_slow CASCADE")


def test_a_wide_run_is_cancelled_and_retried(lab: Lab, product: Ledger) -> None:
    """What was opened can be closed: an operator has no other way to stop it."""
    run_id = lab.run({"each": loop(list(range(WIDE))), "b": after("each")})
    lab.do(run_id, "each.0.do", "each.1.do")
    with slow_updates(lab):
        assert cancel_run.cancel(product, run_id, by="me", reason="r", grace=LEASE) is RunStatus.CANCELLED
        dispatches = retry_step.retry(product, run_id, None, by="me")
    assert len(dispatches) == 256
    assert len(lab.drain(run_id, chain=True)) == WIDE - 2 + 1
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_wide_run_is_stopped_at_its_deadline(lab: Lab, product: Ledger) -> None:
    """By whichever keeper finds it, at once."""
    run_id = lab.run({"each": loop(list(range(WIDE)))}, deadline="PT1H")
    lab.forward(7200)
    with slow_updates(lab):
        sweep.deadlines(product, LEASE)
    assert lab.status(run_id) is RunStatus.TIMED_OUT


def test_waiting_for_the_run_has_no_more_time_than_before(lab: Lab, product: Ledger) -> None:
    """Only what grows with the run may take long."""
    run_id = lab.run({"a": call()})
    with lab.holding("SELECT 1 FROM flow_runs WHERE id = %s FOR UPDATE", run_id), pytest.raises(OperationalError):
        cancel_run.cancel(product, run_id, by="me", reason="r", grace=LEASE)
    lab.drain(run_id)


@pytest.mark.parametrize("succeeded", [0, 40])
def test_many_failed_children_go_through_the_window_again(lab: Lab, succeeded: int) -> None:
    """As when the loop was opened: not all of them at once; and each lets in the next without looking for it."""
    run_id = lab.run({"each": loop(list(range(WIDE)))})
    lab.do(run_id, *[f"each.{n}.do" for n in range(succeeded)])
    cancel_run.cancel(lab.ledger, run_id, by="me", reason="r", grace=LEASE)
    assert len(retry_step.retry(lab.ledger, run_id, "each", by="me")) == 256
    assert lab.step(run_id, "each")["children_next"] == succeeded + 256
    assert len(lab.drain(run_id, chain=True)) == WIDE - succeeded


def test_scattered_failed_children_go_through_the_window_again(lab: Lab) -> None:
    """Where those that succeeded stand in between, the next one is looked up."""
    run_id = lab.run({"each": loop(list(range(WIDE)))})
    cancel_run.cancel(lab.ledger, run_id, by="me", reason="r", grace=LEASE)
    fourth = "FROM flow_steps WHERE loop_index % 4 = 0"  # as if every fourth had succeeded before
    lab.execute(f"INSERT INTO flow_outputs (run_id, step_key, output) SELECT run_id, step_key, '1' {fourth}")
    lab.execute(f"UPDATE flow_steps SET status = 'succeeded', reason = NULL {fourth.removeprefix('FROM flow_steps ')}")
    lab.execute("DELETE FROM test_moves")
    assert len(retry_step.retry(lab.ledger, run_id, None, by="me")) == 256
    assert lab.step(run_id, "each")["children_next"] < 0
    assert len(lab.drain(run_id, chain=True)) == WIDE * 3 // 4
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.slow
def test_a_chain_of_six_thousand_steps_is_retried(lab: Lab) -> None:
    """With the limits of a client: what is computed while the run is locked may not outlast an idle transaction's."""
    client = lab.another(statement_timeout=timedelta(seconds=5), name="client")
    run_id = lab.run({"s0": call(), **{f"s{n}": after(f"s{n - 1}") for n in range(1, 6000)}})
    cancel_run.cancel(client, run_id, by="me", reason="r", grace=LEASE)
    (dispatch,) = retry_step.retry(client, run_id, None, by="me")
    assert dispatch.step_key == "s0"
    assert lab.do(run_id, "s0").dispatches[0].step_key == "s1"
    client.close()


@pytest.mark.slow
def test_a_hundred_thousand_children_are_cancelled_and_retried(unaudited_lab: Lab) -> None:
    """With a client's limits. A retry gives each its place again; nothing is left of the first try."""
    lab, wide = unaudited_lab, 100_000
    client = lab.another(statement_timeout=timedelta(seconds=5), name="client")
    run_id = lab.run({"each": loop("@triggerBody().items"), "b": after("each")}, {"items": [1] * wide})
    lab.do(run_id, "each.0.do")
    assert cancel_run.cancel(client, run_id, by="me", reason="r", grace=LEASE) is RunStatus.CANCELLED
    counts = "SELECT status, count(*) AS n FROM flow_steps WHERE run_id = %s AND loop_key = 'each' GROUP BY status"
    (succeeded, cancelled) = sorted(lab.rows(counts, run_id), key=lambda row: row["n"])
    assert succeeded == {"status": "succeeded", "n": 1}
    assert cancelled == {"status": "cancelled", "n": wide - 1}
    assert len(retry_step.retry(client, run_id, None, by="me")) == 256
    assert lab.status(run_id) is RunStatus.RUNNING
    found = {row["status"]: row["n"] for row in lab.rows(counts, run_id)}
    assert found == {"succeeded": 1, "ready": 256, "blocked": wide - 257}
    assert lab.step(run_id, "each")["children_open"] == wide - 1
    assert lab.do(run_id, "each.1.do").dispatches[0].step_key == "each.257.do"
    client.close()
