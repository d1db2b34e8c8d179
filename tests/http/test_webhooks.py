"""The route that publishers call: what it answers, and what it does with bodies that are meant to hurt."""

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import pytest
from starlette.testclient import TestClient

from orchestrator import Webhook, env, flow
from orchestrator.client import Client
from orchestrator.engine.flows import register
from orchestrator.errors import SettingsInvalid
from orchestrator.http.app import create_app
from orchestrator.settings import Settings
from tests.support.deliveries import KEY, based, compact, hexed
from tests.support.race import race
from tests.support.small_flows import greet

SECRET = "WEBHOOK_TEST_SECRET"


@flow(
    name="heard",
    webhooks=[
        Webhook("heard", scheme="generic", secret=env(SECRET), input={"word": "@triggerBody()?.word"}),
        Webhook("few", scheme="generic", secret=env(SECRET), rate={"limit": 2}, input={"word": "@triggerBody().word"}),
        Webhook("slack", scheme="slack", secret=env(SECRET), input={"word": "@triggerBody()?.text"}),
        Webhook("dropbox", scheme="dropbox", secret=env(SECRET), input={"word": "x"}),
        Webhook("teams", scheme="microsoft_teams", secret=env("WEBHOOK_TEST_TEAMS"), input={"word": "x"}),
        Webhook("square", scheme="square", secret=env(SECRET), input={"word": "x"}),
        Webhook("near", scheme="generic", secret=env(SECRET), addresses=["192.0.2.0/24"], input={"word": "x"}),
    ],
)
def heard(word: str) -> str:
    return greet(word)


