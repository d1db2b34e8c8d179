"""Waits inside of loops: each item has a signal of its own, by its key, and an approval of its own, by its row."""

import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.signals import Delivery, Signal
from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import explain
from orchestrator.engine.signals import approvals, deliver
from orchestrator.engine.steps import retry_step
from orchestrator.engine.sweeps.wake import wake
from orchestrator.errors import (
    ApprovalNotFound,
    ApprovalNotOpen,
    OrchestratorError,
    SignalIdUsed,
    SignalInvalid,
    SignalNotFound,
    SignalTaken,
    SignalTooLate,
)
from orchestrator.ledger import reads
from orchestrator.ledger.statements import sql
from tests.engine.test_signals import PAYMENT, State, cancel, facts, send, sent
from tests.support.factories import Lab, after, call

KEY = "@item().id"


def wait(**fields: Any) -> dict[str, Any]:
    return {"signal": {"name": "paid", "key": KEY, "schema": PAYMENT, **fields}}


def loop(steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"for_each": "@triggerBody().orders", "steps": steps, **fields}


PAID = {**wait(timeout="2d"), "run_after": {"order": ["succeeded"]}}
ITEM = {
    "order": call(inputs={"order": "@item().id"}),
    "paid": PAID,
    "ship": call(inputs={"paid": "@steps('paid').output"}),
}


def start(lab: Lab, count: int = 3, steps: dict[str, Any] = ITEM, **fields: Any) -> UUID:
    """A loop over orders `o0`, `o1`, …, then a step that takes what it gives."""
    orders = [{"id": f"o{n}", "parts": [{"id": f"o{n}p{m}"} for m in range(2)]} for n in range(count)]
    return lab.run({"each": loop(steps, **fields), "join": after("each")}, {"orders": orders})


def parked(lab: Lab, count: int = 3, steps: dict[str, Any] = ITEM, **fields: Any) -> UUID:
    run_id = start(lab, count, steps, **fields)
    lab.drain(run_id)
    assert "waiting" in lab.statuses(run_id).values()
    return run_id


def pay(lab: Lab, run_id: UUID, *numbers: int, **fields: Any) -> list[Delivery]:
    return [sent(lab, run_id, f'{{"amount": {n}}}', key=f"o{n}", **fields) for n in numbers]


def output(lab: Lab, run_id: UUID, key: str = "each") -> Any:
    return reads.steps.output(lab.ledger, run_id, key)


def open_waits(lab: Lab, run_id: UUID) -> list[str]:
    query = "SELECT step_key FROM flow_signal_waiters WHERE run_id = %s AND closed_at IS NULL ORDER BY step_key"
    return [row["step_key"] for row in lab.rows(query, run_id)]


# ---- signals ----


def test_each_item_takes_its_own_signal(lab: Lab) -> None:
    run_id = parked(lab)
    assert lab.status(run_id) is RunStatus.WAITING
    (delivery,) = pay(lab, run_id, 1)
    assert (delivery.delivered, delivery.step) == (True, "each.1.paid")
    assert lab.inputs(lab.take(run_id, "each.1.ship")) == {"paid": {"amount": 1}}
    assert facts(lab, run_id, "signal.delivered")[0]["key"] == "o1"
    assert open_waits(lab, run_id) == ["each.0.paid", "each.2.paid"]
    assert [one.step for one in pay(lab, run_id, 2, 0)] == ["each.2.paid", "each.0.paid"]
    lab.done(lab.take(run_id, "each.0.ship"), 0)


