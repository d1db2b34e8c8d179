"""Each scheme against what its publisher says or does, and against every single bit that is changed."""

import ast
import hmac
import inspect
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.core.webhook_triggers import SignatureFormat, WebhookTrigger
from orchestrator.errors import UsageError
from orchestrator.webhooks import schemes, signatures
from orchestrator.webhooks.gates import Door, Gate, Secrets, judge, nonces
from orchestrator.webhooks.request import Request, Unreadable
from tests.support.deliveries import (
    EVENT,
    KEY,
    NOW,
    PUBLISHED,
    SAMPLES,
    URL,
    Sample,
    compact,
    hexed,
)


def refusal(sample: Sample, request: Request | None = None, **secrets: str) -> Gate | None:
    """The gate that does not let it through."""
    door = Door.of("it", sample.trigger)
    judged = judge(door, request or sample.request(), Secrets(**{"current": sample.secret, **secrets}), sample.at)
    found = judged.refusal
    return None if found is None else found.gate


@pytest.mark.parametrize("sample", PUBLISHED, ids=lambda one: one.scheme)
def test_a_published_vector_is_accepted(sample: Sample) -> None:
    assert refusal(sample) is None


@pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES)
def test_what_the_publishers_package_or_openssl_signed_is_accepted(make: Any) -> None:
    assert refusal(make()) is None


def test_every_scheme_has_a_sample() -> None:
    assert {*schemes.BUILT_IN, schemes.CUSTOM} <= {make().scheme for make in SAMPLES.values()}


def test_other_packages_accept_what_we_accept() -> None:
    """Where a package can verify, it is the judge of our sample too."""
    import stripe
    from slack_sdk.signature import Clock, SignatureVerifier
    from square.utils.webhooks_helper import verify_signature

    sample = SAMPLES["stripe"]()
    signed = sample.headers["Stripe-Signature"]
    assert stripe.WebhookSignature.verify_header(sample.body.decode(), signed, KEY, None)
    clock = Clock()
    clock.now = lambda: NOW.timestamp()  # type: ignore[method-assign]
    assert SignatureVerifier(KEY, clock).is_valid_request(SAMPLES["slack"]().body, SAMPLES["slack"]().headers)
    square = SAMPLES["square"]()
    assert verify_signature(
        request_body=square.body.decode(),
        signature_header=square.headers["x-square-hmacsha256-signature"],
        signature_key=KEY,
        notification_url=URL,
    )


# ---- every bit ------------------------------------------------------------------------------------------------


def flipped(data: bytes) -> Iterator[bytes]:
    """With one bit changed, each in its turn."""
    for place in range(len(data) * 8):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        yield bytes(changed)


def names_of_signature(sample: Sample) -> str | None:
    place = schemes.scheme_of(sample.trigger).form.signature
    return place.removeprefix("header:") if place.startswith("header:") else None


@pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES)
def test_each_changed_bit_of_the_body_is_refused(make: Any) -> None:
    """But for Mailgun, which signs a token in it only, and bits of how Twilio's form is written: what they leave is
    the same delivery again."""
    sample = make()
    known = known_by(sample, sample.request())
    accepted = 0
    for body in flipped(sample.body):
        changed = replace(sample.request(), body=body)
        if refusal(sample, changed) is None:
            accepted += 1
            assert known_by(sample, changed).key == known.key, body
    assert (accepted == 0) is (make not in (SAMPLES["mailgun"], SAMPLES["twilio"]))


@pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES)
def test_each_changed_bit_of_what_the_signature_header_says_is_refused(make: Any) -> None:
    """Prefix, encoding, time and signature; not the signatures of another kind beside it, which nobody looks at."""
    sample = make()
    name = names_of_signature(sample)
    if name is None:
        return
    (given,) = (value for key, value in sample.headers.items() if key.lower() == name)
    ignored = {"stripe": ",v0=", "standard_webhooks": "v1a,xyz ", "custom": "q=old,"}.get(sample.scheme)
    for text in flipped(given.encode()):
        value = text.decode("latin-1")
        if ignored is not None and ignored_only(given, value, ignored):
            continue
        headers = {**{k: v for k, v in sample.headers.items() if k.lower() != name}, name: value}
        if value.strip() == given:
            continue
        assert refusal(sample, Request.of(sample.body, headers, url=sample.url)), value


