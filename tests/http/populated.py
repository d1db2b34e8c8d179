"""A ledger with something of everything in it, for tests that ask all routes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from pydantic import BaseModel

from orchestrator import Cron, Schedule, Secret, Webhook, approval, env, flow, step
from orchestrator.client import Client
from orchestrator.core.access import Role
from orchestrator.core.subscriptions import Wanted
from orchestrator.engine.access import users
from orchestrator.engine.flows import register
from tests.http.access import ROOT, key
from tests.support import play
from tests.support.small_flows import fan, hello, numbers

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "openapi.json"
"""Every route there is: `test_document` holds it to the code."""
WEBHOOK_SECRET: Final = "POPULATED_WEBHOOK_SECRET"
PIN: Final = "zebra-crossing-4711"
"""A secret input: no answer may have it."""


class Verdict(BaseModel):
    ok: bool
    why: str = ""


@step
def shipped(customer: int, pin: Secret[str], said: Verdict) -> int:
    return customer if said.ok else 0


@flow(search=["customer"])
def order(customer: int, pin: Secret[str]) -> int:
    return shipped(customer, pin, approval(Verdict, title="Ship it?", to="operator"))


@flow(
    schedules=[Schedule(Cron("30 2 * * *"), key="nightly")],
    webhooks=[Webhook("counts", scheme="generic", secret=env(WEBHOOK_SECRET), input={"count": 1})],
)
def nightly(count: int = 1) -> list[int]:
    return numbers(count)


@dataclass(frozen=True)
class Populated:
    """What is there, by the names that the document gives to parameters of paths."""

    places: Mapping[str, list[str]]
    open_run: UUID
    ended_run: UUID
    failed_run: UUID
    waiting_run: UUID


def populate(stack: Client) -> Populated:
    """Runs that are open, waiting, failed, cancelled and ended; schedules, a webhook with deliveries, an operation,
    keys and users."""
    for one in (hello, fan, order, nightly):
        register.register(stack.ledger, one.manifest)
    open_run, ended, failed, cancelled = (stack.start("hello", name=f"n{n}", tags=("t",)).id for n in range(4))
    play.finish_hello(stack.ledger, ended)
    play.fail(stack.ledger, failed, "greet", "no such name: 17")
    stack.run(cancelled).cancel("enough", by="me")
    waiting = stack.start("order", customer=7, pin=PIN).id
    looped = stack.start("fan", count=3).id
    play.succeed(stack.ledger, looped, "numbers", [0, 1, 2])
    operation = stack.operate("cancel", q="flow:fan", reason="too many", by="me").id
    key(stack, Role.VIEWER, name="reader")
    users.create(stack.ledger, "ann", Role.VIEWER, "four plain words here", ROOT)
    wanted = Wanted(address="https://crm.example.com/hook", types=("run.failed",), secret="env:CRM_SECRET")
    stack.subscriptions.create("crm", wanted, by=ROOT)
    notification = stack.subscriptions.test("crm", by=ROOT)
    return Populated(
        {
            "flow": ["hello", "fan", "order", "nightly"],
            "run_id": [str(one) for one in (open_run, ended, failed, cancelled, waiting, looped)],
            "step": ["greet", "measure", "numbers", "approval", "double[1]"],
            "key": ["nightly", "reader"],
            "name": ["ann", "approval"],
            "operation_id": [str(operation)],
            "slug": ["counts"],
            "subscription": ["crm"],
            "notification": [str(notification)],
            "hash": [hello.manifest.hash],
            "code": ["run_not_found"],
        },
        open_run,
        ended,
        failed,
        waiting,
    )