def test_a_loop_of_one_wait_gives_what_was_sent(lab: Lab) -> None:
    """The output of an item that is one wait is the payload."""
    run_id = parked(lab, 2, {"paid": wait()}, output="@steps('paid').output")
    pay(lab, run_id, 1, 0)
    assert output(lab, run_id) == [{"amount": 0}, {"amount": 1}]
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_early_signals_wait_for_their_item_to_be_let_in(lab: Lab) -> None:
    """Also those that come before the loop has opened."""
    steps = {"paid": wait(), "ship": after("paid")}
    run_id = lab.run(
        {"order": call(), "each": {**loop(steps), "run_after": {"order": ["succeeded"]}, "concurrency": 1}},
        {"orders": [{"id": "o0"}, {"id": "o1"}, {"id": "o2"}]},
    )
    assert [one.kept for one in pay(lab, run_id, 2, 0)] == [True, True]
    lab.do(run_id, "order")
    assert lab.ready(run_id) == ["each.0.ship"]
    assert pay(lab, run_id, 1)[0].kept
    assert lab.drain(run_id) == ["each.0.ship", "each.1.ship", "each.2.ship"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert "step.parked" not in " ".join(lab.events(run_id))


def test_items_of_one_key_are_served_in_their_order(lab: Lab) -> None:
    run_id = lab.run({"each": loop({"paid": wait()})}, {"orders": [{"id": "o"}] * 3})
    assert [sent(lab, run_id, key="o").step for _ in range(3)] == [f"each.{n}.paid" for n in range(3)]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_nested_loops_and_keys_of_steps_and_indexes(lab: Lab) -> None:
    inner = {
        "count": call(inputs={"n": "@index()"}),
        "paid": {"signal": {"name": "paid", "key": "@steps('count').output"}},
        "sent": {
            "signal": {"name": "sent", "key": "@index()", "until": "@item('each').until ?? '2100-01-01T00:00:00Z'"},
            "run_after": {"paid": ["succeeded"]},
        },
    }
    run_id = start(lab, 2, {"parts": {"for_each": "@item().parts", "steps": inner}})
    lab.drain(run_id, lambda lease: f"{lease.step_key}!")
    assert sent(lab, run_id, "1", key="each.1.parts.0.count!").step == "each.1.parts.0.paid"
    assert sent(lab, run_id, "1", name="sent", key="0").step == "each.1.parts.0.sent"
    assert lab.statuses(run_id)["each.1.parts.0"] == "succeeded"
    for n, m in ((0, 0), (0, 1), (1, 1)):
        sent(lab, run_id, "2", key=f"each.{n}.parts.{m}.count!")
        sent(lab, run_id, "3", name="sent", key=str(m))
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def early(lab: Lab) -> UUID:
    return start(lab)


def taken(lab: Lab) -> UUID:
    run_id = parked(lab)
    pay(lab, run_id, 0, id="first")
    return run_id


def ended(lab: Lab) -> UUID:
    """The loop is over, the run is not."""
    run_id = taken(lab)
    pay(lab, run_id, 1, 2)
    while lab.ready(run_id) != ["join"]:
        lab.do(run_id, lab.ready(run_id)[0])
    return run_id


def timed_out(lab: Lab) -> UUID:
    """One took its signal, two did not get theirs; something else keeps the run open."""
    run_id = lab.run(
        {"each": loop({"paid": wait(timeout="2d")}, errors="collect"), "other": {"signal": {"name": "other"}}},
        {"orders": [{"id": f"o{n}"} for n in range(3)]},
    )
    pay(lab, run_id, 0)
    lab.forward(timedelta(days=3))
    wake(lab.ledger)
    return run_id


def cancelled(lab: Lab) -> UUID:
    run_id = parked(lab)
    cancel(lab, run_id)
    return run_id


@pytest.mark.parametrize(
    ("state", "fields", "answer", "text"),
    [
        (parked, {"key": "o1"}, "delivered", ""),
        (early, {"key": "o1"}, "kept", ""),
        (parked, {"key": "of no item"}, "kept", ""),
        (taken, {"key": "o0"}, "kept", ""),
        (taken, {"key": "o0", "id": "first", "payload": '{"amount": 0}'}, "delivered duplicate", ""),
        (taken, {"key": "o1", "id": "first", "payload": '{"amount": 0}'}, SignalIdUsed, "Id first was used"),
        (parked, {}, SignalNotFound, r"without a key.*waiting now: 'o0', 'o1' and 'o2'"),
        (partial(parked, count=9), {}, SignalNotFound, "'o3', 'o4' and more"),
        (early, {}, SignalNotFound, "none waits now"),
        (ended, {"key": "o0"}, SignalTaken, r"step each\.0\.paid took it"),
        (ended, {"key": "of no item"}, SignalTooLate, "step each went on without one"),
        (timed_out, {"key": "o0"}, SignalTaken, r"step each\.0\.paid took it"),
        (timed_out, {"key": "o1"}, SignalTooLate, r"step each\.1\.paid failed"),
        (parked, {"key": "o1", "payload": "{}"}, SignalInvalid, "does not fit"),
        (parked, {"key": "o1", "name": "payd"}, SignalNotFound, "did you mean `paid`"),
        (parked, {"name": "each.0.paid"}, SignalNotFound, "waits for no signal"),
        (cancelled, {"key": "o1"}, SignalTooLate, "has ended: cancelled"),
    ],
)
def test_answers(lab: Lab, state: State, fields: Any, answer: str | type[OrchestratorError], text: str) -> None:
    """The table of answers, for items. Whatever is refused is not stored."""
    run_id = state(lab)
    if isinstance(answer, str):
        delivery = sent(lab, run_id, **fields)
        given = [name for name in ("delivered", "kept", "duplicate") if getattr(delivery, name)]
        assert " ".join(given) == answer
        return
    before = lab.rows("SELECT * FROM flow_signals")
    with pytest.raises(answer, match=text) as refused:
        sent(lab, run_id, **fields)
    assert "Fix: " in refused.value.message
    assert lab.rows("SELECT * FROM flow_signals") == before
    assert facts(lab, run_id, "signal.refused")[-1]["code"] == refused.value.code


def test_what_no_item_took_is_named_when_the_run_ends(lab: Lab) -> None:
    run_id = parked(lab, 1)
    sent(lab, run_id, key="of no item", id="lost")
    pay(lab, run_id, 0)
    lab.drain(run_id, chain=True)
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert facts(lab, run_id, "signal.unused") == [
        {"count": 1, "first": [{"name": "paid", "key": "of no item", "id": "lost"}]}
    ]


def test_one_item_whose_time_is_over_fails_and_the_others_go_on(lab: Lab) -> None:
    run_id = parked(lab)
    pay(lab, run_id, 1)
    lab.forward(timedelta(days=3))
    wake(lab.ledger)
    assert lab.statuses(run_id)["each.0"] == "failed"
    assert open_waits(lab, run_id) == []
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.FAILED
    assert lab.step(run_id, "each")["reason"].startswith("2 of its items failed; the first, each.0")
    assert lab.step(run_id, "each.0")["reason"] == "paid failed: signal paid did not come in time"


@pytest.mark.parametrize("default", [None, {"amount": 0}])
def test_each_item_has_its_default(lab: Lab, default: Any) -> None:
    run_id = parked(
        lab, 2, {"paid": wait(timeout="1m", default=default), "ship": after("paid")}, output="@steps('paid').output"
    )
    pay(lab, run_id, 1)
    lab.forward(timedelta(minutes=2))
    wake(lab.ledger)
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert output(lab, run_id) == [default, {"amount": 1}]


def test_a_late_signal_ends_the_wait_of_its_item_itself(lab: Lab) -> None:
    run_id = parked(lab)
    lab.forward(timedelta(days=2))
    assert pay(lab, run_id, 1)[0].kept, "the loop is open: another item may ask for it"
    assert lab.statuses(run_id)["each.1"] == "failed"
    assert lab.statuses(run_id)["each.0"] == "running"


def test_a_cancel_closes_the_waits_of_all_items(lab: Lab) -> None:
    run_id = cancelled(lab)
    assert open_waits(lab, run_id) == []
    assert {status for key, status in lab.statuses(run_id).items() if key.endswith(".paid")} == {"cancelled"}
    assert wake(lab.ledger).changed == 0


@pytest.mark.parametrize("key", [None, "each", "each.1", "each.1.paid"])
def test_items_that_failed_wait_anew_when_they_are_retried(lab: Lab, key: str | None) -> None:
    run_id = parked(lab)
    pay(lab, run_id, 0)
    lab.forward(timedelta(days=3))
    wake(lab.ledger)
    lab.drain(run_id)
    retry_step.retry(lab.ledger, run_id, key, by="op")
    again = ["each.1.paid", "each.2.paid"] if key in (None, "each") else ["each.1.paid"]
    assert open_waits(lab, run_id) == again
    lab.forward(timedelta(days=1))
    assert wake(lab.ledger).changed == 0, "the whole time again"
    pay(lab, run_id, *(int(one.split(".")[1]) for one in again))
    lab.drain(run_id)
    assert lab.status(run_id) is (RunStatus.SUCCEEDED if len(again) == 2 else RunStatus.FAILED)


def test_a_condition_can_ask_who_sent_it(lab: Lab) -> None:
    """`by` is that of the item's own wait."""
    steps = {"paid": wait(), "told": call(inputs={"by": "@steps('paid').by"})}
    run_id = parked(lab, 2, steps)
    pay(lab, run_id, 1, by="ada")
    assert lab.inputs(lab.take(run_id, "each.1.told")) == {"by": "ada"}


def test_a_wait_whose_key_cannot_be_is_told_and_fails_its_item(lab: Lab) -> None:
    run_id = lab.run({"each": loop({"paid": wait()})}, {"orders": [{"id": None}, {"id": "o1"}]})
    assert "a key is a text, a number or a bool, not null" in lab.step(run_id, "each.0.paid")["reason"]
    assert lab.statuses(run_id)["each.0"] == "failed"
    pay(lab, run_id, 1)
    assert lab.status(run_id) is RunStatus.FAILED


def test_it_says_for_which_key_it_waits_and_what_helps(lab: Lab) -> None:
    found = explain.explain(lab.ledger, parked(lab), "each.1.paid")
    assert "waits for signal paid with key o1" in found.sentence
    assert "--key o1" in found.command


# ---- races ----


def answer(lab: Lab, run_id: UUID, **fields: Any) -> Delivery | OrchestratorError:
    return send(lab, run_id, **fields).answer


def test_of_two_signals_for_one_item_one_is_taken_and_other_items_take_theirs(lab: Lab) -> None:
    for _ in range(6):
        run_id = parked(lab, 2)
        race = [partial(answer, lab, run_id, key="o0"), partial(answer, lab, run_id, key="o0")]
        first, second, other = lab.race(*race, partial(answer, lab, run_id, key="o1"))
        assert sorted([first.delivered, second.delivered]) == [False, True]
        assert sorted([first.kept, second.kept]) == [False, True]
        assert other.step == "each.1.paid"
        lab.audit()


def test_a_signal_meets_the_end_of_the_step_before_its_wait(lab: Lab) -> None:
    for _ in range(6):
        run_id = start(lab, 2)
        order = lab.take(run_id, "each.1.order")
        _, found = lab.race(partial(lab.done, order), partial(answer, lab, run_id, key="o1"))
        assert found.delivered != found.kept
        assert lab.statuses(run_id)["each.1.paid"] == "succeeded"


def test_signals_of_all_items_at_once(lab: Lab) -> None:
    run_id = parked(lab, 8)
    found = lab.race(*(partial(answer, lab, run_id, key=f"o{n}") for n in range(8)))
    assert [one.step for one in found] == [f"each.{n}.paid" for n in range(8)]
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    lab.audit()


def test_a_wait_that_loses_a_race_in_its_item_takes_nothing_more(lab: Lab) -> None:
    """Only that of the item: the others wait on."""
    either = {"value": "@steps('paid').output ?? @steps('quick').output", "join": "any"}
    before = {"run_after": {"paid": ["succeeded"], "quick": ["succeeded"]}}
    run_id = start(lab, 2, {"paid": wait(), "quick": call(), "first": {**either, **before}, "ship": after("first")})
    assert open_waits(lab, run_id) == ["each.0.paid", "each.1.paid"]
    lab.do(run_id, "each.0.quick")
    assert open_waits(lab, run_id) == ["each.1.paid"]
    assert pay(lab, run_id, 0)[0].kept, "the loop is open: another item may ask for it"
    assert pay(lab, run_id, 1)[0].step == "each.1.paid"
    assert lab.statuses(run_id)["each.1.quick"] == "skipped"
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


# ---- approvals ----


def ask(**fields: Any) -> dict[str, Any]:
    form = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    return {
        "approval": {
            "title": "@item().id",
            "to": "@item().id",
            "show": {"n": "@index()"},
            "form": form,
            **fields,
        }
    }


ASKED = {
    "order": call(),
    "ask": {**ask(within="2d"), "run_after": {"order": ["succeeded"]}},
    "ship": call(inputs={"by": "@steps('ask').by"}),
}


def say(lab: Lab, run_id: UUID, step: str, payload: str = '{"ok": true}', by: str = "ada") -> Delivery:
    return deliver.deliver(lab.ledger, run_id, f"{by} {step}", Signal(step, payload, by=by, answers=True)).delivery()


def test_each_item_asks_and_is_answered_by_its_row(lab: Lab) -> None:
    run_id = parked(lab, 3, ASKED)
    # The oldest is listed first; items that are let in together ask in any order.
    listed = sorted(approvals.open_(lab.ledger, None, None, 10), key=lambda one: one.id)
    assert [one.id for one in listed] == [f"{run_id}/each.{n}.ask" for n in range(3)]
    assert [(one.title, one.to, one.show) for one in listed] == [(f"o{n}", f"o{n}", {"n": n}) for n in range(3)]
    assert [one.step for one in approvals.open_(lab.ledger, "o1", None, 10)] == ["each.1.ask"]
    assert say(lab, run_id, "each.1.ask").step == "each.1.ask"
    assert lab.inputs(lab.take(run_id, "each.1.ship")) == {"by": "ada"}
    found = approvals.get(lab.ledger, run_id, "each.1.ask")
    assert (found.answered_by, found.form["required"]) == ("ada", ["ok"])
    with pytest.raises(SignalTaken, match=r"'o1' of run .* was answered already by ada"):
        say(lab, run_id, "each.1.ask", by="bob")
    assert {one.step for one in approvals.open_(lab.ledger, None, None, 10)} == {"each.0.ask", "each.2.ask"}


def test_an_answer_of_an_approval_in_an_item_that_is_not_there(lab: Lab) -> None:
    run_id = lab.run(
        {"before": call(), "each": {**loop(ASKED, concurrency=1), "run_after": {"before": ["succeeded"]}}},
        {"orders": [{"id": "o0"}, {"id": "o1"}]},
    )
    refused: Callable[..., Any] = partial(pytest.raises, ApprovalNotOpen, match="has not asked yet")
    with refused():
        say(lab, run_id, "each.0.ask")
    lab.do(run_id, "before")
    for step in ("each.0.ask", "each.1.ask"):
        with refused():
            say(lab, run_id, step)
    for step in ("each.2.ask", "each.01.ask", "each.ask", "each.0", "each.0.ask.0", "each.0.order", "ask"):
        with pytest.raises(ApprovalNotFound, match="asks nobody"):
            say(lab, run_id, step)
    lab.drain(run_id)
    with pytest.raises(SignalInvalid, match="does not fit"):
        say(lab, run_id, "each.0.ask", "{}")
    say(lab, run_id, "each.0.ask")
    lab.drain(run_id)
    say(lab, run_id, "each.1.ask")
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("late", [False, True])
def test_nobody_answers_in_time(lab: Lab, late: bool) -> None:
    fields = {"late": {"ok": False}} if late else {}
    run_id = parked(lab, 2, {"ask": ask(within="1h", **fields), "ship": after("ask")}, output="@steps('ask').output")
    say(lab, run_id, "each.0.ask")
    lab.forward(timedelta(hours=2))
    wake(lab.ledger)
    lab.drain(run_id)
    assert lab.status(run_id) is (RunStatus.SUCCEEDED if late else RunStatus.FAILED)
    if late:
        assert output(lab, run_id) == [{"ok": True}, {"ok": False}]
    with pytest.raises(SignalTooLate):
        say(lab, run_id, "each.1.ask")


def test_a_title_that_is_not_a_text_fails_the_step(lab: Lab) -> None:
    run_id = start(lab, 1, {"ask": ask(title="@index()")})
    assert "`title` gives 0, and it has to be a text of 1 to 500 characters" in lab.step(run_id, "each.0.ask")["reason"]
    lab.drain(run_id)


# ---- many ----


@pytest.mark.slow
def test_a_thousand_items_wait_and_one_signal_looks_at_one_of_them(lab: Lab) -> None:
    run_id = parked(lab, 1_000, concurrency=1_000)
    assert len(open_waits(lab, run_id)) == 1_000
    values = {"run_id": run_id, "name": "paid", "key": "o777"}
    for name in ("oldest_wait", "last_wait"):
        found = lab.connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql(name)}", values).fetchone()
        assert found is not None
        assert rows_read(found["QUERY PLAN"][0]["Plan"]) <= 10, found
    assert pay(lab, run_id, 777)[0].step == "each.777.paid"
    cancel(lab, run_id)
    assert open_waits(lab, run_id) == []


