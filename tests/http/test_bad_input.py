"""What is meant to hurt, at every route of the document: refused, for little, and nothing is written."""

import gc
import gzip
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from starlette.testclient import TestClient

from orchestrator.client import Client
from orchestrator.settings import Settings
from tests.http.access import UNLIMITED, bearer, key, served
from tests.http.populated import DOCUMENT, WEBHOOK_SECRET, populate
from tests.support.row_counts import Counted, counted

__all__ = ["counted"]

MOST_CPU_S: Final = 0.1
MOST_READINGS: Final = 5
"""On a machine that others use all takes longer: so many times what the json module needs for as many bytes."""
INPUT_CPU_S: Final = 0.5
"""For 1 MiB of input of a flow: it is written, read and checked by the flow's schema, as one that fits would be."""
STARTS: Final = {"run_start", "run_start_many"}
MANY: Final = 100_000
JSON: Final = "application/json"
KEPT: Final = {"flow_webhook_deliveries", "flow_webhook_counts", "flow_events", "flow_audit", "flow_requests"}
"""What was refused is kept there, where it is meant to be."""

MALFORMED: Final[dict[str, tuple[bytes, dict[str, str]]]] = {
    "cut": (b'{"reason": "a', {}),
    "deep": (b'{"reason": ' + b"[" * MANY + b"]" * MANY + b"}", {}),
    "deep names": (b'{"reason":' * MANY, {}),
    "nan": (b'{"reason": NaN}', {}),
    "infinity": (b'{"reason": -Infinity}', {}),
    "beyond floats": (b'{"reason": 1e999999999}', {}),
    "digits": (b'{"reason": ' + b"9" * MANY + b"}", {}),
    "nul": (b'{"reason": "\\u0000"}', {}),
    "nul in a name": (b'{"\\u0000": 1}', {}),
    "surrogate": (b'{"reason": "\\ud800"}', {}),
    "twice": (b'{"reason": "a", "reason": "b"}', {}),
    "no utf-8": (b'{"reason": "\xff\xfe"}', {}),
    "overlong": (b'{"reason": "\xc0\x80"}', {}),
    "utf-16": ('{"reason": "a"}'.encode("utf-16"), {}),
    "bom": (b'\xef\xbb\xbf{"reason": "a"}', {}),
    "control": (b'{"reason": "\x01"}', {}),
    "two values": (b"{} {}", {}),
    "comment": (b"{} // no", {}),
    "single quotes": (b"{'reason': 'a'}", {}),
    "last NUL of many": (b"[" + b"0," * 450_000 + b'"\\u0000"]', {}),
    "last surrogate of many": (b"[" + b'"a",' * 250_000 + b'"\\udfff"]', {}),
    "many names and one twice": (
        b"{" + b",".join(b'"%x":0' % number for number in range(MANY)) + b',"0":1}',
        {},
    ),
    "text": (b"{}", {"Content-Type": "text/plain"}),
    "form": (b"reason=a", {"Content-Type": "application/x-www-form-urlencoded"}),
    "parts": (b"--x--", {"Content-Type": "multipart/form-data; boundary=x"}),
    "xml": (b"<a/>", {"Content-Type": "application/xml"}),
    "no media type": (b"{}", {"Content-Type": ""}),
    "two media types": (b"{}", {"Content-Type": "application/json, text/plain"}),
    "latin-1": (b"{}", {"Content-Type": "application/json; charset=latin-1"}),
    "charset utf-16": (b"{}", {"Content-Type": 'application/json; a=b; charset="UTF-16"'}),
    "bomb": (gzip.compress(b" " * (10 << 20)), {"Content-Encoding": "gzip"}),
    "deflate, twice": (b"{}", {"Content-Encoding": "deflate, gzip"}),
    "large": (b'"' + b"a" * (1 << 20) + b'"', {}),
}
"""Bodies that no route takes."""
UNFIT: Final[dict[str, bytes]] = {
    "many names": b"{" + b",".join(b'"%x":0' % number for number in range(MANY)) + b"}",
    "many inputs": b'{"inputs":[' + b"0," * 500_000 + b"0]}",
    "an input of many names": b'{"inputs":[{' + b",".join(b'"%x":0' % number for number in range(MANY)) + b"}]}",
    "many ids": b'{"action":"cancel","ids":[' + b'"a",' * 250_000 + b'"a"]}',
    "many scopes": b'{"name":"a","scopes":[' + b'"a",' * 250_000 + b'"a"]}',
    "many of one": b'{"name":[' + b"0," * 500_000 + b"0]}",
    "a long text": b'{"name":"a","role":"' + b"a" * 1_000_000 + b'"}',
}
"""Bodies that are JSON, and that no model and no flow here takes."""
ANY_VALUE: Final = {"run_signal", "approval_answer"}
"""Their bodies are whatever a waiting step takes: here none waits."""


