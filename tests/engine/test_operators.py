"""Cancel, switches, explanations."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event

from orchestrator.core.facts import LeaseBeat, StartRequest, StepError
from orchestrator.core.states import RunStatus
from orchestrator.engine.flows import register, switch
from orchestrator.engine.runs import cancel_run, explain, start_run
from orchestrator.engine.steps import renew, retry_step
from orchestrator.engine.sweeps import sweep
from orchestrator.errors import Conflict, FlowDisabled, FlowNotFound, LeaseLost, RunNotFound, StepNotFound
from orchestrator.ledger import reads
from tests.support.factories import LEASE, Lab, after, call, loop, retry

GRACE = timedelta(seconds=10)


def cancel(lab: Lab, run_id: UUID) -> RunStatus:
    return cancel_run.cancel(lab.ledger, run_id, by="ann", reason="enough", grace=GRACE)


# ---- cancel ----


def test_cancel_of_a_run_that_no_handler_works_for(lab: Lab) -> None:
    """It ends at once: ready, waiting and blocked steps and open loops are cancelled."""
    run_id = lab.run({"a": call(), "b": after("a"), "c": call(retry=retry(2)), "each": loop([1, 2], concurrency=1)})
    lab.fail(lab.take(run_id, "c"))
    assert cancel(lab, run_id) is RunStatus.CANCELLED
    assert set(lab.statuses(run_id).values()) == {"cancelled"}
    assert cancel(lab, run_id) is RunStatus.CANCELLED
    row = reads.runs.get(lab.ledger, run_id)
    assert row.cancel_reason == "enough"
    assert row.error == {"type": "cancelled", "message": "enough", "by": "ann"}
    lab.forward(10)
    assert sweep.due(lab.ledger).changed == 0
    assert [event for event in lab.events(run_id) if event.startswith("run.")] == [
        "run.accepted",
        "run.started",
        "run.cancel_requested",
        "run.cancelled",
    ]


def test_a_running_handler_may_finish_within_the_grace(lab: Lab) -> None:
    """It learns at its next renewal; what it reports is recorded; then the run is CANCELLED."""
    run_id = lab.run({"a": call(), "b": after("a"), "c": call()})
    a, c = lab.take(run_id, "a"), lab.take(run_id, "c")
    assert cancel(lab, run_id) is RunStatus.RUNNING
    assert cancel(lab, run_id) is RunStatus.RUNNING
    (renewal,) = renew.renew(lab.ledger, [LeaseBeat(run_id, "a", a.fence)], LEASE)
    assert (renewal.alive, renewal.cancel) == (True, True)
    assert lab.done(a, "kept", chain=True).run_status is None
    assert reads.steps.output(lab.ledger, run_id, "a") == "kept"
    assert lab.fail(c).run_status is RunStatus.CANCELLED
    assert lab.statuses(run_id) == {"a": "succeeded", "b": "cancelled", "c": "cancelled"}
    assert reads.runs.get(lab.ledger, run_id).error == {"type": "cancelled", "message": "enough", "by": "ann"}


def test_a_handler_that_goes_on_is_ended_after_the_grace(lab: Lab) -> None:
    """In the ledger first; the caller stops the handler."""
    run_id = lab.run({"a": call()})
    lease = lab.take(run_id, "a", owner="h/1/r/5")
    cancel(lab, run_id)
    lab.forward(5)
    assert sweep.overruns(lab.ledger, "h/1/r") == []
    lab.forward(6)
    (overrun,) = sweep.overruns(lab.ledger, "h/1/r")
    assert (overrun.step_key, overrun.why, overrun.fence) == ("a", "cancel", lease.fence)
    assert lab.status(run_id) is RunStatus.CANCELLED
    with pytest.raises(LeaseLost):
        lab.done(lease)
    assert sweep.overruns(lab.ledger, "h/1/r") == []


def test_the_dead_worker_of_a_cancelled_run(lab: Lab) -> None:
    """Its lease runs out, and nothing is queued again."""
    run_id = lab.run({"a": call()})
    lab.take(run_id, "a")
    cancel(lab, run_id)
    lab.forward(LEASE * 2)
    assert sweep.expired(lab.ledger, crash_limit=3).dispatches == ()
    assert lab.status(run_id) is RunStatus.CANCELLED


@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_an_ended_run_cannot_be_cancelled(lab: Lab, end: str) -> None:
    """Terminal is final."""
    run_id = lab.run({"a": call()})
    lab.do(run_id, "a") if end == "succeeded" else lab.do_fail(run_id, "a")
    before = lab.snapshot()
    with pytest.raises(Conflict, match=rf"has ended \({end}\)"):
        cancel(lab, run_id)
    assert lab.snapshot() == before


def test_of_cancel_and_deadline_the_first_decides(lab: Lab) -> None:
    """A run that its deadline is stopping ends TIMED_OUT, whoever cancels it meanwhile; and the other way round."""
    lab.flow({"a": call()}, deadline="PT60S")
    timed_out, cancelled = lab.start(), lab.start()
    held = [lab.take(run_id, "a", lease=timedelta(hours=1)) for run_id in (timed_out, cancelled)]
    cancel(lab, cancelled)
    lab.forward(61)
    sweep.deadlines(lab.ledger, GRACE)
    cancel(lab, timed_out)
    assert [lab.done(lease).run_status for lease in held] == [RunStatus.TIMED_OUT, RunStatus.CANCELLED]
    assert sweep.deadlines(lab.ledger, GRACE).changed == 0


def test_unknown_runs(lab: Lab) -> None:
    """Every command says the same."""
    for use in (
        lambda: cancel(lab, uuid4()),
        lambda: retry_step.retry(lab.ledger, uuid4(), None, by="ann"),
        lambda: explain.explain(lab.ledger, uuid4()),
    ):
        with pytest.raises(RunNotFound, match="No run"):
            use()


# ---- versions and switches ----


def test_a_run_is_pinned_to_the_manifest_it_started_with(lab: Lab) -> None:
    """A deploy changes what starts next, never what is in flight."""
    old = lab.run({"a": call(), "b": after("a")}, output="@steps('b').output")
    manifest = lab.flow({"a": call("other"), "c": after("a")}, version="2", output={"new": "@steps('c').output"})
    new = lab.start()
    assert lab.drain(old, chain=True) == ["a", "b"]
    assert lab.drain(new, chain=True) == ["a", "c"]
    assert reads.runs.result(lab.ledger, old) == "b"
    assert reads.runs.result(lab.ledger, new) == {"new": "c"}
    assert (reads.runs.get(lab.ledger, old).version, reads.runs.get(lab.ledger, new).version) == ("1", "2")
    assert lab.step(new, "a")["task"] == "demo.other"
    register.register(lab.ledger, manifest)
    (row,) = reads.flows.every(lab.ledger)
    assert (row.version, row.manifest_hash, row.open_runs) == ("2", manifest.hash, 0)
    assert len(lab.rows("SELECT 1 FROM flow_definition_versions")) == 2


def test_a_disabled_flow_refuses_starts_and_finishes_what_runs(lab: Lab) -> None:
    """The refusal is recorded; runs in flight go on."""
    run_id = lab.run({"a": call()})
    switch.disable(lab.ledger, "demo", "ann", "maintenance")
    with pytest.raises(FlowDisabled, match=r"disabled \(maintenance\), by ann"):
        lab.start()
    (event,) = lab.rows("SELECT facts FROM flow_events WHERE type = 'trigger.rejected_disabled'")
    assert event["facts"] == {"flow": "demo", "code": 1010, "count": 1}
    assert lab.do(run_id, "a").run_status is RunStatus.SUCCEEDED
    switch.enable(lab.ledger, "demo", "ann")
    lab.do(lab.start(), "a")
    with pytest.raises(FlowNotFound, match="did you mean `demo`"):
        switch.disable(lab.ledger, "demmo", "ann")
    kinds = [row["type"] for row in lab.rows("SELECT type FROM flow_events WHERE type LIKE 'flow.%%' ORDER BY id")]
    assert kinds == ["flow.disabled", "flow.enabled"]


def test_what_a_disabled_flow_refused_can_be_listed_and_does_not_grow(lab: Lab) -> None:
    """A trigger that knocks all night is an event an hour."""
    lab.flow({"a": call()})
    switch.disable(lab.ledger, "demo", "ann", "maintenance")
    for hour in range(2):
        for _ in range(30):
            with pytest.raises(FlowDisabled):
                lab.start()
        lab.forward(timedelta(minutes=61) * (hour == 0))
    switch.enable(lab.ledger, "demo", "bob")
    found = reads.events.of_flow(lab.ledger, "demo")
    assert [event.type for event in found] == [
        "flow.disabled",
        "trigger.rejected_disabled",
        "trigger.rejected_disabled",
        "flow.enabled",
    ]
    assert [event.facts["count"] for event in found[1:3] if isinstance(event.facts, dict)] == [30, 30]
    assert reads.events.of_flow(lab.ledger, "demo", after=found[2].id) == found[3:]
    with pytest.raises(FlowNotFound, match="did you mean `demo`"):
        reads.events.of_flow(lab.ledger, "demmo")


def test_a_process_that_has_cached_the_flow_notices_the_switch(lab: Lab) -> None:
    """The start statement looks at the switch itself."""
    lab.flow({"a": call()})
    lab.do(lab.start(), "a")
    assert "demo" in lab.ledger.current
    switch.disable(lab.ledger, "demo", "ann")
    with pytest.raises(FlowDisabled):
        start_run.start(lab.ledger, [StartRequest("demo", key="k")])
    assert len(lab.rows("SELECT 1 FROM flow_runs")) == 1


# ---- explain ----


def test_every_wait_is_explained(lab: Lab) -> None:
    """One sentence, and the next command."""
    run_id = lab.run(
        {"a": call(retry=retry(2, 60)), "b": after("a"), "each": loop("@steps('b').output", concurrency=1)}
    )

    def why(key: str | None = None) -> str:
        return explain.explain(lab.ledger, run_id, key).sentence

    assert "no worker is live" in why()
    assert why("b") == "Step b waits for a (ready)."
    lease = lab.take(run_id, "a")
    assert "on w1, attempt 1" in why()
    lab.fail(lease, StepError("E", "oops"))
    assert "failed attempt 1 (E: oops)" in why("a")
    lab.forward(61)
    sweep.due(lab.ledger)
    lab.do(run_id, "a")
    lab.do(run_id, "b", output=[1, 2])
    assert why("each").startswith(
        "Loop each has 0 of 2 items done, 0 failed. It runs 1 at a time. Step each.0.do has been ready"
    )
    assert why("each.1.do") == "Step each.1.do waits for a place: loop each runs 1 at a time."
    lease = lab.take(run_id, "each.0.do")
    cancel(lab, run_id)
    assert "was cancelled" in why()
    lab.done(lease)
    assert why().startswith(f"Run {run_id} is over: cancelled, because enough. Fix: if it is wanted after all")
    with pytest.raises(StepNotFound):
        why("nope")


@pytest.mark.parametrize("width", [10, 1000, 20_000])
def test_an_explanation_reads_a_few_rows_however_wide_the_run_is(lab: Lab, width: int) -> None:
    lab.flow({"each": loop("@triggerBody().n")})
    run_id = lab.start(body={"n": [0] * width})
    read: list[int] = []

    def count(connection: Any, cursor: Any, *rest: Any) -> None:
        read.append(cursor.rowcount)

    event.listen(lab.ledger.engine, "after_cursor_execute", count)
    try:
        for key in (None, "each", "each.5.do"):
            assert "no worker is live" in explain.explain(lab.ledger, run_id, key).sentence
    finally:
        event.remove(lab.ledger.engine, "after_cursor_execute", count)
    assert max(read) <= 10
