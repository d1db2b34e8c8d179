"""What holds for every route: errors, strictness, limits, headers."""

import base64
import hashlib
import itertools
import json
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from orchestrator import errors
from orchestrator.client import Client
from orchestrator.http.policy import PUBLIC
from orchestrator.http.problems import STATUSES, status_of


def refused(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem: dict[str, Any] = answer.json()
    assert (problem["code"], problem["status"]) == (code, status)
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    return problem


def test_an_unknown_run_is_a_problem_with_its_fix(api: TestClient) -> None:
    problem = refused(api.get("/api/runs/ffffffff"), 404, "run_not_found")
    assert problem["detail"] == "No run ffffffff."
    assert "run ls" in problem["fix"]
    meaning = api.get(problem["type"])
    assert (meaning.status_code, meaning.json()["status"]) == (200, 404)


def test_an_unknown_parameter_is_not_ignored(api: TestClient) -> None:
    problem = refused(api.get("/api/runs?statu=failed"), 400, "unknown_parameter")
    assert "did you mean `status`?" in problem["fix"]


@pytest.mark.parametrize(
    ("path", "pointer"),
    [("/api/runs?limit=0", "?limit"), ("/api/runs?status=lost", "?status"), ("/api/runs?limit=9999", "?limit")],
)
def test_a_wrong_parameter_is_named(api: TestClient, path: str, pointer: str) -> None:
    assert refused(api.get(path), 400, "parameter_invalid")["problems"][0]["pointer"] == pointer


def test_an_input_that_does_not_fit_says_where(api: TestClient, stack: Client) -> None:
    answer = api.post("/api/flows/hello/trigger", json={"name": "you", "times": "many"})
    problem = refused(answer, 422, "input_invalid")
    assert problem["problems"][0]["pointer"] == "/times"
    assert stack.count_runs(flow="hello") == 0


DEEP = b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "not_json"),
        (b"[1]", 422, "body_invalid"),
        (b'{"name": NaN}', 400, "not_json"),
        (b'{"name": 1e999}', 400, "value"),
        (b'{"name": "\\u0000"}', 400, "value"),
        (b'{"name": "\\ud800"}', 400, "value"),
        (b'{"name": "a", "name": "b"}', 400, "not_json"),
        (b"\xff\xfe", 400, "not_json"),
        (b'{"name": ' + b"9" * 5000 + b"}", 400, "not_json"),
        (DEEP, 400, "not_json"),
        (b'{"name": "' + b"a" * (1 << 20) + b'"}', 413, "too_large"),
    ],
    ids=["cut", "list", "nan", "inf", "nul", "surrogate", "twice", "no-utf8", "digits", "deep", "large"],
)
def test_a_bad_body_is_refused_and_nothing_is_written(
    api: TestClient, stack: Client, body: bytes, status: int, code: str
) -> None:
    refused(api.post("/api/flows/hello/trigger", content=body), status, code)
    assert stack.count_runs(flow="hello") == 0


def test_a_body_is_counted_whatever_was_announced(api: TestClient) -> None:
    def chunks() -> Any:
        for _ in range(40):
            yield b" " * (64 * 1024)

    refused(api.post("/api/flows/hello/trigger", content=chunks()), 413, "too_large")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_other_media_are_refused(api: TestClient, kind: str) -> None:
    answer = api.post("/api/flows/hello/trigger", content=b"{}", headers={"Content-Type": kind})
    refused(answer, 415, "unsupported_media_type")


