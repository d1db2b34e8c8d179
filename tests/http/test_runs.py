"""Runs over HTTP: start, read, wait, operate."""

import json
import threading
from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from orchestrator import Cron, Every, Secret, after, flow, sleep, step
from orchestrator.client import Client
from orchestrator.core.access import Role
from orchestrator.engine.access import audit
from orchestrator.engine.flows import register
from orchestrator.errors import Unavailable
from orchestrator.ledger.access import AuditFilter
from orchestrator.settings import Settings
from tests.http.access import bearer, key, served
from tests.support import play
from tests.support.eventually import eventually
from tests.support.race import Later
from tests.support.small_flows import greet


def start(api: TestClient, **more: Any) -> UUID:
    answer = api.post("/api/flows/hello/trigger", json={"name": "you"}, **more)
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["id"])


def test_a_run_is_started_read_and_ends(api: TestClient, stack: Client) -> None:
    answer = api.post("/api/flows/hello/trigger?tag=a&tag=b", json={"name": "you"})
    assert answer.status_code == 201
    assert answer.json() | {"id": ""} == {
        "id": "",
        "flow": "hello",
        "status": "pending",
        "created": True,
        "output": None,
        "error": None,
    }
    place = answer.headers["Location"]
    assert place == f"/api/runs/{answer.json()['id']}"
    row = api.get(place).json()
    assert (row["flow"], row["tags"], row["body"], row["status"]) == (
        "hello",
        ["small", "a", "b"],
        {"name": "you", "times": 1},
        "pending",
    )
    play.finish_hello(stack.ledger, UUID(row["id"]))
    assert api.get(place).json()["status"] == "succeeded"
    assert api.get(f"{place}/output").json() == {"value": {"text": "hello you", "length": 9}, "masked": False}
    assert api.get(f"{place}/steps/greet").json()["step"]["status"] == "succeeded"
    assert [one["key"] for one in api.get(f"{place}/steps").json()["items"]] == ["greet", "measure"]
    assert api.get(f"{place}/events").json()["items"][0]["type"] == "run.accepted"


def test_the_input_may_come_without_a_content_type(api: TestClient) -> None:
    answer = api.post("/api/flows/hello/trigger", content=b'{"name": "you"}')
    assert answer.status_code == 201