SOME: Final = {"run_start", "run_start_many", "session_create", "key_create", "operation_create", "run_signal"}
PLAIN: Final = "[" + "0," * 500_000 + "0]"
LARGE: Final = 100_000
"""Bytes of a body."""
WITHOUT_RULES: Final = {"webhook_receive", "webhook_challenge", "health_liveness", "health_readiness", "health_show"}
"""Publishers send what they like; and health answers whoever asks."""


@dataclass(frozen=True)
class Place:
    name: str
    method: str
    path: str
    takes_body: bool


@pytest.fixture
def door(settings: Settings, stack: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv(WEBHOOK_SECRET, "x" * 32)
    gc.collect()
    gc.freeze()  # as the server does
    with served(settings, **UNLIMITED) as made:
        made.headers.update(bearer(key(stack, name="bad")))
        yield made
    gc.unfreeze()


@pytest.fixture
def places(stack: Client) -> list[Place]:
    """Every route, with what exists in its path."""
    there, found = populate(stack).places, []
    for path, methods in json.loads(DOCUMENT.read_text("utf-8"))["paths"].items():
        for method, operation in methods.items():
            filled = path
            for one in operation.get("parameters", ()):
                if one["in"] == "path":
                    filled = filled.replace(f"{{{one['name']}}}", there.get(one["name"], ["none"])[0])
            found.append(Place(operation["operationId"], method.upper(), filled, "requestBody" in operation))
    return found


def is_problem(answer: Any) -> bool:
    return 400 <= answer.status_code < 500 and answer.headers["content-type"] == "application/problem+json"


def reading_s() -> float:
    """CPU for a plain body of 1 MiB, now."""
    began = time.process_time()
    json.loads(PLAIN)
    return time.process_time() - began


def refused_cheaply(door: TestClient, place: Place, body: bytes, headers: dict[str, str]) -> str | None:
    """What is wrong with the answer. Another try may cost less: others use this machine."""
    spent: list[float] = []
    least = INPUT_CPU_S if place.name in STARTS and body in UNFIT.values() else MOST_CPU_S
    for _ in range(5):
        began = time.process_time()
        answer = door.request(place.method, place.path, content=body, headers={"Content-Type": JSON, **headers})
        spent.append(time.process_time() - began)
        if not is_problem(answer) or len(answer.content) > 20_000:
            return f"{answer.status_code} {len(answer.content)} {answer.text[:300]}"
        if spent[-1] < least or spent[-1] < MOST_READINGS * reading_s():
            return None
    return f"{answer.status_code} {min(spent):.3f} s of CPU"


def unchanged(before: dict[str, int], after: dict[str, int]) -> bool:
    return {name: count for name, count in after.items() if name not in KEPT} == {
        name: count for name, count in before.items() if name not in KEPT
    }


def wrong(door: TestClient, places: list[Place], body: bytes, headers: dict[str, str]) -> dict[str, str]:
    found = {one.name: refused_cheaply(door, one, body, headers) for one in places if one.takes_body}
    return {name: what for name, what in found.items() if what is not None}


def some(places: list[Place]) -> list[Place]:
    """For what is large: one of each way in which a body is read."""
    return [one for one in places if one.name in SOME]


def test_a_malformed_body_is_refused_everywhere(door: TestClient, places: list[Place], counted: Counted) -> None:
    before = counted()
    for kind, (body, headers) in MALFORMED.items():
        asked = places if len(body) < LARGE else some(places)
        assert wrong(door, asked, body, headers) == {}, kind
    assert unchanged(before, counted())


def test_a_large_body_that_fits_nothing_is_refused(door: TestClient, places: list[Place], counted: Counted) -> None:
    """With few words, too: each of its parts may be wrong."""
    before, asked = counted(), [one for one in some(places) if one.name not in ANY_VALUE]
    for kind, body in UNFIT.items():
        assert wrong(door, asked, body, {}) == {}, kind
    assert unchanged(before, counted())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_large_bodies_are_refused_everywhere(door: TestClient, places: list[Place], counted: Counted) -> None:
    before = counted()
    for kind, body in {**{kind: body for kind, (body, _) in MALFORMED.items()}, **UNFIT}.items():
        if len(body) >= LARGE:
            headers = MALFORMED.get(kind, (b"", {}))[1]
            assert wrong(door, [one for one in places if one.name not in ANY_VALUE], body, headers) == {}, kind
    assert unchanged(before, counted())


def test_what_takes_no_body_refuses_one(door: TestClient, places: list[Place], counted: Counted) -> None:
    """A GET with a body is read one way by some and another way by others: that is how requests are smuggled."""
    before = counted()
    own = [one for one in places if not one.takes_body and one.name not in WITHOUT_RULES]
    answers = {one.name: door.request(one.method, one.path, content=b"{}", headers={"X-A": "b"}) for one in own}
    assert {name: answer.text for name, answer in answers.items() if not is_problem(answer)} == {}
    assert unchanged(before, counted())


def test_parameters_are_given_once_and_are_known(door: TestClient, places: list[Place], counted: Counted) -> None:
    before = counted()
    for one in places:
        if one.name in WITHOUT_RULES:
            continue
        for query in ("_method=DELETE", "a[]=1", "limi=1", "%ff=1", "=", "limit=1&limit=2", "wait=1s&wait=1s"):
            answer = door.request(one.method, f"{one.path}?{query}")
            assert is_problem(answer), (one, query, answer.status_code, answer.text)
    assert door.get("/api/runs?status=failed&status=succeeded").status_code == 200
    assert door.get("/api/runs?limit=1&limit=2").json()["code"] == "repeated_parameter"
    assert unchanged(before, counted())


def test_a_method_is_the_one_that_is_sent(door: TestClient, places: list[Place], stack: Client) -> None:
    run = next(one.path for one in places if one.name == "run_show")
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        assert door.get(run, headers={name: "DELETE"}).status_code == 200
        assert door.post(run, headers={name: "DELETE"}).status_code == 405
    assert door.get(run).status_code == 200


TRICKS: Final = [
    "/api/%2e%2e/%2e%2e/etc/passwd",
    "/api/..%2f..%2fetc%2fpasswd",
    "/api//runs",
    "//api/runs",
    "/api/runs/",
    "/api/runs/%00",
    "/api/runs/..;/keys",
    "/api/runs%2f..%2fkeys",
    "/api/runs/%2e%2e/keys",
    "/API/runs",
    "/api/runs/%f0%28%8c%28",
    "/api/runs/%ed%a0%80",
    "/api/runs/%c0%ae%c0%ae",
    "/api/runs/" + "a" * 2100,
    "/api/runs/%zz",
    "/api/\\runs",
    "/api/runs/https://evil.example",
]


def test_tricks_with_paths_are_refused(door: TestClient) -> None:
    for path in TRICKS:
        for method in ("GET", "POST", "DELETE"):
            answer = door.request(method, path)
            assert is_problem(answer), (path, method, answer.status_code, answer.text[:300])


def test_headers_are_of_a_size(door: TestClient) -> None:
    assert door.get("/api/whoami", headers={"X-Long": "a" * 8192}).status_code == 200
    for headers in ({"X-Long": "a" * 17_000}, {f"X-{number}": "a" * 100 for number in range(200)}):
        assert door.get("/api/whoami", headers=headers).json()["code"] == "too_large"
    answer = door.post(
        "/api/flows/hello/trigger", json={}, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    )
    assert answer.json()["detail"] == "There are several `Idempotency-Key`."
