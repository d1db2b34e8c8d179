"""Subscriptions over HTTP: who may, what is answered, what is not shown."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from orchestrator.client import Client
from orchestrator.core.access import Role
from orchestrator.settings import Settings
from tests.http.access import bearer, key, served

NEW: dict[str, Any] = {
    "name": "crm",
    "address": "https://crm.example.com/hook?token=x",
    "types": ["run.failed"],
    "q": "flow:hello",
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return Settings.model_validate({**dict(settings), "signing_key": "k" * 40})


def test_a_secret_is_answered_once(api: TestClient) -> None:
    made = api.post("/api/subscriptions", json=NEW)
    assert made.status_code == 201
    assert made.json()["secret"].startswith("whsec_")
    assert made.headers["cache-control"] == "no-store"
    shown = api.get("/api/subscriptions/crm").json()["shown"]
    assert (shown["secret"], shown["address"]) == ("made:1", "https://crm.example.com/hook?…")
    assert api.post("/api/subscriptions/crm/rotate").json()["shown"]["secret"] == "made:2"
    rows = api.get("/api/audit").text
    assert "token=x" not in rows
    assert made.json()["secret"] not in rows


def test_what_does_not_fit_says_where(api: TestClient) -> None:
    refused = api.post("/api/subscriptions", json={**NEW, "types": ["run.faild"]})
    assert refused.status_code == 422
    assert "did you mean `run.failed`" in refused.text
    assert api.post("/api/subscriptions", json={**NEW, "address": "http://10.0.0.1/"}).status_code == 400
    assert api.post("/api/subscriptions", json={**NEW, "typs": []}).status_code in (400, 422)
    assert api.get("/api/subscriptions/crm").status_code == 404
    assert api.get("/api/notifications/none").status_code == 404


def test_a_change_leaves_the_rest(api: TestClient) -> None:
    api.post("/api/subscriptions", json=NEW)
    changed = api.patch("/api/subscriptions/crm", json={"types": ["run.failed", "run.timed_out"]}).json()
    assert (changed["q"], changed["types"]) == ("flow:hello", ["run.failed", "run.timed_out"])
    assert api.patch("/api/subscriptions/crm", json={"enabled": False}).json()["enabled"] is False
    assert api.post("/api/subscriptions/crm/test").status_code == 409
    assert api.delete("/api/subscriptions/crm", params={"reason": "moved"}).json()["name"] == "crm"


def test_only_an_admin_says_what_goes_out(settings: Settings, stack: Client) -> None:
    with served(settings) as door:
        operator, admin = (bearer(key(stack, role)) for role in (Role.OPERATOR, Role.ADMIN))
        assert door.post("/api/subscriptions", json=NEW, headers=operator).status_code == 403
        assert door.post("/api/subscriptions", json=NEW, headers=admin).status_code == 201
        assert door.get("/api/subscriptions", headers=operator).status_code == 200
        sent = door.post("/api/subscriptions/crm/test", headers=operator)
        assert sent.status_code == 202
        (row,) = door.get("/api/notifications", params={"state": "pending"}, headers=operator).json()["items"]
        assert row["id"] == sent.json()["id"]
        refused = door.post(f"/api/notifications/{row['id']}/redrive", headers=operator)
        assert refused.status_code == 409