def test_a_compressed_body_is_refused(api: TestClient) -> None:
    answer = api.post("/api/flows/hello/trigger", content=b"{}", headers={"Content-Encoding": "gzip"})
    refused(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("path", [f"/api/runs?tag={'a' * 2000}", f"/api/runs/{'a' * 3000}"], ids=["query", "path"])
def test_long_urls_are_refused(api: TestClient, path: str) -> None:
    refused(api.get(path), 413, "too_large")


def test_large_headers_are_refused(api: TestClient) -> None:
    refused(api.get("/api/runs", headers={"X-Long": "a" * 20_000}), 413, "too_large")


def test_unknown_paths_and_methods_are_problems(api: TestClient) -> None:
    refused(api.get("/api/nothing"), 404, "not_found")
    refused(api.put("/api/runs"), 405, "method_not_allowed")
    refused(api.get("/api/runs/../../etc/passwd"), 404, "not_found")


@pytest.mark.parametrize("path", ["/api/flows", "/api/nothing", "/api/runs?x=1"])
def test_every_answer_has_the_headers(api: TestClient, path: str) -> None:
    found = api.get(path, headers={"X-Request-Id": "mine-1"}).headers
    assert found["X-Request-Id"] == "mine-1"
    assert found["X-Content-Type-Options"] == "nosniff"
    assert found["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in found["Content-Security-Policy"]
    assert "Strict-Transport-Security" not in found
    assert "Strict-Transport-Security" in api.get(f"https://testserver{path}").headers


def test_a_request_id_that_is_none_is_replaced(api: TestClient) -> None:
    found = api.get("/api/flows", headers={"X-Request-Id": "a b\tc"}).headers["X-Request-Id"]
    assert len(found) == 32


def test_every_error_has_a_status() -> None:
    def below(kind: type[errors.OrchestratorError]) -> list[type[errors.OrchestratorError]]:
        return [kind, *(one for sub in kind.__subclasses__() for one in below(sub))]

    found = {kind.__name__: status_of(kind("x")) for kind in below(errors.OrchestratorError)}
    assert set(STATUSES) <= set(below(errors.OrchestratorError))
    assert (found["RunNotFound"], found["FlowDisabled"], found["SchemaBehind"]) == (404, 409, 503)


def test_schedules_are_replaced_only_by_who_has_seen_them(api: TestClient) -> None:
    assert api.get("/api/schedules").json() == {"items": [], "next": None, "count": None, "capped": None}
    refused(api.get("/api/schedules/hello/nightly"), 404, "schedule_not_found")


def test_the_document_names_operations_as_the_command_line_does(api: TestClient) -> None:
    document = api.get("/api/openapi.json").json()
    names = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(names) == len(set(names))
    assert {"run_start", "run_ls", "run_show", "run_cancel", "schedule_pause", "approval_answer"} <= set(names)


def test_a_path_of_several_routes_says_all_its_methods(api: TestClient) -> None:
    assert api.put("/api/keys").headers["Allow"] == "GET, POST"
    assert api.post("/api/session/x").status_code == 404
    assert api.get("/api/webhook/none").status_code == 404


def test_the_document_says_how_one_says_who_asks(api: TestClient) -> None:
    document = api.get("/api/openapi.json").json()
    found = {one["operationId"]: one.get("security") for path in document["paths"].values() for one in path.values()}
    assert {name for name, security in found.items() if security is None} == PUBLIC
    assert found["run_ls"] == [{"key": []}, {"session": []}]


def forged(api: TestClient, path: str, place: Any) -> str:
    """A cursor of this query that the API never gave: whoever reads one can write one."""
    url = httpx2.URL(f"http://127.0.0.1{path}")
    asked = sorted((name, value) for name, value in url.params.multi_items() if name != "limit")
    query = hashlib.sha256(json.dumps([url.path, asked]).encode()).hexdigest()[:12]
    return base64.urlsafe_b64encode(json.dumps([query, place]).encode()).decode()


FORGED = [None, 7, -1, 2**70, "x", [], {}, ["x"], ["x", 2**70, 0], ["x", "y"], True, 1.5]


def test_a_forged_cursor_is_refused(api: TestClient, stack: Client) -> None:
    run = stack.start("hello", name="you").id
    paths = ["/api/runs", "/api/runs/active", "/api/operations", "/api/approvals", "/api/audit", "/api/webhooks/recent"]
    paths += [f"/api/runs/{run}/{name}" for name in ("events", "steps", "children", "logs")]
    for path, place in itertools.product((*paths, "/api/flows/hello/events"), FORGED):
        answer = api.get(path, params={"cursor": forged(api, path, place)})
        assert answer.status_code in (200, 400, 404), (path, answer.text)
        assert answer.status_code != 400 or answer.json()["code"] == "cursor_invalid"
    for place in FORGED:
        answer = api.get("/api/runs", params={"cursor": forged(api, "/api/runs", place)})
        refused(answer, 400, "cursor_invalid")


def test_nul_is_in_no_url(api: TestClient) -> None:
    for path in ("runs/x%00y", "flows/a%00", "runs?tag=%00", "runs?%00=1", "webhook/%00"):
        refused(api.get(f"/api/{path}"), 400, "value")


def test_numbers_are_of_ten_digits_and_no_larger_than_they_may_be(api: TestClient, stack: Client) -> None:
    run = stack.start("hello", name="you").id
    paths = (f"runs/{run}?wait=", "runs?limit=", f"runs/{run}/events?after=", f"runs/{run}/steps/greet?before=")
    for number in ("²", "٣", "1_0", "9" * 19, "-1", "1e3"):
        for path in paths:
            answer = api.get(f"/api/{path}{number}")
            assert answer.status_code in (200, 400), (path, number)
        assert api.get(f"/api/runs/{run}/steps?loop=double&after=double.{number}").status_code == 404
        answer = api.post(f"/api/flows/hello/trigger?start_after={number}", json={"name": "a"})
        assert answer.status_code in (201, 400)
        assert api.get("/api/runs", headers={"Content-Length": number.encode()}).status_code in (400, 413)


def test_what_is_no_hash_is_in_no_header(api: TestClient) -> None:
    """The tag of a manifest is its hash, and a header line more would be the caller's."""
    for name in ("x%0d%0aSet-Cookie:%20a=b", "%C3%94%E1%B7%99", "A" * 64):
        answer = api.get(f"/api/manifests/{name}", headers={"If-None-Match": '"x"'})
        refused(answer, 400, "parameter_invalid")
        assert "ETag" not in answer.headers
    refused(api.get(f"/api/manifests/{'a' * 64}"), 404, "not_found")


def test_a_flag_is_true_or_false(api: TestClient, stack: Client) -> None:
    run = stack.start("hello", name="you").id
    for flag in (0, 1, "true", "no", []):
        problem = refused(api.post(f"/api/runs/{run}/retry", json={"fresh": flag}), 422, "body_invalid")
        assert problem["problems"][0]["pointer"] == "/fresh"


def test_a_drawing_is_a_text(api: TestClient, stack: Client) -> None:
    run = stack.start("hello", name="you").id
    for path in ("/api/flows/hello/graph", f"/api/runs/{run}/graph"):
        answer = api.get(f"{path}?language=dot")
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
        refused(api.get(f"{path}?language=svg"), 400, "parameter_invalid")