def test_a_key_gives_the_first_run_again_quoted_or_bare(api: TestClient) -> None:
    first = start(api, headers={"Idempotency-Key": "k"})
    again = api.post("/api/flows/hello/trigger", json={"name": "you"}, headers={"Idempotency-Key": '"k"'})
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert UUID(again.json()["id"]) == first
    assert again.json()["created"] is False
    other = api.post("/api/flows/hello/trigger", json={"name": "me"}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")


def test_what_waits_is_told_the_end_and_holds_no_thread(api: TestClient, stack: Client) -> None:
    """More wait than there are threads; and others are answered meanwhile."""
    run = start(api)
    found: list[Any] = []
    waiting = [
        threading.Thread(target=lambda: found.append(api.get(f"/api/runs/{run}?wait=50s").json()["status"]))
        for _ in range(12)
    ]
    for one in waiting:
        one.start()
    assert api.get(f"/api/runs/{run}").json()["status"] == "pending"
    play.finish_hello(stack.ledger, run)
    for one in waiting:
        one.join(60)
    assert found == ["succeeded"] * 12


def test_a_start_waits_for_the_end(api: TestClient) -> None:
    answer = api.post("/api/flows/hello/trigger?wait=0.2", json={"name": "you"})
    assert (answer.status_code, answer.json()["status"], answer.json()["output"]) == (201, "pending", None)


def test_lists_have_pages_bound_to_their_query(api: TestClient, stack: Client) -> None:
    runs = [str(start(api)) for _ in range(5)]
    first = api.get("/api/runs?limit=2&flow=hello&count=1")
    assert ([one["id"] for one in first.json()["items"]], first.json()["count"]) == (runs[:2:-1], 5)
    assert first.json()["items"][0]["body"] is None
    link = first.headers["Link"]
    second = api.get(link[1 : link.index(">")])
    assert [one["id"] for one in second.json()["items"]] == [runs[2], runs[1]]
    cursor = second.json()["next"]
    last = api.get(f"/api/runs?flow=hello&limit=2&cursor={cursor}").json()
    assert ([one["id"] for one in last["items"]], last["next"]) == ([runs[0]], None)
    other = api.get(f"/api/runs?limit=2&cursor={cursor}")
    assert (other.status_code, other.json()["code"]) == (400, "cursor_mismatch")
    assert api.get("/api/runs?cursor=nonsense").json()["code"] == "cursor_invalid"
    assert api.get("/api/runs?fields=body&limit=1").json()["items"][0]["body"] == {"name": "you", "times": 1}


def test_runs_are_chosen_by_a_query(api: TestClient, stack: Client) -> None:
    failed, cancelled, open_ = start(api), start(api), start(api)
    play.fail(stack.ledger, failed, "greet")
    stack.run(cancelled).cancel("enough", by="me")

    def found(path: str) -> list[UUID]:
        return [UUID(one["id"]) for one in api.get(path).json()["items"]]

    assert found("/api/runs/active") == [open_]
    assert found("/api/runs?status=failed&status=cancelled") == [cancelled, failed]
    assert found("/api/runs?q=flow:hello%20status:failed") == [failed]
    wrong = api.get("/api/runs?q=statu:failed")
    assert (wrong.status_code, wrong.json()["code"]) == (400, "query")


def test_a_tag_saves_the_answer(api: TestClient, stack: Client) -> None:
    run = start(api)
    tag = api.get(f"/api/runs/{run}").headers["ETag"]
    same = api.get(f"/api/runs/{run}", headers={"If-None-Match": tag})
    assert (same.status_code, same.content) == (304, b"")
    play.finish_hello(stack.ledger, run)
    assert api.get(f"/api/runs/{run}", headers={"If-None-Match": tag}).status_code == 200


def test_runs_are_cancelled_retried_and_run_again(api: TestClient, stack: Client) -> None:
    run = start(api)
    assert api.post(f"/api/runs/{run}/cancel", json={"reason": "enough"}).json()["status"] == "cancelled"
    assert api.get(f"/api/runs/{run}/control").json()["cancel_reason"] == "enough"
    failed = start(api)
    play.fail(stack.ledger, failed, "greet")
    assert "boom" in api.get(f"/api/runs/{failed}/explain").json()["sentence"]
    gone = api.get(f"/api/runs/{failed}/output")
    assert (gone.status_code, gone.json()["code"]) == (409, "run_failed")
    assert api.post(f"/api/runs/{failed}/retry").json()["status"] == "running"
    foreseen = api.post(f"/api/runs/{run}/rerun", json={"dry_run": True})
    assert (foreseen.status_code, foreseen.json()["again"]) == (200, ["greet", "measure"])
    again = api.post(f"/api/runs/{run}/rerun")
    assert again.status_code == 201
    assert stack.run(again.json()["id"]).row().source == run
    assert api.get(f"/api/runs/{run}/tree").json()["children"] == []


def test_steps_are_skipped_and_marked(api: TestClient, stack: Client) -> None:
    run = start(api)
    done = api.post(f"/api/runs/{run}/steps/greet/mark", json={"output": "hi", "reason": "by hand"})
    assert done.status_code == 202, done.text
    assert api.get(f"/api/runs/{run}/steps/greet/output").json() == {"value": "hi", "masked": False}
    assert api.post(f"/api/runs/{run}/steps/measure/skip", json={"reason": "not needed"}).status_code == 202
    assert api.post(f"/api/runs/{run}/steps/measure/skip", json={}).status_code == 422


def test_many_are_started_in_one_commit(api: TestClient, stack: Client) -> None:
    batch = {"inputs": [{"name": "a"}, {"name": "b"}], "idempotency_keys": ["1", "2"]}
    first = api.post("/api/flows/hello/trigger/batch", json=batch).json()["items"]
    assert [one["created"] for one in first] == [True, True]
    again = api.post("/api/flows/hello/trigger/batch", json=batch).json()["items"]
    assert again == [one | {"created": False} for one in first]
    wrong = api.post("/api/flows/hello/trigger/batch", json={"inputs": [{"name": "a"}, {"name": 1}]})
    assert wrong.status_code == 422
    assert stack.count_runs(flow="hello") == 2


@pytest.mark.parametrize("language", ["mermaid", "dot", "tree"])
def test_runs_and_flows_are_drawn(api: TestClient, language: str) -> None:
    run = start(api)
    assert "greet" in api.get(f"/api/runs/{run}/graph?language={language}").text
    assert "greet" in api.get(f"/api/flows/hello/graph?language={language}").text


@pytest.mark.parametrize("path", ["", "?wait=5s"])
def test_an_unknown_run_is_not_found_whoever_waits(api: TestClient, path: str) -> None:
    for name in (str(uuid4()), "ffffffff"):
        answer = api.get(f"/api/runs/{name}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "run_not_found")


@flow
def napping() -> str:
    with after(sleep("1h")):
        return greet("you")


def test_a_run_that_begins_with_a_wait_is_told_as_it_stands(api: TestClient, stack: Client) -> None:
    register.register(stack.ledger, napping.manifest)
    started = api.post("/api/flows/napping/trigger").json()
    assert started["status"] == api.get(f"/api/runs/{started['id']}").json()["status"] == "waiting"
    later = api.post("/api/flows/napping/trigger?start_after=1h").json()
    assert later["status"] == api.get(f"/api/runs/{later['id']}").json()["status"] == "pending"


@step
def issue(name: str) -> Secret[str]:
    return Secret(f"key of {name}")


@flow
def issued(name: str) -> dict[str, Secret[str]]:
    return {"key": issue(name)}


def test_secrets_are_told_to_who_may_see_them_and_kept_in_the_audit(settings: Settings, stack: Client) -> None:
    register.register(stack.ledger, issued.manifest)
    run = stack.start(issued, name="ann")
    play.succeed(stack.ledger, run.id, "issue", "key of ann")
    place = f"/api/runs/{run.id}"
    step_place = f"{place}/steps/issue/output"
    with served(settings) as door:
        operator, admin = bearer(key(stack, Role.OPERATOR)), bearer(key(stack, name="root"))
        shown = door.get(f"{place}/output", headers=operator).json()
        assert shown == {"value": {"key": "***"}, "masked": True}
        assert door.get(step_place, headers=operator).json() == {"value": "***", "masked": True}
        for path in (f"{place}/output", step_place):
            assert door.post(f"{path}/reveal", headers=operator).status_code == 403
        assert audit.listed(stack.ledger, AuditFilter(action="run.reveal")) == []
        told = door.post(f"{place}/output/reveal", headers=admin, json={"reason": "lost"}).json()
        assert told == {"value": {"key": "key of ann"}, "masked": False}
        assert door.post(f"{step_place}/reveal", headers=admin).json()["value"] == "key of ann"
    rows = audit.listed(stack.ledger)[:2]
    assert [(row.actor, row.action, row.target, row.reason) for row in rows] == [
        ("key:root", "step.reveal", f"runs/{run.id}/steps/issue/output", None),
        ("key:root", "run.reveal", f"runs/{run.id}/output", "lost"),
    ]


def test_no_secret_is_told_when_the_audit_cannot_be_written(
    api: TestClient, stack: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    register.register(stack.ledger, issued.manifest)
    run = stack.start(issued, name="ann")
    play.succeed(stack.ledger, run.id, "issue", "key of ann")

    def lost(*_: object, **__: object) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(audit, "keep", lost)
    refused = api.post(f"/api/runs/{run.id}/output/reveal")
    assert refused.status_code == 503
    assert "key of ann" not in refused.text


def test_an_export_is_lines(api: TestClient, stack: Client) -> None:
    run = stack.start("hello", name="you", tags=["t"])
    stack.start("fan", count=1)
    answer = api.get("/api/runs/export?flow=hello")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line) for line in answer.text.splitlines()] == list(stack.all_records(flow="hello"))
    assert str(run.id) in answer.text
    assert api.get("/api/runs/export?flow=nothing").json()["code"] == "flow_not_found"
    assert api.get("/api/runs/export?tag=none").text == ""


def test_the_trace_of_a_request_is_kept_with_its_runs(api: TestClient) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    traced = {"traceparent": parent, "tracestate": "a=b"}
    run = start(api, headers=traced)
    assert api.get(f"/api/runs/{run}").json()["trace_context"] == traced
    batch = api.post("/api/flows/hello/trigger/batch", json={"inputs": [{"name": "a"}]}, headers=traced)
    (one,) = batch.json()["items"]
    assert api.get(f"/api/runs/{one['id']}").json()["trace_context"] == traced
    for wrong in ({}, {"traceparent": "00-" + "0" * 32 + parent[35:]}, {"tracestate": "a=b"}):
        assert api.get(f"/api/runs/{start(api, headers=wrong)}").json()["trace_context"] == {}


def test_a_wait_for_any_change_ends_with_it(api: TestClient, stack: Client) -> None:
    run = start(api)
    first = api.get(f"/api/runs/{run}")
    tag = first.headers["ETag"]
    assert api.get(f"/api/runs/{run}", params={"wait": "50s", "after": 'W/"old"'}).headers["ETag"] == tag

    def next_of(tag: str) -> Any:
        answer = api.get(f"/api/runs/{run}", params={"wait": "50s", "after": tag})
        assert (answer.status_code, answer.headers["ETag"] != tag) == (200, True)
        return answer

    waiting = Later(lambda: next_of(tag))
    assert api.get(f"/api/runs/{run}").headers["ETag"] == tag  # others are answered meanwhile
    play.succeed(stack.ledger, run, "greet", "hello")
    answer = waiting.result()
    stack.run(run).cancel("enough")
    while answer.json()["status"] != "cancelled":
        answer = next_of(answer.headers["ETag"])


def test_a_wait_for_a_change_that_does_not_come_ends_with_its_time(api: TestClient) -> None:
    run = start(api)
    tag = api.get(f"/api/runs/{run}").headers["ETag"]
    answer = api.get(f"/api/runs/{run}", params={"wait": "0.2", "after": tag})
    assert (answer.status_code, answer.headers["ETag"], answer.json()["status"]) == (200, tag, "pending")


def test_one_caller_may_wait_so_often_only(settings: Settings, stack: Client) -> None:
    run = stack.start("hello", name="you").id
    with served(settings, waits_per_caller=2) as door:
        ada, bob = bearer(key(stack, name="ada")), bearer(key(stack, name="bob"))
        place = f"/api/runs/{run}"
        waiting = [Later(lambda: door.get(f"{place}?wait=50s", headers=ada)) for _ in range(2)]
        waits: Any = door.app
        eventually(lambda: waits.state.waits.of("key:ada") == 2)
        refused = door.get(f"{place}?wait=0.01", headers=ada)
        assert refused.status_code == 429
        assert (refused.json()["code"], "without `wait`" in refused.json()["fix"]) == ("too_many_waits", True)
        before = stack.count_runs()
        start = door.post("/api/flows/hello/trigger?wait=0.01", json={"name": "a"}, headers=ada)
        assert (start.status_code, start.headers["Retry-After"], stack.count_runs()) == (429, "5", before)
        assert door.get(place, headers=ada).status_code == 200
        assert door.get(f"{place}?wait=0.01", headers=bob).status_code == 200
        play.finish_hello(stack.ledger, run)
        assert [one.result().status_code for one in waiting] == [200, 200]
        assert door.get(f"{place}?wait=50s", headers=ada).status_code == 200


def test_flows_versions_and_schedules_are_listed_in_pages(api: TestClient, stack: Client) -> None:
    @flow(name="many", schedules=[Cron("0 1 * * *"), Every("1h")])
    def many(name: str = "x") -> str:
        return greet(name)

    register.register(stack.ledger, many.manifest)
    for number in (2, 3):
        register.register(stack.ledger, many.manifest.model_copy(update={"version": str(number)}))

    def pages(path: str, name: str) -> list[Any]:
        found: list[Any] = []
        cursor = ""
        while True:
            page = api.get(f"{path}?limit=1{cursor}").json()
            assert len(page["items"]) <= 1
            found += [one[name] for one in page["items"]]
            if page["next"] is None:
                return found
            cursor = f"&cursor={page['next']}"

    assert pages("/api/flows", "name") == [one.name for one in stack.flows.listed()] == ["fan", "hello", "many"]
    assert pages("/api/flows/many/versions", "version") == [one.version for one in stack.flows.versions("many")]
    assert len(pages("/api/flows/many/versions", "hash")) == 3
    assert pages("/api/schedules", "trigger_key") == ["cron", "every"]
    assert api.get("/api/flows?cursor=WzEsMl0").json()["code"] == "cursor_mismatch"


def test_a_graph_is_data_as_well(api: TestClient, stack: Client) -> None:
    graph = api.get("/api/flows/hello/graph?language=json")
    assert graph.headers["content-type"] == "application/json"
    assert [(one["key"], [arrow["from"] for arrow in one["arrows"]]) for one in graph.json()["nodes"]] == [
        ("greet", []),
        ("measure", ["greet"]),
    ]
    run = start(api)
    nodes = api.get(f"/api/runs/{run}/graph?language=json").json()["nodes"]
    assert [one["status"] for one in nodes] == ["ready", "blocked"]
    loop = next(one for one in api.get("/api/flows/fan/graph?language=json").json()["nodes"] if one["kind"] == "loop")
    assert [one["key"] for one in loop["inside"]] == ["double"]
    assert api.get("/api/flows/hello/graph?language=latin").status_code == 400


def test_a_page_of_runs_is_explained_as_each_of_them_is(api: TestClient, stack: Client) -> None:
    runs = [str(start(api)) for _ in range(3)]
    play.fail(stack.ledger, UUID(runs[0]), "greet")
    page = api.get("/api/runs?explain=1&limit=2").json()
    rest = api.get(f"/api/runs?explain=1&limit=2&cursor={page['next']}").json()
    explained = {**page["explained"], **rest["explained"]}
    assert list(explained) == runs[::-1]
    single = api.get(f"/api/runs/{runs[0]}/explain").json()
    assert explained[runs[0]] == single
    assert "no worker is live" in explained[runs[1]]["sentence"]
    assert list(api.get("/api/runs/active?explain=1").json()["explained"]) == runs[:0:-1]
    assert api.get("/api/runs").json()["explained"] is None
    api.post("/api/flows/hello/trigger/batch", json={"inputs": [{"name": "x"}] * 50})
    refused = api.get("/api/runs?explain=1&limit=51")
    assert (refused.status_code, "limit=50" in refused.json()["fix"]) == (400, True)