@pytest.fixture
def api(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv(SECRET, KEY)
    monkeypatch.setenv("WEBHOOK_TEST_TEAMS", "YSBrZXkgb2YgMzIgYnl0ZXMsIGFzIFRlYW1zIGhhcy4=")
    with Client(settings) as client:
        register.register(client.ledger, heard.manifest)
    behind = {"public_url": "https://flows.example.com", "proxy_depth": 1, "auth": "open"}
    with served(settings.model_copy(update=behind)) as made:
        yield made


def served(settings: Settings) -> TestClient:
    return TestClient(create_app(settings), "http://127.0.0.1", client=("127.0.0.1", 50000))


def proof(body: bytes, key: str = KEY) -> dict[str, str]:
    time = str(int(datetime.now(UTC).timestamp()))
    return {
        "X-Webhook-Timestamp": time,
        "X-Webhook-Signature": "sha256=" + hexed(f"{time}.".encode() + body, key),
        "X-Forwarded-For": "203.0.113.66, 192.0.2.9",
    }


def post(api: TestClient, value: Any, slug: str = "heard", **headers: str) -> Any:
    body = value if isinstance(value, bytes) else compact(value)
    return api.post(f"/api/webhook/{slug}", content=body, headers={**proof(body), **headers})


def test_a_delivery_starts_a_run_and_the_same_again_none(api: TestClient) -> None:
    first, again = post(api, {"word": "hey"}), post(api, {"word": "hey"})
    assert (first.status_code, first.json()["outcome"]) == (202, "started")
    assert (again.status_code, again.json()["outcome"]) == (200, "seen")
    assert first.json()["run_id"] == again.json()["run_id"]


@pytest.mark.parametrize(
    ("value", "headers", "status", "code"),
    [
        ({"word": "hey"}, {"X-Webhook-Signature": "sha256=" + "0" * 64}, 401, "delivery_refused"),
        ({"word": 5}, {}, 422, "input_invalid"),
        (b"no json", {}, 400, "webhook_unreadable"),
        (b'{"word": "\\u0000"}', {}, 400, "webhook_unreadable"),
        (b'{"word": NaN}', {}, 400, "webhook_unreadable"),
        (b'{"word": "a", "word": "b"}', {}, 400, "webhook_unreadable"),
        (b'{"a":' * 100_000, {}, 400, "webhook_unreadable"),
        (b"x" * 1_100_000, {}, 413, "too_large"),
        (gzip.compress(b"x" * 1_000_000), {"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
    ],
)
def test_what_is_refused_has_its_status(api: TestClient, value: Any, headers: Any, status: int, code: str) -> None:
    answer = post(api, value, **headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "key of ours" not in answer.text  # whoever guesses is told nothing


def test_an_unknown_slug_is_404(api: TestClient) -> None:
    assert post(api, {}, "nobody").status_code == 404


def test_too_many_are_told_when_to_come_again(api: TestClient) -> None:
    statuses = [post(api, {"word": str(number)}, "few") for number in range(3)]
    assert [one.status_code for one in statuses] == [202, 202, 429]
    assert 1 <= int(statuses[-1].headers["retry-after"]) <= 60


def test_the_address_is_counted_from_the_right(api: TestClient) -> None:
    assert post(api, {"n": 1}, "near").status_code == 202
    assert post(api, {"n": 2}, "near", **{"X-Forwarded-For": "192.0.2.9, 203.0.113.66"}).status_code == 403
    assert post(api, {"n": 3}, "near", **{"X-Forwarded-For": ""}).status_code == 403


def test_a_malformed_proxy_stops_the_start(settings: Settings) -> None:
    with pytest.raises(SettingsInvalid, match=r"ORCHESTRATOR_TRUSTED_PROXIES: '10.0.0.0/99'"):
        create_app(settings.model_copy(update={"trusted_proxies": ("10.0.0.0/8", "10.0.0.0/99")}))


def test_only_a_listed_proxy_is_believed(settings: Settings, api: TestClient) -> None:
    """Whoever else brings the header has no address, and no list lets them in."""
    others = {"proxy_depth": 1, "trusted_proxies": ("10.0.0.0/8",), "auth": "open"}
    with served(settings.model_copy(update=others)) as behind:
        assert post(behind, {"n": 7}, "near").status_code == 403


def test_a_signed_url_is_the_public_one_whatever_host_is_said(api: TestClient) -> None:
    body = compact({"event_id": "e1"})
    for url, status in (
        ("https://flows.example.com/api/webhook/square?x=1", 202),
        ("https://evil.example.com/api/webhook/square?x=1", 401),
    ):
        headers = {"x-square-hmacsha256-signature": based(url.encode() + body), "X-Forwarded-For": "192.0.2.9"}
        headers["Host"] = url.split("/")[2]
        assert api.post("/api/webhook/square?x=1", content=body, headers=headers).status_code == status


def test_handshakes_are_answered(api: TestClient) -> None:
    time, body = str(int(datetime.now(UTC).timestamp())), compact({"type": "url_verification", "challenge": "<b>"})
    signed = {"X-Slack-Request-Timestamp": time, "X-Slack-Signature": "v0=" + hexed(f"v0:{time}:".encode() + body)}
    answer = api.post("/api/webhook/slack", content=body, headers={**signed, "X-Forwarded-For": "192.0.2.9"})
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (
        200,
        "<b>",
        "text/plain; charset=utf-8",
    )
    answer = api.get("/api/webhook/dropbox", params={"challenge": "<script>"})
    assert (answer.status_code, answer.text) == (200, "<script>")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert api.get("/api/webhook/heard", params={"challenge": "x"}).status_code == 405


def test_teams_hears_a_message(api: TestClient) -> None:
    body = compact({"text": "hey"})
    signed = {
        "Authorization": "HMAC " + based(body, b"a key of 32 bytes, as Teams has."),
        "X-Forwarded-For": "192.0.2.9",
    }
    answer = api.post("/api/webhook/teams", content=body, headers=signed)
    assert (answer.status_code, answer.json()["type"]) == (200, "message")


def test_what_came_is_listed_and_replayed(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECRET)
    assert post(api, {"word": "late"}).status_code == 503
    monkeypatch.setenv(SECRET, KEY)
    (kept,) = api.get("/api/webhooks/recent", params={"slug": "heard"}).json()["items"]
    assert (kept["outcome"], kept["gate"], kept["replayable"]) == ("refused", "signature", True)
    whole = api.get(f"/api/webhooks/deliveries/{kept['id']}").json()
    assert (whole["body"], whole["address"]) == ({"word": "late"}, "192.0.2.9")
    done = api.post(f"/api/webhooks/deliveries/{kept['id']}/replay")
    assert (done.status_code, done.json()["outcome"]) == (200, "started")
    assert api.post(f"/api/webhooks/deliveries/{kept['id']}/replay").status_code == 409
    counted = {(one["outcome"], one["count"]) for one in api.get("/api/webhooks/stats").json()["items"]}
    assert counted == {("refused", 1), ("started", 1)}
    named = {one["slug"]: one["accepted"] for one in api.get("/api/webhooks").json()["items"]}
    assert named["heard"] == 1
    assert len(named) == 7


def test_pages_of_what_came(api: TestClient) -> None:
    for number in range(5):
        post(api, {"word": str(number)})
    first = api.get("/api/webhooks/recent", params={"limit": 3}).json()
    second = api.get("/api/webhooks/recent", params={"limit": 3, "cursor": first["next"]}).json()
    assert (len(first["items"]), len(second["items"]), second["next"]) == (3, 2, None)
    assert api.get("/api/webhooks/recent", params={"bad": 1}).status_code == 400


def test_a_body_without_end_is_cut_off(api: TestClient) -> None:
    """Whatever length was announced: no more is read than is taken, and what is read is counted, not kept apart."""
    read, sent = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 100_000, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    for headers in ([], [(b"content-length", b"5")], [(b"transfer-encoding", b"chunked")]):
        read = 0
        scope = {"type": "http", "method": "POST", "path": "/api/webhook/heard", "raw_path": b"/api/webhook/heard"}
        scope |= {"headers": headers, "query_string": b"", "scheme": "http", "server": ("x", 80), "client": ("x", 1)}
        anyio.run(api.app, {**scope, "http_version": "1.1", "asgi": {"version": "3.0"}}, receive, send)
        assert read == 11  # of 1 MiB
    assert [message["status"] for message in sent if message["type"] == "http.response.start"] == [413] * 3


def test_a_body_that_does_not_come_is_not_waited_for(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.http.routers.webhooks.READ_S", 0.05)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/api/webhook/heard", "raw_path": b"/api/webhook/heard"}
    scope |= {"headers": [], "query_string": b"", "scheme": "http", "server": ("x", 80), "client": ("x", 1)}
    anyio.run(api.app, {**scope, "http_version": "1.1", "asgi": {"version": "3.0"}}, receive, send)
    assert sent[0]["status"] == 408


def test_two_api_processes_start_one_run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two applications with connections of their own get the same delivery at the same moment."""
    monkeypatch.setenv(SECRET, KEY)
    with Client(settings) as client:
        register.register(client.ledger, heard.manifest)
    opened = settings.model_copy(update={"auth": "open"})
    with served(opened) as one, served(opened) as other:
        for number in range(10):
            body = compact({"word": f"w{number}"})
            sent = [partial(api.post, "/api/webhook/heard", content=body, headers=proof(body)) for api in (one, other)]
            answers = race(*sent)
            assert sorted(answer.status_code for answer in answers) == [200, 202]
            assert len({answer.json()["run_id"] for answer in answers}) == 1
        runs = one.get("/api/runs", params={"flow": "heard"}).json()["items"]
        assert len(runs) == 10