def ignored_only(given: str, changed: str, ignored: str) -> bool:
    at = given.index(ignored)
    end = len(given) if ignored.startswith(",") else at + len(ignored)
    return given[:at] == changed[:at] and given[end:] == changed[end:]


@pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES)
def test_each_changed_bit_of_the_key_is_refused(make: Any) -> None:
    sample = make()
    form = schemes.scheme_of(sample.trigger).form
    signed = schemes.scheme_of(sample.trigger).read(sample.request())
    key = signatures.key_of(form, sample.secret)
    assert signatures.proving_key(form, signed, [key]) == 0
    assert all(signatures.proving_key(form, signed, [other]) is None for other in flipped(key))


@pytest.mark.parametrize("name", ["stripe", "slack", "zoom", "calendly", "generic", "standard_webhooks", "custom"])
def test_another_time_is_refused_though_it_is_fresh(name: str) -> None:
    sample = SAMPLES[name]()
    seconds = str(int(NOW.timestamp()))
    headers = {key: value.replace(seconds, str(int(seconds) + 1)) for key, value in sample.headers.items()}
    assert headers != sample.headers
    assert refusal(sample, Request.of(sample.body, headers, url=sample.url)) is Gate.SIGNATURE


@pytest.mark.parametrize("name", ["square", "twilio", "twilio_json", "custom"])
def test_each_changed_bit_of_a_signed_url_is_refused(name: str) -> None:
    sample = SAMPLES[name]()
    for url in flipped(sample.url.encode()):
        assert refusal(sample, replace(sample.request(), url=url.decode("latin-1"))), url


def test_the_id_of_standard_webhooks_is_signed() -> None:
    sample = SAMPLES["standard_webhooks"]()
    assert refusal(sample, Request.of(sample.body, {**sample.headers, "webhook-id": "msg_2"})) is Gate.SIGNATURE


def test_a_header_that_is_signed_cannot_be_changed() -> None:
    sample = SAMPLES["custom"]()
    changed = Request.of(sample.body, {**sample.headers, "X-Acme-Day": "Monday"}, url=sample.url)
    assert refusal(sample, changed) is Gate.SIGNATURE


# ---- odd requests ---------------------------------------------------------------------------------------------

GITHUB = SAMPLES["github"]()
RIGHT = GITHUB.headers["X-Hub-Signature-256"]


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "sha256=",
        RIGHT[7:],
        RIGHT.upper(),
        "SHA256=" + RIGHT[7:],
        RIGHT + ",",
        RIGHT[:-1],
        RIGHT + "0",
        "é" * 64,
        "sha1=" + RIGHT[7:],
        f"{RIGHT},{RIGHT}",
        "sha256=" + "0" * 64,
        "sha256=" + "\udc80" * 64,
        "x" * 100_000,
    ],
)
def test_an_odd_signature_is_refused(value: str) -> None:
    assert refusal(GITHUB, Request.of(EVENT, {"X-Hub-Signature-256": value})) is Gate.SIGNATURE


def test_a_missing_or_a_second_signature_header_is_refused() -> None:
    assert refusal(GITHUB, Request.of(EVENT)) is Gate.SIGNATURE
    twice = [("x-hub-signature-256", RIGHT), ("X-HUB-SIGNATURE-256", RIGHT)]
    assert refusal(GITHUB, Request.of(EVENT, twice)) is Gate.SIGNATURE


def test_the_name_of_a_header_has_any_case() -> None:
    assert refusal(GITHUB, Request.of(EVENT, {"x-hUB-SIGNATURE-256": RIGHT})) is None


