"""What operators do to flows and schedules is in the audit, in the commit that does it, with what was before."""

from typing import Any

import pytest
from sqlalchemy import Connection
from starlette.testclient import TestClient

from orchestrator import Cron, flow
from orchestrator.client import Client
from orchestrator.core.access import Actor
from orchestrator.engine.access import audit
from orchestrator.engine.flows import register
from orchestrator.errors import Unavailable
from orchestrator.ledger import access
from orchestrator.settings import Settings
from tests.http.access import bearer, key, served
from tests.support.small_flows import greet

PLACE = "/api/schedules/regular/cron"


@flow(schedules=[Cron("0 3 * * *")])
def regular(name: str = "x") -> str:
    return greet(name)


@pytest.fixture
def stack(stack: Client) -> Client:
    register.register(stack.ledger, regular.manifest)
    return stack


def told(stack: Client) -> list[tuple[Any, ...]]:
    """What was done, the last first: action, target, before, after, why."""
    rows = [row for row in audit.listed(stack.ledger) if row.action.partition(".")[0] in {"flow", "schedule"}]
    return [(row.action, row.target, row.was, row.became, row.reason) for row in rows]


def test_a_switch_tells_what_was_before(api: TestClient, stack: Client) -> None:
    api.post("/api/flows/hello/disable", json={"reason": "moving"})
    api.post("/api/flows/hello/enable")
    on, off = {"enabled": True, "reason": None}, {"enabled": False, "reason": "moving"}
    assert told(stack) == [
        ("flow.enable", "flow/hello", off, on, None),
        ("flow.disable", "flow/hello", on, off, "moving"),
    ]


def test_a_change_of_a_schedule_tells_what_was_before(api: TestClient, stack: Client) -> None:
    api.post(f"{PLACE}/pause", json={"reason": "inventory"})
    tag = api.get(PLACE).headers["ETag"]
    rule = {"cron": "0 6 * * *", "zone": "Europe/Paris"}
    assert api.put(f"{PLACE}/cron", json=rule, headers={"If-Match": tag}).status_code == 200
    api.delete(f"{PLACE}/cron")
    api.post(f"{PLACE}/resume")
    api.post(f"{PLACE}/resume")  # it does nothing, and is not kept
    plain = {"paused": False, "pause_reason": None, "expression": None, "zone": None}
    paused = {**plain, "paused": True, "pause_reason": "inventory"}
    moved = {**paused, "expression": "0 6 * * *", "zone": "Europe/Paris"}
    target = "schedule/regular/cron"
    assert told(stack) == [
        ("schedule.resume", target, paused, plain, None),
        ("schedule.reset", target, moved, paused, None),
        ("schedule.set", target, paused, moved, None),
        ("schedule.pause", target, plain, paused, "inventory"),
    ]


def test_the_audit_says_who_with_which_key_from_where(settings: Settings, stack: Client) -> None:
    with served(settings) as door:
        headers = {**bearer(key(stack, name="ada")), "X-Request-Id": "r-1"}
        for path in ("/api/flows/hello/disable", f"{PLACE}/pause"):
            assert door.post(path, headers=headers).status_code == 200
    for row in audit.listed(stack.ledger)[:2]:
        assert (row.actor, row.address, row.request_id) == ("key:ada", "192.0.2.7", "r-1")
        assert row.key_id is not None


def test_what_commands_and_programs_do_is_kept_too(stack: Client) -> None:
    stack.flows.disable("hello", by="ann", reason="moving")
    stack.schedule("regular").pause("inventory", by=Actor("bob", address="192.0.2.9"))
    rows = audit.listed(stack.ledger)
    assert [(row.actor, row.action, row.address) for row in rows] == [
        ("bob", "schedule.pause", "192.0.2.9"),
        ("ann", "flow.disable", None),
    ]


@pytest.mark.parametrize("path", ["/api/flows/hello/disable", f"{PLACE}/pause"])
def test_without_its_row_in_the_audit_nothing_is_done(
    api: TestClient, stack: Client, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def lost(tx: Connection, *_: object) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(access, "audit", lost)
    assert api.post(path).status_code == 503
    assert stack.flows.get("hello").enabled
    assert stack.schedule("regular").row().paused_at is None
