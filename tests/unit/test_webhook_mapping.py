"""What a delivery says, as an input; what publishers ask first; what a manifest says of webhooks."""

import json
from typing import Any

import pytest

from orchestrator.core.manifest import Manifest
from orchestrator.core.webhook_triggers import WebhookTrigger
from orchestrator.errors import InputInvalid, ManifestInvalid, WebhookUnreadable
from orchestrator.webhooks import checks
from orchestrator.webhooks.handshakes import challenge, handshake, reply
from orchestrator.webhooks.mapping import mapped
from orchestrator.webhooks.request import Request
from tests.support.deliveries import compact

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def trigger(**fields: Any) -> WebhookTrigger:
    return WebhookTrigger(type="webhook", scheme="github", secret="env:SECRET", **fields)


def test_the_whole_body_is_kept_to_the_last_digit() -> None:
    body = b'{"amount": 1e22, "zero": -0.0, "text": "\xc3\xa9"}'
    assert mapped(trigger(), Request.of(body)).text.encode() == body


def test_a_form_is_an_object_of_texts() -> None:
    found = mapped(trigger(), Request.of(b"a=1&b=x+y&a=2&empty=", FORM))
    assert json.loads(found.text) == {"a": ["1", "2"], "b": "x y", "empty": ""}


def test_expressions_read_body_and_headers_but_none_that_prove_anything() -> None:
    wanted = {"kind": "@triggerHeaders()['X-GitHub-Event']", "number": "@triggerBody()?.issue.number", "by": "hook"}
    request = Request.of(compact({"issue": {"number": 7}}), {"x-github-event": "issues", "X-Hub-Signature": "abc"})
    found = mapped(trigger(input=wanted, idempotency_key="@triggerBody().issue.number"), request)
    assert json.loads(found.text) == {"kind": "issues", "number": 7, "by": "hook"}
    assert json.loads(found.headers) == {"x-github-event": "issues"}
    assert found.key == "7"


@pytest.mark.parametrize("body", [b"", b"no json", b"\xff", b'{"a":1,"a":2}', b'{"a":"\\u0000"}'])
def test_a_body_that_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(WebhookUnreadable):
        mapped(trigger(), Request.of(body))


@pytest.mark.parametrize("body", [b"a=%ff", b"\xff=1", b"&".join([b"a=1"] * 10_001), b"a=%00"])
def test_a_form_that_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(WebhookUnreadable):
        mapped(trigger(), Request.of(body, FORM))


@pytest.mark.parametrize("value", [None, True, [], {}, "", 1.5])
def test_a_key_is_a_text(value: Any) -> None:
    with pytest.raises(InputInvalid, match="let it give a text"):
        mapped(trigger(idempotency_key="@triggerBody().key"), Request.of(compact({"key": value})))


# ---- handshakes ------------------------------------------------------------------------------------------------


def test_dropbox_gets_its_challenge_back_as_text() -> None:
    found = challenge("dropbox", {"challenge": "<script>alert(1)</script>"})
    assert found is not None
    assert (found.body, found.content_type) == ("<script>alert(1)</script>", "text/plain; charset=utf-8")
    assert challenge("dropbox", {}) is None
    assert challenge("dropbox", {"challenge": "x" * 2000}) is None
    assert challenge("github", {"challenge": "x"}) is None


def test_slack_and_zoom_are_answered() -> None:
    found = handshake("slack", Request.of(compact({"type": "url_verification", "challenge": "3eZb"})), b"key")
    assert found is not None
    assert found.body == "3eZb"
    body = compact({"event": "endpoint.url_validation", "payload": {"plainToken": "q9ibPhGeRZ6ayx5WTrXjRw"}})
    found = handshake("zoom", Request.of(body), b"key")
    assert found is not None
    # printf q9ibPhGeRZ6ayx5WTrXjRw | openssl dgst -sha256 -hmac key
    assert json.loads(found.body) == {
        "plainToken": "q9ibPhGeRZ6ayx5WTrXjRw",
        "encryptedToken": ENCRYPTED,
    }


ENCRYPTED = "082a337295857c347749222989fd96dac1afa242c8847b0779b90df0d3cd9fa3"


@pytest.mark.parametrize("scheme", ["slack", "zoom", "github"])
@pytest.mark.parametrize(
    "body",
    [
        b"a=1",
        b"{}",
        b"[]",
        compact({"type": "url_verification"}),
        compact({"event": "endpoint.url_validation"}),
        compact({"type": "event_callback", "challenge": "x"}),
        compact({"event": "endpoint.url_validation", "payload": 5}),
    ],
)
def test_an_event_is_no_handshake(scheme: str, body: bytes) -> None:
    assert handshake(scheme, Request.of(body), b"key") is None


def test_teams_is_answered_with_a_message() -> None:
    found = reply("microsoft_teams", "Run 1 was started.")
    assert found is not None
    assert json.loads(found.body) == {"type": "message", "text": "Run 1 was started."}
    assert reply("github", "Run 1 was started.") is None


# ---- in the manifest -------------------------------------------------------------------------------------------

STEPS: dict[str, Any] = {"work": {"type": "work"}}


def manifest(**webhook: Any) -> Manifest:
    given = {"type": "webhook", "scheme": "github", "secret": "env:SECRET", **webhook}
    return Manifest(name="orders", steps=STEPS, triggers={"manual": {}, "hook": given})


def test_a_manifest_without_webhooks_keeps_its_hash_and_its_format() -> None:
    plain = Manifest(name="orders", steps=STEPS)
    assert plain.hash == "236b8b576c2753e71a8eba929162f7ae441a4cd296805155c13d5e34837304c0"
    assert plain.format == 1
    assert (manifest().format, set(manifest().webhooks), manifest().schedules) == (2, {"hook"}, {})
    assert Manifest.from_json(manifest().to_json()).hash == manifest().hash


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"input": "@steps('work').output"}, "is not known when a delivery comes"),
        ({"input": {"a": ["@triggerHeaders()['X-Hub-Signature']"]}}, "is never kept"),
        ({"idempotency_key": "@triggerBody("}, "triggers.hook.idempotency_key"),
        ({"signal": "paid"}, "go together"),
        ({"scheme": "custom"}, "describes the scheme `custom`"),
        ({"signature": {"signature": "header:x"}}, "describes the scheme `custom`"),
        ({"secret": "whsec_abc"}, "given by reference"),
        ({"rate": {"limit": 0}}, "triggers.hook.rate.limit"),
        ({"mode": "on"}, "triggers.hook.mode"),
        ({"remember": "1s"}, "triggers.hook.remember"),
    ],
)
def test_what_is_wrong_with_a_webhook_is_told_with_its_place(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        manifest(**fields)
    assert problem in str(caught.value)
    assert "whsec_abc" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"scheme": "strype"}, "triggers.hook.scheme: There is no webhook scheme 'strype' (did you mean `stripe`?)"),
        ({"addresses": ["1.2.3.0/99"]}, "triggers.hook.addresses: '1.2.3.0/99' in a list of addresses is malformed"),
        ({"tolerance": "1m"}, "triggers.hook.tolerance: the scheme github signs no time"),
        ({"scheme": "stripe", "tolerance": "20h", "remember": "1d"}, "triggers.hook.remember: it is shorter"),
    ],
)
def test_what_only_the_schemes_know_is_told_too(fields: dict[str, Any], problem: str) -> None:
    (found,) = checks.problems(manifest(**fields))
    assert str(found).startswith(problem)
