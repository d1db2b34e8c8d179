"""What a user with a key that is limited to a flow tries, and what no answer may say."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from orchestrator.client import Client
from orchestrator.settings import Settings
from tests.http.access import UNLIMITED, bearer, key, served
from tests.http.populated import DOCUMENT, PIN, WEBHOOK_SECRET, Populated, populate

ENDLESS = "event_stream"


@pytest.fixture
def there(stack: Client) -> Populated:
    return populate(stack)


@pytest.fixture
def door(settings: Settings, there: Populated, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv(WEBHOOK_SECRET, "x" * 32)
    with served(settings, **UNLIMITED) as made:
        yield made


@pytest.fixture
def limited(stack: Client) -> dict[str, str]:
    """May do everything, in the flow `fan` only."""
    return bearer(key(stack, flows=frozenset({"fan"}), name="limited"))


def ids_of(stack: Client, *flows: str) -> set[str]:
    return {str(row.id) for flow in flows for row in stack.runs(flow=flow)}


FILTERS = [
    "q=flow:hello",
    "q=status:failed",
    "q=-flow:fan",
    "tag=t",
    "tag=small",
    "schedule=nightly/nightly",
    "error=name",
    "status=failed&status=succeeded&status=pending&status=cancelled",
]


def test_no_filter_leads_to_another_flow(door: TestClient, stack: Client, limited: dict[str, str]) -> None:
    others = ids_of(stack, "hello", "order", "nightly")
    assert others
    for path, query in itertools.product(("runs", "runs/errors", "runs/stats", "runs/export"), FILTERS):
        known = "q=flow:hello" if path == "runs/errors" else "" if path == "runs/stats" else query
        answer = door.get(f"/api/{path}?flow=fan&{known}".rstrip("&"), headers=limited)
        assert answer.status_code == 200, (path, answer.text)
        assert not [one for one in others if one in answer.text], path
        assert '"flow":"hello"' not in answer.text
        for named in ("flow=hello", "flow=fan&flow=hello", "flow=hello&flow=fan", "flow=", known or "since=2026-01-01"):
            answer = door.get(f"/api/{path}?{named}", headers=limited)
            assert answer.status_code in (400, 403, 404), (path, named, answer.text)


def test_a_cursor_of_others_leads_nowhere(door: TestClient, stack: Client, limited: dict[str, str]) -> None:
    root = bearer(key(stack, name="all"))
    cursor = door.get("/api/runs?limit=1", headers=root).json()["next"]
    assert door.get(f"/api/runs?limit=1&flow=fan&cursor={cursor}", headers=limited).json()["code"] == "cursor_mismatch"
    assert door.get(f"/api/runs?limit=1&cursor={cursor}", headers=limited).status_code == 403


def test_a_part_of_an_id_tells_no_other_id(
    door: TestClient, stack: Client, there: Populated, limited: dict[str, str]
) -> None:
    """The first characters are a clock, so they mean many runs, of any flow."""
    part = str(there.open_run)[:8]
    others = ids_of(stack, "hello", "order", "nightly")
    assert door.get(f"/api/runs/{part}", headers=bearer(key(stack, name="all"))).status_code == 409
    for path in (f"runs/{part}", f"runs/{part}/events", f"events/stream?flow=fan&run={part}"):
        answer = door.get(f"/api/{path}", headers=limited)
        assert (answer.status_code, answer.json()["code"]) == (404, "run_not_found"), answer.text
        assert not [one for one in others if one in answer.text]
    own = ids_of(stack, "fan").pop()
    assert door.get(f"/api/runs/{own[-12:]}", headers=limited).json()["id"] == own


def test_a_foreign_run_is_as_one_that_there_is_not(door: TestClient, there: Populated, limited: dict[str, str]) -> None:
    foreign, none = str(there.open_run), "01900000-0000-7000-8000-00000000000f"

    def told(run: str, method: str, path: str) -> Any:
        answer = door.request(method, f"/api/runs/{run}{path}", headers=limited)
        return answer.status_code, {**answer.json(), "request_id": ""}, len(answer.headers)

    for method, path in (("GET", ""), ("GET", "/steps/greet"), ("POST", "/cancel"), ("DELETE", "")):
        shown = [json.dumps(told(run, method, path)).replace(run, "RUN") for run in (foreign, none)]
        assert shown[0] == shown[1]


def test_no_answer_has_a_secret_and_every_answer_says_how_long_it_may_be_kept(
    door: TestClient, stack: Client, there: Populated
) -> None:
    headers = bearer(key(stack, name="all"))
    seen = 0
    for path, methods in json.loads(DOCUMENT.read_text("utf-8"))["paths"].items():
        operation = methods.get("get")
        if operation is None or operation["operationId"] == ENDLESS:
            continue
        names = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"]
        for run in there.places["run_id"]:
            filled = path.replace("{run_id}", run)
            for name in names:
                filled = filled.replace(f"{{{name}}}", there.places.get(name, ["none"])[-1])
            for query in ("", "?fields=body"):
                answer = door.get(f"{filled}{query}", headers=headers)
                assert PIN not in answer.text, filled
                assert answer.headers["Cache-Control"] in ("no-store", "private, max-age=31536000, immutable"), filled
                seen += answer.status_code == 200
            if "{run_id}" not in path:
                break
    assert seen > 60


def test_what_others_say_is_in_no_header(door: TestClient, stack: Client, there: Populated) -> None:
    headers = bearer(key(stack, name="all"))
    for text in ("a\nb", "a\r\nSet-Cookie: x=y", "\x1b[2J", "\u2028", "a b=c"):
        answer = door.post(f"/api/runs/{there.open_run}/cancel", json={"reason": text}, headers=headers)
        assert answer.status_code == 202
        assert "set-cookie" not in answer.headers
        for params in ({"tag": text}, {"flow": text}, {"q": text}, {"key": text}):
            answer = door.get("/api/runs", params={**params, "limit": 1}, headers=headers)
            assert answer.status_code in (200, 400, 404)
            assert "set-cookie" not in answer.headers
            assert answer.headers.get("Link", "").isprintable()


def test_a_run_that_was_deleted_is_nowhere(door: TestClient, stack: Client) -> None:
    """Started, shown, cancelled, retried, cancelled again, deleted: then every route about it knows none."""
    headers = bearer(key(stack, name="all"))
    started = door.post("/api/flows/hello/trigger", json={"name": "you"}, headers=headers)
    place = started.headers["Location"]
    assert door.get(place, headers=headers).json()["status"] == "pending"
    assert door.delete(place, headers=headers).status_code == 409, "it has not ended"
    assert door.post(f"{place}/cancel", headers=headers).json()["status"] == "cancelled"
    assert door.post(f"{place}/retry", headers=headers).status_code in (202, 409)
    assert door.post(f"{place}/cancel", headers=headers).status_code in (202, 409)
    assert door.delete(place, headers=headers).status_code == 204
    for path, methods in json.loads(DOCUMENT.read_text("utf-8"))["paths"].items():
        if path.startswith(("/api/runs/{run_id}", "/api/approvals/{run_id}")):
            filled = path.replace("{run_id}", started.json()["id"]).replace("{step}", "greet").replace("{name}", "x")
            body = {"reason": "x", "output": 1} if path.endswith("/mark") else {"reason": "x"}
            for method in methods:
                sent = {"json": body} if "requestBody" in methods[method] and not path.endswith("/retry") else {}
                answer = door.request(method, filled, headers=headers, **sent)
                assert answer.status_code == 404, (method, path, answer.text)
