"""Sending signals, and answering what runs ask."""

import re
from uuid import UUID

from pydantic import BaseModel

from orchestrator import approval, block, each, flow, wait_for_signal
from orchestrator.client import Client
from tests.cli.conftest import Cli
from tests.cli.ways import Author


class Payment(BaseModel):
    amount: int


class Verdict(BaseModel):
    ok: bool
    why: str = ""


@flow
def deal(order: str) -> list[object]:
    paid = wait_for_signal(Payment, name="paid", key=order, timeout="2d")
    return [
        paid,
        approval(Verdict, title="Ship it?", to="operator", show={"order": order}, within="4h", after=["paid"]),
    ]


def started(stack: Client) -> UUID:
    return stack.start(deal, order="o-17").id


def test_run_signal_says_what_became_of_it(cli: Cli, stack: Client, author: Author) -> None:
    run = str(started(stack))
    shown = cli("run", "show", run).out
    assert "for signal paid with key o-17 until" in shown
    explained = cli("run", "explain", run)
    assert f"Next: orchestrator run signal {run} paid '{{\"amount\": 0}}' --key o-17" in explained.out
    send = ("run", "signal", run, "paid", '{"amount": 5}')
    assert "waiting now: 'o-17'" in cli(*send, code=3).err
    assert "Kept until the run ends" in cli(*send, "--key", "another").out
    assert cli(*send, "--key", "o-17", "--id", "evt-1", *author.by("ann")).out.startswith(
        "Delivered: step paid took it"
    )
    again = cli(*send, "--key", "o-17", "--id", "evt-1", "-o", "json").json
    assert (again["duplicate"], again["step"]) == (True, "paid")
    assert "signal_taken" in cli(*send, "--key", "o-17", code=7).err
    assert "did you mean `paid`" in cli("run", "signal", run, "payd", "1", code=3).err
    assert "does not fit" in cli("run", "signal", run, "paid", "{}", code=2).err
    assert "not JSON" in cli("run", "signal", run, "paid", "{", code=2).err
    assert f"by={author.recorded('ann')}" in cli("run", "events", run).out


class Order(BaseModel):
    id: str


@block
def deal_one(order: Order) -> Verdict:
    paid = wait_for_signal(Payment, name="paid", key=order.id)
    return approval(Verdict, title=order.id, to="operator", after=[paid])


@flow
def deals(orders: list[Order]) -> list[Verdict]:
    return each(deal_one, orders)


def test_items_of_a_loop_are_named_by_their_rows(cli: Cli, stack: Client) -> None:
    run = str(stack.start(deals, orders=[Order(id="o-1"), Order(id="o-2")]).id)
    explained = cli("run", "explain", f"{run}/deal_one.1.paid").out
    assert "waits for signal paid with key o-2" in explained
    assert f"Next: orchestrator run signal {run} paid '{{\"amount\": 0}}' --key o-2" in explained
    sent = cli("run", "signal", run, "paid", '{"amount": 5}', "--key", "o-2").out
    assert sent.startswith("Delivered: step deal_one.1.paid took it")
    asked = f"{run}/deal_one.1.approval"
    (listed,) = cli("approval", "ls", "-o", "json").json
    assert (listed["id"], listed["title"]) == (asked, "o-2")
    assert f"orchestrator approval answer {asked}" in cli("run", "explain", asked).out
    assert "has not asked yet" in cli("approval", "answer", f"{run}/deal_one.0.approval", '{"ok": true}', code=7).err
    assert "asks nobody" in cli("approval", "answer", f"{run}/deal_one.2.approval", '{"ok": true}', code=3).err
    assert cli("approval", "answer", asked, "-i", "ok=true").out.startswith("Delivered: step deal_one.1.approval")
    cli("run", "signal", run, "paid", '{"amount": 5}', "--key", "o-1")
    cli("approval", "answer", f"{run}/deal_one.0.approval", "-i", "ok=false")
    assert stack.run(run).result(timeout=60) == [{"ok": False}, {"ok": True}]


def test_approvals_are_listed_shown_and_answered(cli: Cli, stack: Client, author: Author) -> None:
    assert cli("approval", "ls").err == "Nobody is asked anything.\n"
    run = str(started(stack))
    asked = f"{run}/approval"
    assert "approval_not_found" in cli("approval", "show", asked, code=3).err
    assert "has not asked yet" in cli("approval", "answer", asked, '{"ok": true}', code=7).err
    stack.run(run).signal("paid", Payment(amount=5), key="o-17")
    assert "Ship it?" in cli("approval", "ls", "--to", "operator").out
    assert cli("approval", "ls", "--to", "nobody", "-o", "json").json == []
    shown = cli("approval", "show", asked, "-o", "json").json
    assert (shown["id"], shown["show"], shown["late"]) == (asked, {"order": "o-17"}, False)
    assert "until" in cli("run", "explain", asked).out
    assert "Fix: one of the two" in cli("approval", "answer", asked, code=2).err
    assert "RUN/STEP" in cli("approval", "answer", run, "1", code=2).err
    assert cli("approval", "answer", asked, "-i", "ok=true", *author.by("ada")).out.startswith(
        "Delivered: step approval"
    )
    assert re.search(rf"answered_by: +{author.recorded('ada')}", cli("approval", "show", asked).out)
    assert stack.run(run).result(timeout=30) == [{"amount": 5}, {"ok": True}]
