"""Signals and approvals as whoever writes flows meets them."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator import answered_by, approval, flow, step, wait_for_signal
from orchestrator.core.states import RunStatus
from orchestrator.errors import (
    ApprovalNotFound,
    ApprovalNotOpen,
    RunFailed,
    SignalInvalid,
    SignalNotFound,
    SignalTaken,
    SignalTooLate,
)
from orchestrator.testing import World, sim


@pytest.fixture
def world() -> Iterator[World]:
    with sim() as made:
        yield made


class Payment(BaseModel):
    amount: int


class Verdict(BaseModel):
    ok: bool
    why: str = ""


@step
def mail(order: str) -> str:
    return f"mail to {order}"


@step
def ship(order: str, paid: Payment) -> str:
    return f"{order} for {paid.amount}"


@step
def book(said: Verdict, by: str | None) -> str:
    return f"{said.ok} by {by}"


@flow
def checkout(order: str) -> str:
    sent = mail(order)
    paid = wait_for_signal(Payment, name="paid", key=order, timeout="2d", after=[sent])
    return ship(order, paid)


@flow
def refund(amount: int) -> str:
    said = approval(Verdict, title="Refund", show={"amount": amount}, to="finance", within="2d", key="said")
    return book(said, answered_by(said))


@flow
def late_refund() -> str:
    said = approval(Verdict, title="Refund", to="finance", within="2d", late=Verdict(ok=False, why="late"))
    return book(said, answered_by(said))


def test_a_run_waits_for_its_signal_and_goes_on(world: World) -> None:
    run = world.start(checkout, order="o-17")
    assert run.status == "waiting"
    assert run.waiting == {
        "paid": "Step paid waits for signal paid with key o-17 until 2026-01-03 00:00:00 UTC, for 48 h more."
    }
    command = f"orchestrator run signal {run.id} paid '{{\"amount\": 0}}' --key o-17"
    assert run.explain().command == run.explain("paid").command == command
    delivery = world.signal(run, "paid", Payment(amount=5), key="o-17", id="evt-1")
    assert (delivery.delivered, delivery.step) == (True, "paid")
    assert run.result() == "o-17 for 5"
    assert world.signal(run, "paid", {"amount": 5}, key="o-17", id="evt-1").duplicate


def test_nobody_pays(world: World) -> None:
    run = world.start(checkout, order="o-17")
    world.advance(days=3)
    assert run.status == "failed"
    assert run.skipped == {"ship": "paid failed, `run_after` asks for succeeded"}
    with pytest.raises(RunFailed, match="SignalTimeout: signal paid did not come in time"):
        run.result()
    with pytest.raises(SignalTooLate):
        world.signal(run, "paid", Payment(amount=5), key="o-17")


def test_what_a_program_sends_is_checked(world: World) -> None:
    run = world.start(checkout, order="o-17")
    with pytest.raises(SignalInvalid, match="does not fit"):
        world.signal(run, "paid", {"amount": "much"}, key="o-17")
    with pytest.raises(SignalNotFound, match="did you mean `paid`"):
        world.signal(run, "payd", Payment(amount=5))
    assert world.signal(run, "paid", Payment(amount=5), key="another order").kept
    assert run.status == "waiting"


def test_somebody_is_asked_and_answers(world: World) -> None:
    run = world.start(refund, amount=5)
    (asked,) = world.client.approvals("finance")
    assert (asked.id, asked.title, asked.show) == (f"{run.id}/said", "Refund", {"amount": 5})
    assert world.client.approvals("somebody else") == []
    assert run.waiting["said"].startswith("Step said waits for an answer of finance until 2026-01-03")
    assert run.explain().command == f"orchestrator approval answer {run.id}/said '{{\"ok\": true}}'"
    with pytest.raises(SignalInvalid):
        world.answer(run, "said", {"ok": "perhaps"})
    assert world.answer(run, "said", Verdict(ok=True), by="ada").delivered
    assert run.result() == "True by ada"
    found = run.handle.approval("said")
    assert (found.status, found.answered_by) == ("succeeded", "ada")
    assert world.client.approvals() == []


def test_the_second_answer_is_told_who_was_first(world: World) -> None:
    @flow
    def two(amount: int) -> list[Any]:
        return [
            approval(Verdict, title="Refund", to="finance", key="said"),
            approval(Verdict, title="Ship", to="store", key="other", after=["said"]),
        ]

    run = world.start(two, amount=5)
    with pytest.raises(ApprovalNotOpen):
        world.answer(run, "other", Verdict(ok=True))
    with pytest.raises(ApprovalNotFound):
        world.answer(run, "nobody", Verdict(ok=True))
    world.answer(run, "said", Verdict(ok=True), by="ada")
    with pytest.raises(SignalTaken, match=r"'Refund' of run .* was answered already by ada at") as second:
        world.answer(run, "said", Verdict(ok=False), by="bob")
    assert second.value.by == "ada"


def test_the_second_answer_is_told_who_was_first_when_the_run_has_ended(world: World) -> None:
    run = world.start(refund, amount=5)
    world.answer(run, "said", Verdict(ok=True), by="ada")
    assert run.status == "succeeded"
    with pytest.raises(SignalTaken, match=r"was answered already by ada at") as second:
        world.answer(run, "said", Verdict(ok=False), by="bob")
    assert second.value.by == "ada"


def test_an_answer_to_a_run_that_ended_without_one_is_too_late(world: World) -> None:
    run = world.start(refund, amount=5)
    run.cancel()
    with pytest.raises(SignalTooLate, match=r"has ended: cancelled\. Fix: retry it or run it again"):
        world.answer(run, "said", Verdict(ok=True))


def test_a_signal_to_a_run_that_has_succeeded_is_not_told_to_retry_it(world: World) -> None:
    run = world.start(refund, amount=5)
    world.answer(run, "said", Verdict(ok=True), by="ada")
    with pytest.raises(SignalTooLate, match=r"has ended: succeeded\. Fix: run it again"):
        world.signal(run, "said", {"ok": True})


def test_a_refusal_is_an_answer(world: World) -> None:
    run = world.start(refund, amount=5)
    world.answer(run, "said", Verdict(ok=False), by="ada")
    assert run.steps["said"] == "succeeded"
    assert run.result() == "False by ada"


def test_nobody_answers(world: World) -> None:
    run = world.start(refund, amount=5)
    late = world.start(late_refund)
    world.advance(days=3)
    assert run.status is RunStatus.FAILED
    with pytest.raises(RunFailed, match="ApprovalTimeout: nobody answered in time"):
        run.result()
    assert late.result() == "False by None"


def test_a_rerun_keeps_an_answer_and_who_gave_it(world: World) -> None:
    run = world.start(refund, amount=5)
    world.answer(run, "said", Verdict(ok=True), by="ada")
    again = run.rerun(book)
    assert again.result() == "True by ada"
    assert again.handle.approval("said").answered_by == "ada"
    assert world.client.approvals() == []
