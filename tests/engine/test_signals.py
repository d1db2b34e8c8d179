"""Signals: what a run is told from outside, by the table of answers and against its clock."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.core.signals import KEPT_LIMIT, PAYLOAD_LIMIT, Delivery, Signal
from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import cancel_run, delete_run, explain
from orchestrator.engine.signals import approvals, deliver
from orchestrator.engine.steps import retry_step
from orchestrator.engine.sweeps import sweep
from orchestrator.engine.sweeps.wake import wake
from orchestrator.errors import (
    ApprovalNotFound,
    OrchestratorError,
    RunNotFound,
    SignalIdUsed,
    SignalInvalid,
    SignalNotFound,
    SignalsFull,
    SignalTaken,
    SignalTooLarge,
    SignalTooLate,
    SignalUnreadable,
    UsageError,
)
from orchestrator.ledger import signals
from tests.support.factories import Lab, after, call, keys, loop

GRACE = timedelta(seconds=10)
PAYMENT = {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]}
FIVE = '{"amount": 5}'


def wait(*before: str, name: str = "paid", **fields: Any) -> dict[str, Any]:
    """A step that waits for a signal."""
    step: dict[str, Any] = {"signal": {"name": name, "schema": PAYMENT, **fields}}
    return {**step, "run_after": {key: ["succeeded"] for key in before}} if before else step


FLOW = {"order": call(), "paid": wait("order", timeout="2d"), "ship": after("paid")}


def send(lab: Lab, run_id: UUID, payload: str = FIVE, *, id: str | None = None, **fields: Any) -> deliver.Outcome:
    """A signal `paid`."""
    signal = Signal(**{"name": "paid", "payload": payload, **fields})
    return deliver.deliver(lab.ledger, run_id, id or uuid4().hex, signal)


def sent(lab: Lab, run_id: UUID, payload: str = FIVE, **fields: Any) -> Delivery:
    return send(lab, run_id, payload, **fields).delivery()


def parked(lab: Lab, flow: dict[str, Any] = FLOW) -> UUID:
    """A run that waits for its signal."""
    run_id = lab.run(flow)
    lab.drain(run_id)
    assert lab.statuses(run_id)["paid"] == "waiting"
    return run_id


def cancel(lab: Lab, run_id: UUID) -> RunStatus:
    return cancel_run.cancel(lab.ledger, run_id, by="op", reason="enough", grace=GRACE)


def facts(lab: Lab, run_id: UUID, type: str) -> list[Any]:
    rows = lab.rows("SELECT facts FROM flow_events WHERE run_id = %s AND type = %s ORDER BY id", run_id, type)
    return [row["facts"] for row in rows]


def output(lab: Lab, run_id: UUID, key: str = "paid") -> Any:
    (row,) = lab.rows("SELECT output FROM flow_outputs WHERE run_id = %s AND step_key = %s", run_id, key)
    return row["output"]


# ---- delivered, kept ----


def test_the_step_that_waits_takes_the_signal_and_the_run_goes_on(lab: Lab) -> None:
    run_id = parked(lab)
    assert lab.status(run_id) is RunStatus.WAITING
    outcome = send(lab, run_id, by="ada", id="evt-1")
    delivery = outcome.delivery()
    assert (delivery.delivered, delivery.kept, delivery.duplicate, delivery.step) == (True, False, False, "paid")
    assert keys(outcome.dispatches) == ["ship"]
    assert output(lab, run_id) == {"amount": 5}
    assert facts(lab, run_id, "signal.delivered") == [{"name": "paid", "id": "evt-1", "by": "ada"}]
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_signal_that_comes_early_is_kept_and_taken_when_the_wait_opens(lab: Lab) -> None:
    run_id = lab.run(FLOW)
    delivery = sent(lab, run_id)
    assert (delivery.delivered, delivery.kept, delivery.step) == (False, True, None)
    assert lab.drain(run_id) == ["order", "ship"]
    assert lab.statuses(run_id)["paid"] == "succeeded"
    assert "step.parked paid" not in lab.events(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_early_signals_are_taken_in_the_order_they_came(lab: Lab) -> None:
    run_id = lab.run({"order": call(), "paid": wait("order"), "rest": wait("paid")})
    for amount in (1, 2):
        sent(lab, run_id, json.dumps({"amount": amount}))
    lab.drain(run_id)
    assert [output(lab, run_id, key)["amount"] for key in ("paid", "rest")] == [1, 2]


def test_waits_are_served_in_the_order_they_parked(lab: Lab) -> None:
    flow = {"a": call(), "b": call(), "x": wait("b"), "y": wait("a"), "z": wait("a"), "other": wait(name="other")}
    run_id = lab.run(flow)
    lab.do(run_id, "a")
    lab.do(run_id, "b")
    assert [sent(lab, run_id).step for _ in range(3)] == ["y", "z", "x"]
    with pytest.raises(SignalTaken, match="step x took it"):
        sent(lab, run_id)


def test_a_wait_takes_signals_of_its_own_key_only(lab: Lab) -> None:
    flow = {"order": call(), "paid": wait("order", key="@steps('order').output.id")}
    run_id = lab.run(flow)
    lab.do(run_id, "order", output={"id": 17})
    assert sent(lab, run_id, key="18").kept
    assert sent(lab, run_id, key="18").kept
    sentence = explain.explain(lab.ledger, run_id).sentence
    assert sentence.endswith("It keeps signals that no step has taken: 2 of paid with key 18.")
    assert sent(lab, run_id, key="17").step == "paid"
    assert explain.explain(lab.ledger, run_id).sentence.endswith(
        "It kept signals that no step took: 2 of paid with key 18."
    )
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    ((unused),) = facts(lab, run_id, "signal.unused")
    assert (unused["count"], unused["first"][0]["key"]) == (2, "18")


def test_a_key_that_is_not_a_scalar_fails_the_wait(lab: Lab) -> None:
    run_id = lab.run({"order": call(), "paid": wait("order", key="@steps('order').output.id")})
    lab.do(run_id, "order", output={"id": [1]})
    assert lab.status(run_id) is RunStatus.FAILED
    assert lab.run_row(run_id)["error"]["type"] == "ExpressionInvalid"


def test_what_nobody_took_is_named_when_the_run_ends(lab: Lab) -> None:
    run_id = parked(lab)
    sent(lab, run_id, key="other", id="lost")
    sent(lab, run_id)
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert facts(lab, run_id, "signal.unused") == [
        {"count": 1, "first": [{"name": "paid", "key": "other", "id": "lost"}]}
    ]
    assert lab.events(run_id)[-1] == "run.succeeded"


def test_a_signal_is_kept_as_long_as_it_says(lab: Lab) -> None:
    run_id = lab.run(FLOW)
    delivery = sent(lab, run_id, ttl=timedelta(minutes=5))
    assert delivery.expires_at is not None
    lab.forward(timedelta(minutes=6))
    lab.drain(run_id)
    assert lab.statuses(run_id)["paid"] == "waiting"


def test_a_run_keeps_so_many_signals_and_no_more(lab: Lab) -> None:
    run_id = lab.run(FLOW)
    lab.execute(
        "INSERT INTO flow_signals (run_id, name, id, payload, digest, kept) "
        f"SELECT '{run_id}', 'paid', n::text, '{FIVE}', '', TRUE FROM generate_series(1, {KEPT_LIMIT - 1}) AS n"
    )
    assert sent(lab, run_id).kept
    with pytest.raises(SignalsFull, match="1,000"):
        sent(lab, run_id)
    lab.execute("UPDATE flow_signals SET expires_at = flow_now() WHERE id = '7'")
    assert sent(lab, run_id).kept, "one has expired"


# ---- the table of answers ----


def blocked(lab: Lab) -> UUID:
    return lab.run(FLOW)


def taken(lab: Lab) -> UUID:
    run_id = parked(lab)
    sent(lab, run_id, id="first")
    return run_id


def timed_out(lab: Lab) -> UUID:
    run_id = parked(lab, {**FLOW, "other": wait(name="other")})
    lab.forward(timedelta(days=3))
    wake(lab.ledger)
    return run_id


def went_on(lab: Lab) -> UUID:
    run_id = parked(lab, {"paid": wait(timeout="1s", default=None), "ship": after("paid"), "other": wait(name="other")})
    lab.forward(timedelta(seconds=2))
    wake(lab.ledger)
    return run_id


def skipped(lab: Lab) -> UUID:
    run_id = lab.run({**FLOW, "other": wait(name="other")})
    lab.do_fail(run_id, "order")
    return run_id


def stopping(lab: Lab) -> UUID:
    run_id = lab.run({"busy": call(), "paid": wait()})
    lab.take(run_id, "busy")
    cancel(lab, run_id)
    assert lab.run_row(run_id)["ended_at"] is None
    return run_id


def cancelled(lab: Lab) -> UUID:
    run_id = parked(lab)
    cancel(lab, run_id)
    return run_id


def ended(lab: Lab) -> UUID:
    run_id = taken(lab)
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    return run_id


State = Callable[[Lab], UUID]
LARGE = json.dumps({"amount": 5, "note": "x" * PAYLOAD_LIMIT})


@pytest.mark.parametrize(
    ("state", "fields", "answer", "text"),
    [
        (parked, {}, "delivered", ""),
        (blocked, {}, "kept", ""),
        (parked, {"key": "of no wait that is known"}, "kept", ""),
        (taken, {"id": "first"}, "delivered duplicate", ""),
        (ended, {"id": "first"}, "delivered duplicate", ""),
        (taken, {"id": "first", "payload": '{"amount":5.0}'}, SignalIdUsed, "Id first was used with another"),
        (taken, {"id": "first", "payload": '{"amount": 6}'}, SignalIdUsed, "Id first was used with another"),
        (taken, {"id": "first", "key": "k"}, SignalIdUsed, "Id first was used with another"),
        (taken, {}, SignalTaken, "delivered to run .* already: step paid took it at"),
        (timed_out, {}, SignalTooLate, "step paid failed"),
        (went_on, {}, SignalTooLate, "step paid went on without one"),
        (skipped, {}, SignalTooLate, "step paid was skipped"),
        (taken, {"key": "k"}, SignalTooLate, "any more"),
        (parked, {"name": "payd"}, SignalNotFound, "did you mean `paid`"),
        (parked, {"payload": '{"amount": "five"}'}, SignalInvalid, "does not fit at `amount`"),
        (parked, {"payload": "{amount"}, SignalUnreadable, "is not JSON"),
        (parked, {"payload": "NaN"}, SignalUnreadable, "is not JSON"),
        (parked, {"payload": '"\\u0000"'}, SignalUnreadable, "cannot be stored"),
        (parked, {"payload": LARGE}, SignalTooLarge, "262,144"),
        (parked, {"key": "k" * 201}, UsageError, "200 characters"),
        (parked, {"id": "i" * 201}, UsageError, "200 characters"),
        (stopping, {}, SignalTooLate, "is being stopped"),
        (cancelled, {}, SignalTooLate, "has ended: cancelled"),
        (ended, {}, SignalTooLate, "has ended: succeeded"),
        (lambda lab: uuid4(), {}, RunNotFound, "No run"),
    ],
)
def test_answers(lab: Lab, state: State, fields: Any, answer: str | type[OrchestratorError], text: str) -> None:
    """Each row of the table, and what is refused leaves its id free."""
    run_id = state(lab)
    if isinstance(answer, str):
        delivery = sent(lab, run_id, **fields)
        given = [name for name in ("delivered", "kept", "duplicate") if getattr(delivery, name)]
        assert " ".join(given) == answer
        return
    before = lab.rows("SELECT * FROM flow_signals")
    with pytest.raises(answer, match=text) as refused:
        sent(lab, run_id, **fields)
    assert type(refused.value) is answer
    assert "Fix: " in refused.value.message
    assert lab.rows("SELECT * FROM flow_signals") == before
    if answer in (SignalIdUsed, SignalTaken, SignalTooLate, SignalNotFound, SignalInvalid):
        assert facts(lab, run_id, "signal.refused")[-1]["code"] == refused.value.code


def test_a_refused_signal_leaves_its_id_to_the_corrected_one(lab: Lab) -> None:
    run_id = parked(lab)
    with pytest.raises(SignalInvalid):
        sent(lab, run_id, "{}", id="evt-1")
    assert sent(lab, run_id, id="evt-1").delivered


def test_what_is_sent_again_is_answered_as_the_first_time(lab: Lab) -> None:
    """Also when what was kept has been taken since; the order of members is no difference."""
    run_id = lab.run(FLOW)
    first = sent(lab, run_id, '{"amount": 5, "note": 1}', id="evt-1")
    lab.drain(run_id)
    again = sent(lab, run_id, '{"note":1,"amount":5}', id="evt-1")
    assert (again.kept, again.delivered, again.duplicate) == (True, False, True)
    assert (again.at, again.step) == (first.at, "paid")


# ---- runs that were called ----

ASKS = {"said": {"approval": {"title": "Ship it?", "to": "store"}}}


@pytest.fixture
def called(lab: Lab) -> tuple[UUID, UUID]:
    """A run, and the one two below it that waits."""
    lab.flow({"paid": wait(), **ASKS}, name="lowest")
    lab.flow({"other": {"flow": "lowest"}}, name="middle")
    run_id = lab.run({"deep": {"flow": "middle"}, "x": call()})
    (row,) = lab.rows("SELECT id FROM flow_runs WHERE flow = 'lowest'")
    return run_id, row["id"]


def test_what_a_run_below_waits_for_is_refused_with_its_id(lab: Lab, called: tuple[UUID, UUID]) -> None:
    run_id, lowest = called
    with pytest.raises(
        SignalNotFound, match=f"run {lowest} of flow lowest, .* `orchestrator run signal {lowest} paid`"
    ):
        sent(lab, run_id)
    assert facts(lab, run_id, "signal.refused")[-1]["code"] == "signal_not_found"
    with pytest.raises(SignalNotFound, match="it waits for none") as refused:
        sent(lab, run_id, name="payd")
    assert refused.value.child is None
    assert sent(lab, lowest).step == "paid"


def test_what_a_run_below_asks_is_refused_with_its_id(lab: Lab, called: tuple[UUID, UUID]) -> None:
    run_id, lowest = called
    refusal = f"run {lowest} of flow lowest, .* `orchestrator approval show {lowest}/said`"
    with pytest.raises(ApprovalNotFound, match=refusal) as answered:
        sent(lab, run_id, "true", name="said", answers=True)
    with pytest.raises(ApprovalNotFound, match=refusal) as shown:
        approvals.get(lab.ledger, run_id, "said")
    assert answered.value.child == shown.value.child == str(lowest)
    with pytest.raises(ApprovalNotFound, match=r"asks nobody at step 'paid'\. Fix: `orchestrator approval ls`"):
        sent(lab, run_id, name="paid", answers=True)
    assert approvals.get(lab.ledger, lowest, "said").title == "Ship it?"


def test_a_run_below_that_has_ended_is_not_named(lab: Lab, called: tuple[UUID, UUID]) -> None:
    run_id, lowest = called
    cancel(lab, lowest)
    with pytest.raises(SignalNotFound, match="it waits for none") as refused:
        sent(lab, run_id)
    assert refused.value.child is None


# ---- time ----


def test_a_wait_whose_time_is_over_fails_its_run(lab: Lab) -> None:
    run_id = parked(lab)
    lab.forward(timedelta(days=2, seconds=1))
    assert wake(lab.ledger).changed == 1
    assert lab.statuses(run_id) == {"order": "succeeded", "paid": "failed", "ship": "skipped"}
    assert lab.run_row(run_id)["error"]["type"] == "SignalTimeout"
    assert facts(lab, run_id, "signal.timed_out") == [{"name": "paid", "default": False}]


@pytest.mark.parametrize("default", [None, {"amount": 0}])
def test_a_wait_with_a_default_goes_on_when_its_time_is_over(lab: Lab, default: Any) -> None:
    run_id = parked(lab, {"paid": wait(timeout="1m", default=default), "ship": after("paid")})
    lab.forward(timedelta(minutes=2))
    assert keys(wake(lab.ledger).dispatches) == ["ship"]
    assert output(lab, run_id) == default
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_wait_until_a_time_takes_it_from_an_output(lab: Lab) -> None:
    run_id = lab.run({"order": call(), "paid": wait("order", until="@steps('order').output.until")})
    lab.do(run_id, "order", output={"until": (lab.now() + timedelta(hours=1)).isoformat()})
    assert wake(lab.ledger).changed == 0
    lab.forward(timedelta(hours=2))
    wake(lab.ledger)
    assert lab.status(run_id) is RunStatus.FAILED


def test_a_signal_that_comes_late_ends_the_wait_itself(lab: Lab) -> None:
    """The deadline holds to the moment, however late the keeper is."""
    run_id = parked(lab)
    lab.forward(timedelta(days=2))
    with pytest.raises(SignalTooLate, match="has ended: failed"):
        sent(lab, run_id)
    assert lab.statuses(run_id)["paid"] == "failed"
    assert wake(lab.ledger).changed == 0
    assert lab.events(run_id).count("signal.timed_out paid") == 1


def test_a_late_signal_goes_to_the_next_wait_and_the_timeouts_dispatches_are_returned(lab: Lab) -> None:
    flow = {"paid": wait(timeout="1m", default=None), "ship": after("paid"), "more": wait("ship")}
    run_id = parked(lab, flow)
    lab.forward(timedelta(minutes=1))
    outcome = send(lab, run_id)
    assert outcome.delivery().kept
    assert keys(outcome.dispatches) == ["ship"]
    lab.drain(run_id)
    assert lab.statuses(run_id)["more"] == "succeeded"


# ---- operators ----


def test_a_wait_that_is_retried_parks_anew_with_its_time(lab: Lab) -> None:
    run_id = timed_out(lab)
    retry_step.retry(lab.ledger, run_id, "paid", by="op")
    assert lab.statuses(run_id) == {"order": "succeeded", "paid": "waiting", "ship": "blocked", "other": "waiting"}
    lab.forward(timedelta(days=1))
    assert wake(lab.ledger).changed == 0
    assert sent(lab, run_id).step == "paid"


def test_a_consumed_signal_stays_consumed_when_its_run_is_retried(lab: Lab) -> None:
    run_id = lab.run({"paid": wait(), "ship": after("paid"), "more": wait("ship")})
    sent(lab, run_id, id="evt-1")
    lab.do_fail(run_id, "ship")
    retry_step.retry(lab.ledger, run_id, None, by="op")
    lab.drain(run_id)
    assert lab.statuses(run_id)["more"] == "waiting"
    assert sent(lab, run_id, id="evt-2").step == "more"


def test_a_cancel_closes_the_wait(lab: Lab) -> None:
    run_id = cancelled(lab)
    assert lab.statuses(run_id)["paid"] == "cancelled"
    assert lab.rows("SELECT step_key FROM flow_signal_waiters WHERE closed_at IS NULL") == []
    assert wake(lab.ledger).changed == 0


def test_a_wait_that_a_decided_race_needs_no_more_is_closed(lab: Lab) -> None:
    race = after("fast", "paid", join="any")
    run_id = lab.run({"fast": call(), "paid": wait(), "race": race})
    lab.do(run_id, "fast")
    assert lab.statuses(run_id)["paid"] == "skipped"
    assert lab.rows("SELECT step_key FROM flow_signal_waiters WHERE closed_at IS NULL") == []


@pytest.mark.parametrize("status", ["blocked", "skipped", "failed"])
def test_a_signal_is_not_taken_by_a_step_in_another_state(lab: Lab, status: str) -> None:
    """Nothing at all is written: neither is it consumed, nor has the step an output, an event or a wait."""
    run_id = lab.run(FLOW)
    sent(lab, run_id, id="evt-1")
    lab.execute(f"UPDATE flow_steps SET status = '{status}' WHERE step_key = 'paid'")
    tables = ("flow_signals", "flow_signal_waiters", "flow_steps", "flow_outputs", "flow_events")
    before = [lab.rows(f"SELECT * FROM {table}") for table in tables]
    awaited = lab.ledger.plan(lab.run_row(run_id)["manifest_hash"]).node("paid").awaited
    assert awaited is not None
    with lab.ledger.tx() as tx:
        taken = signals.take(tx, run_id, "paid", awaited, "evt-1")
    assert (taken is None) is (status != "blocked")
    assert ([lab.rows(f"SELECT * FROM {table}") for table in tables] == before) is (status != "blocked")
    lab.execute("DELETE FROM flow_runs")


@pytest.mark.parametrize("last", [call(), loop([1, 2])], ids=["step", "loop"])
def test_unused_signals_are_named_whatever_ends_the_run(lab: Lab, last: dict[str, Any]) -> None:
    """The fast statement that ends a run does not look for signals: such a run does not end by it."""
    run_id = lab.run({"paid": wait(), "last": last})
    sent(lab, run_id, key="k")
    sent(lab, run_id)
    lab.drain(run_id, chain=True)
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert facts(lab, run_id, "signal.unused")[0]["count"] == 1


def test_a_deadline_ends_the_wait(lab: Lab) -> None:
    lab.flow({"paid": wait(), "ship": after("paid")}, deadline="1h")
    run_id = lab.start()
    lab.forward(timedelta(hours=2))
    sweep.deadlines(lab.ledger, GRACE)
    assert lab.statuses(run_id) == {"paid": "cancelled", "ship": "cancelled"}
    with pytest.raises(SignalTooLate, match="has ended: timed_out"):
        sent(lab, run_id)


def test_retention_removes_signals_with_their_run(lab: Lab) -> None:
    run_id = taken(lab)
    lab.drain(run_id)
    delete_run.delete(lab.ledger, run_id, by="op")
    assert lab.rows("SELECT id FROM flow_signals UNION ALL SELECT step_key FROM flow_signal_waiters") == []