def test_any_of_eight_signatures_counts_and_nine_are_refused() -> None:
    sample = SAMPLES["stripe"]()
    seconds = str(int(NOW.timestamp()))
    right = hexed(f"{seconds}.".encode() + sample.body)
    for wrong, expected in ((7, None), (8, Gate.SIGNATURE), (10_000, Gate.SIGNATURE)):
        pairs = [f"t={seconds}", *[f"v1={place:064x}" for place in range(wrong)], f"v1={right}"]
        headers = {"Stripe-Signature": ",".join(pairs)}
        assert refusal(sample, Request.of(sample.body, headers)) is expected


def test_two_times_are_none() -> None:
    sample = SAMPLES["stripe"]()
    headers = {"Stripe-Signature": f"t=1,{sample.headers['Stripe-Signature']}"}
    assert refusal(sample, Request.of(sample.body, headers)) is Gate.SIGNATURE


def test_a_version_of_stripe_that_is_not_the_first_counts_for_nothing() -> None:
    sample = SAMPLES["stripe"]()
    headers = {"Stripe-Signature": sample.headers["Stripe-Signature"].replace("v1=", "v0=")}
    assert refusal(sample, Request.of(sample.body, headers)) is Gate.SIGNATURE


def test_a_body_of_twilio_that_nothing_signs_is_refused() -> None:
    """The signature of a request without fields is one of the URL alone: any JSON would come with it."""
    from twilio.request_validator import RequestValidator

    signed = RequestValidator(KEY).compute_signature(URL, {})
    sample = replace(SAMPLES["twilio"](), body=b"")
    bare = {"X-Twilio-Signature": signed}
    assert refusal(sample, Request.of(b"", bare, url=URL)) is None
    for kind in ("application/json", "application/x-www-form-urlencoded", ""):
        assert refusal(sample, Request.of(EVENT, {**bare, "Content-Type": kind}, url=URL)) is Gate.SIGNATURE


# ---- time -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stripe", "slack", "zoom", "calendly", "linear", "mailgun", "standard_webhooks"])
def test_the_window_ends_on_its_second(name: str) -> None:
    sample = SAMPLES[name]()
    form = schemes.scheme_of(sample.trigger).form
    signed = schemes.scheme_of(sample.trigger).read(sample.request()).time
    assert signed is not None
    for sign in (1, -1):
        edge = signed + sign * form.tolerance
        assert refusal(replace(sample, at=edge)) is None
        assert refusal(replace(sample, at=edge + sign * timedelta(seconds=1))) is Gate.REPLAY


@pytest.mark.parametrize("time", ["-1", "1e30", "1_000", " 1", "0x10", "", "٣", "9" * 14, "9" * 13, "1.5", "NaN"])
def test_a_time_that_is_none_is_refused(time: str) -> None:
    content = f"{time}.".encode() + EVENT
    headers = {"X-Webhook-Timestamp": time, "X-Webhook-Signature": f"sha256={hexed(content)}"}
    assert refusal(SAMPLES["generic"](), Request.of(EVENT, headers)) in {Gate.SIGNATURE, Gate.REPLAY}


def test_milliseconds_are_no_seconds() -> None:
    time = f"{int(NOW.timestamp())}000"
    headers = {"X-Webhook-Timestamp": time, "X-Webhook-Signature": f"sha256={hexed(f'{time}.'.encode() + EVENT)}"}
    assert refusal(SAMPLES["generic"](), Request.of(EVENT, headers)) is Gate.SIGNATURE


# ---- keys -----------------------------------------------------------------------------------------------------


def test_the_previous_key_is_taken_and_told() -> None:
    door = Door.of("it", GITHUB.trigger)
    judged = judge(door, GITHUB.request(), Secrets("another", KEY), NOW)
    assert (judged.refusal, judged.previous_key) == (None, True)
    judged = judge(door, GITHUB.request(), Secrets(KEY, "another"), NOW)
    assert (judged.refusal, judged.previous_key) == (None, False)