@pytest.mark.slow
def test_a_thousand_items_ask_and_are_answered_in_any_order(lab: Lab) -> None:
    """Each is answered once; whoever answers second is told who was first. A page of what is open, and an answer, read
    what they give, however many wait."""
    run_id = start(lab, MANY, {"ask": ask()}, output="@steps('ask').by", concurrency=MANY)
    assert pages(lab) == [f"each.{n}.ask" for n in range(MANY)]
    order = [f"each.{n}.ask" for n in range(MANY)]
    random.Random(7).shuffle(order)
    half = order[: MANY // 2]
    for n, step in enumerate(half):
        assert say(lab, run_id, step, by="ada").step == step
        if n % 10 == 0:
            with pytest.raises(SignalTaken, match="was answered already by ada"):
                say(lab, run_id, step, by="bob")
    assert sorted(pages(lab)) == sorted(order[MANY // 2 :])
    costs(lab, run_id, order[-1])
    for first, second in zip(order[MANY // 2 :: 2], order[MANY // 2 + 1 :: 2], strict=True):
        found = lab.race(
            *(partial(answered, lab, run_id, step, by) for step in (first, second) for by in ("eve", "bob"))
        )
        assert [isinstance(one, Delivery) for one in found].count(True) == 2
    assert pages(lab) == []
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    by = output(lab, run_id)
    assert [by[int(step.split(".")[1])] for step in half] == ["ada"] * len(half)
    assert set(by) == {"ada", "eve", "bob"}
    assert len(facts(lab, run_id, "approval.answered")) == MANY


MANY = 1_000
PAGE = 100


def answered(lab: Lab, run_id: UUID, step: str, by: str) -> Delivery | OrchestratorError:
    signal = Signal(step, '{"ok": true}', by=by, answers=True)
    return deliver.deliver(lab.ledger, run_id, f"{by} {step}", signal).answer


def pages(lab: Lab) -> list[str]:
    """What is open, page by page."""
    found: list[str] = []
    after_: tuple[UUID, str] | None = None
    while page := approvals.open_(lab.ledger, None, after_, PAGE):
        assert len(page) <= PAGE
        found += [one.step for one in page]
        after_ = (page[-1].run_id, page[-1].step)
    return found


def costs(lab: Lab, run_id: UUID, step: str) -> None:
    """Rows read: of the answer to one, of a page in the middle."""
    lab.execute("ANALYZE flow_steps, flow_signal_waiters, flow_runs")
    middle = approvals.open_(lab.ledger, None, None, MANY // 4)[-1].step
    for name, most, values in (  # a page is sorted from all that are open, and looks up its own
        ("oldest_wait", 10, {"name": step, "key": ""}),
        ("last_wait", 10, {"name": step, "key": ""}),
        ("approval", 10, {"step_key": step}),
        ("open_approvals", MANY + 8 * PAGE, {"assignee": None, "run": run_id, "step": middle, "limit": PAGE}),
        ("open_approvals", MANY + 10, {"assignee": f"o{step.split('.')[1]}", "run": None, "step": None, "limit": PAGE}),
    ):
        query = f"EXPLAIN (ANALYZE, FORMAT JSON) {sql(name)}"
        found = lab.connection.execute(query, {"run_id": run_id, **values}).fetchone()
        assert found is not None
        assert rows_read(found["QUERY PLAN"][0]["Plan"]) <= most, found


def rows_read(plan: dict[str, Any]) -> int:
    """By all nodes of a plan, those that were read and left out with them."""
    own = sum(plan.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter"))
    return int(own * plan["Actual Loops"]) + sum(map(rows_read, plan.get("Plans", ())))
