"""Many runs at once over HTTP, and the end of one run."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from orchestrator.client import Client
from orchestrator.core.access import Role
from orchestrator.engine.operations import work
from orchestrator.settings import Settings
from tests.http.access import bearer, key, served

GRACE = timedelta(seconds=1)
SOME = "01900000-0000-7000-8000-000000000001"


def begun(stack: Client, count: int) -> list[str]:
    return [str(stack.start("hello", name=f"n{n}", tags=("t",)).id) for n in range(count)]


def make(api: TestClient, code: int = 202, headers: dict[str, str] | None = None, **asked: Any) -> Any:
    answer = api.post("/api/operations", json={"reason": "a bad deploy", **asked}, headers=headers or {})
    assert answer.status_code == code, answer.text
    return answer


def kept(stack: Client) -> None:
    """What keepers do."""
    while work.page(stack.ledger, GRACE).more:
        pass


def test_an_operation_is_foreseen_made_followed_and_told(api: TestClient, stack: Client) -> None:
    made = begun(stack, 3)
    stack.run(made[0]).cancel()
    plan = make(api, 200, action="cancel", q="tag:t", dry_run=True).json()
    assert (plan["affected"], plan["left_out"]) == (2, {"ended": 1})
    answer = make(api, action="cancel", q="tag:t", token=plan["token"])
    place = answer.headers["Location"]
    assert place == f"/api/operations/{answer.json()['id']}"
    row = api.get(place).json()
    assert (row["state"], row["total"], row["foreseen"], row["counts"]) == ("running", 2, 2, {"pending": 2})
    kept(stack)
    row = api.get(place).json()
    assert (row["state"], row["counts"]) == ("completed", {"done": 2})
    first = api.get(f"{place}/outcomes?limit=1&outcome=done").json()
    second = api.get(f"{place}/outcomes?limit=1&outcome=done&cursor={first['next']}").json()
    assert [one["run_id"] for one in (*first["items"], *second["items"])] == made[1:]
    assert second["next"] is None
    assert api.get(f"/api/runs/{made[1]}").json()["status"] == "cancelled"


def test_an_operation_is_paused_resumed_and_cancelled(api: TestClient, stack: Client) -> None:
    begun(stack, 2)
    place = make(api, action="cancel", q="tag:t").headers["Location"]
    assert api.post(f"{place}/pause").json()["state"] == "paused"
    kept(stack)
    assert api.post(f"{place}/resume").json()["counts"] == {"pending": 2}
    assert api.get("/api/operations?open=1").json()["items"][0]["state"] == "running"
    assert api.post(f"{place}/cancel").json()["state"] == "cancelled"
    assert api.get("/api/operations?open=1").json()["items"] == []
    refused = api.post(f"{place}/resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


def test_operations_are_listed_in_pages(api: TestClient, stack: Client) -> None:
    begun(stack, 1)
    made = [make(api, action="cancel", q="tag:t").json()["id"] for _ in range(3)]
    page = api.get("/api/operations?limit=2").json()
    rest = api.get(f"/api/operations?limit=2&cursor={page['next']}").json()
    assert [one["id"] for one in (*page["items"], *rest["items"])] == made[::-1]


def test_a_key_makes_one_operation(api: TestClient, stack: Client) -> None:
    begun(stack, 1)
    headers = {"Idempotency-Key": "k"}
    first = make(api, headers=headers, action="cancel", q="tag:t age<1d")
    again = make(api, 200, headers=headers, action="cancel", q="tag:t age<1d")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    other = make(api, 422, headers=headers, action="delete", q="tag:t age<1d")
    assert other.json()["code"] == "idempotency_conflict"


def test_named_runs_each_have_an_outcome(api: TestClient, stack: Client) -> None:
    (run,) = begun(stack, 1)
    gone = str(uuid4())
    place = make(api, action="cancel", ids=[run, gone]).headers["Location"]
    kept(stack)
    outcomes = {one["run_id"]: one["outcome"] for one in api.get(f"{place}/outcomes").json()["items"]}
    assert outcomes == {run: "done", gone: "left_out"}


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"action": "cancel"}, 400, "usage"),
        ({"action": "cancel", "q": "tag:t", "ids": [SOME]}, 400, "usage"),
        ({"action": "cancel", "q": "tag:t", "reason": ""}, 400, "usage"),
        ({"action": "cancel", "q": "tag:t", "token": "nonsense"}, 400, "usage"),
        ({"action": "cancel", "q": "tag:t", "force": True}, 400, "usage"),
        ({"action": "cancel", "q": "statos:t"}, 400, "query"),
        ({"action": "cancel", "q": "flow:none"}, 404, "flow_not_found"),
        ({"action": "explode", "q": "tag:t"}, 422, "body_invalid"),
        ({"action": "cancel", "ids": ["x"]}, 422, "body_invalid"),
        ({"action": "cancel", "ids": []}, 422, "body_invalid"),
        ({"action": "cancel", "q": "tag:t", "colour": "red"}, 422, "body_invalid"),
    ],
    ids=str,
)
def test_what_does_not_fit_makes_nothing(
    api: TestClient, stack: Client, asked: dict[str, Any], status: int, code: str
) -> None:
    begun(stack, 1)
    assert make(api, status, **asked).json()["code"] == code
    assert stack.operations() == []


def test_whoever_deletes_many_runs_is_an_admin(settings: Settings, stack: Client) -> None:
    begun(stack, 1)
    asked = {"action": "delete", "q": "tag:t", "reason": "x"}
    with served(settings) as door:
        for role, status in ((Role.VIEWER, 403), (Role.OPERATOR, 403), (Role.ADMIN, 202)):
            answer = door.post("/api/operations", json=asked, headers=bearer(key(stack, role)))
            assert answer.status_code == status
        cancelling = door.post(
            "/api/operations", json={**asked, "action": "cancel"}, headers=bearer(key(stack, Role.OPERATOR))
        )
        assert cancelling.status_code == 202
    assert [row.action for row in stack.operations()] == ["cancel", "delete"]


def test_a_run_that_ended_is_deleted(api: TestClient, stack: Client) -> None:
    (run,) = begun(stack, 1)
    refused = api.delete(f"/api/runs/{run}")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    stack.run(run).cancel()
    assert api.delete(f"/api/runs/{run}?reason=of+a+test").status_code == 204
    assert api.get(f"/api/runs/{run}").status_code == 404
    assert api.delete(f"/api/runs/{run}").status_code == 404
    assert api.get(f"/api/operations/{uuid4()}").json()["code"] == "operation_not_found"