@pytest.mark.parametrize(("scheme", "secret"), [("github", ""), ("github", " \n"), ("microsoft_teams", "no base64!")])
def test_a_secret_that_is_none_fails_closed(scheme: str, secret: str) -> None:
    sample = replace(SAMPLES[scheme](), secret=secret)
    judged = judge(Door.of("it", sample.trigger), sample.request(), Secrets(secret), NOW)
    assert judged.refusal is not None
    assert (judged.refusal.gate, judged.refusal.status) == (Gate.SIGNATURE, 503)
    assert not secret.strip() or secret not in judged.refusal.why


def test_signatures_are_compared_in_constant_time_and_all_of_them() -> None:
    """By the code itself: timings are too noisy to tell. No loop over keys or signatures is left early, and nothing but
    `compare_digest` compares."""
    tree = ast.parse(inspect.getsource(signatures.proving_key))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Break | ast.Continue)]
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For)]
    assert len(loops) == 2
    assert not [node for loop in loops for node in ast.walk(loop) if isinstance(node, ast.Return | ast.Compare)]
    assert "hmac.compare_digest(expected, candidate)" in ast.unparse(tree)


def test_every_key_meets_every_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    met = []
    real = hmac.compare_digest
    monkeypatch.setattr(signatures.hmac, "compare_digest", lambda a, b: met.append((a, b)) or real(a, b))
    sample = SAMPLES["stripe"]()
    scheme = schemes.scheme_of(sample.trigger)
    signed = scheme.read(sample.request())
    two = replace(signed, signatures=(*signed.signatures, b"0" * 64))
    assert signatures.proving_key(scheme.form, two, [KEY.encode(), b"old"]) == 0
    assert len(met) == 4


# ---- what makes a delivery itself -----------------------------------------------------------------------------


def known_by(sample: Sample, request: Request) -> Any:
    door = Door.of("it", sample.trigger)
    judged = judge(door, request, Secrets(sample.secret), sample.at)
    assert judged.signed is not None, judged.verdicts
    return nonces(door, judged.signed)


@pytest.mark.parametrize("name", ["github", "shopify", "generic", "bitbucket"])
def test_a_new_delivery_id_that_nobody_signed_makes_no_new_delivery(name: str) -> None:
    sample = SAMPLES[name]()
    (id,) = (key for key, value in sample.headers.items() if value == "d-1")
    other = Request.of(sample.body, {**sample.headers, id: "d-2"}, url=sample.url)
    first, second = known_by(sample, sample.request()), known_by(sample, other)
    assert (first.key, first.digest) == (second.key, second.digest)
    assert first.other_id != second.other_id


def test_a_try_that_was_signed_anew_is_the_same_delivery() -> None:
    """Slack and Linear sign the time of each try; the event is the same."""
    later = str(int(NOW.timestamp()) + 5)
    slack = SAMPLES["slack"]()
    signed = {
        "X-Slack-Request-Timestamp": later,
        "X-Slack-Signature": "v0=" + hexed(f"v0:{later}:".encode() + slack.body),
    }
    assert known_by(slack, slack.request()) == known_by(slack, Request.of(slack.body, signed))
    linear = SAMPLES["linear"]()
    body = linear.body.replace(b"500}", b"900}")
    again = Request.of(body, {"Linear-Delivery": "d-1", "Linear-Signature": hexed(body)})
    assert body != linear.body
    assert known_by(linear, linear.request()) == known_by(linear, again)


def test_stripe_knows_an_event_by_its_signed_id() -> None:
    """`pending_webhooks` of the same event may differ from try to try."""
    sample, seconds = SAMPLES["stripe"](), str(int(NOW.timestamp()))
    body = compact({"id": "evt_1", "type": "paid", "amount": 42, "pending_webhooks": 2})
    again = Request.of(body, {"Stripe-Signature": f"t={seconds},v1={hexed(f'{seconds}.'.encode() + body)}"})
    assert known_by(sample, sample.request()) == known_by(sample, again)


def test_a_token_of_mailgun_with_another_body_is_another_delivery_of_the_same_id() -> None:
    sample = SAMPLES["mailgun"]()
    other = replace(sample.request(), body=sample.body.replace(b"delivered", b"dropped"))
    first, second = known_by(sample, sample.request()), known_by(sample, other)
    assert first.key == second.key
    assert first.digest != second.digest


# ---- formats and names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"time": "header:x-time"}, "not signed"),
        ({"content": "{time}{body}"}, "does not say where"),
        ({"content": "{time}", "time": "header:x-time"}, "neither the body nor the id"),
        ({"content": "{nonsense}{body}"}, "no part of a request"),
        ({"content": "{body"}, "no partner"),
        ({"id": "field:id"}, "in a pair"),
        ({"id": "header:x-id", "same_by": "id"}, "is not signed"),
        ({"signature": "x-proof"}, "not a place"),
        ({"signature": "field:v1"}, "go into `field`"),
        ({"algorithm": "md5"}, "sha256"),
    ],
)
def test_a_format_that_proves_nothing_is_refused_when_it_is_loaded(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        SignatureFormat.model_validate({"signature": "header:x-proof", **fields})


@pytest.mark.parametrize("name", ["GitHub", "GitHubLegacy", "StandardWebhooks", "standard-webhooks", "MicrosoftTeams"])
def test_a_scheme_is_found_by_its_name_in_any_spelling(name: str) -> None:
    assert schemes.named(name)


def test_an_unknown_scheme_is_told_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="did you mean `stripe`"):
        schemes.named("strype")


def test_a_package_brings_a_scheme_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name, value = "acme", "acme:SCHEME"

        def load(self) -> object:
            return SignatureFormat(signature="header:x-acme", encoding="base64")

    schemes._brought.cache_clear()
    monkeypatch.setattr(schemes, "entry_points", lambda group: [Point()] if group == schemes.GROUP else [])
    assert schemes.named("Acme").form.signature == "header:x-acme"
    assert "acme" in schemes.names()
    monkeypatch.setattr(Point, "load", lambda self: 5)
    schemes._brought.cache_clear()
    with pytest.raises(UsageError, match="is int"):
        schemes.named("Acme")
    schemes._brought.cache_clear()


@pytest.mark.parametrize("secret", ["sk_live_1234", "env:", "env:A B", "file:relative", "STRIPE_SECRET"])
def test_a_secret_itself_is_no_reference_and_is_not_quoted(secret: str) -> None:
    with pytest.raises(ValidationError) as caught:
        WebhookTrigger(type="webhook", scheme="stripe", secret=secret)
    assert [error["msg"] for error in caught.value.errors()] == [
        "Value error, a secret is given by reference. Fix: write `env:NAME` or `file:/path`."
    ]


# ---- whatever comes -------------------------------------------------------------------------------------------


@given(
    st.sampled_from(sorted(SAMPLES)),
    st.binary(max_size=200),
    st.dictionaries(st.text(max_size=20), st.text(max_size=60), max_size=4),
    st.text(max_size=60),
)
def test_no_request_raises_and_none_is_accepted(name: str, body: bytes, headers: dict[str, str], url: str) -> None:
    sample = SAMPLES[name]()
    given = {**headers, **{key: next(iter(headers.values()), "") for key in sample.headers}}
    assert refusal(sample, Request.of(body, given, url=url)) is not None


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' * 100_000,
        b"[" * 100_000,
        b'{"id":1,"id":2}',
        b'{"id":NaN}',
        b'{"id":' + b"9" * 10_000_000 + b"}",
        b'{"id":"\\u0000"}',
        b'{"id":"\\ud800"}',
        b'"\xff"',
        b"",
        b'{"id":1e400}',
    ],
    ids=["deep", "deep list", "twice", "nan", "digits", "nul", "surrogate", "utf-8", "empty", "infinite"],
)
def test_a_body_that_cannot_be_stored_is_refused_in_time(body: bytes) -> None:
    """Of a scheme that reads its id in the body, where a signature is right."""
    from time import process_time

    from orchestrator.webhooks.request import read_json

    began = process_time()
    with pytest.raises(Unreadable):
        read_json(body)
    assert process_time() - began < 1
