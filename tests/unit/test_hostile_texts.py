"""Whatever strangers write into what is read before anybody is known: it is read or refused, in time that grows with
its length, and nothing else comes out of it."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.core import headers, values
from orchestrator.core.durations import parse_duration
from orchestrator.core.runfilter import Field, RunFilter, Term
from orchestrator.core.runquery import CHARACTERS, parse
from orchestrator.core.subscriptions import Kind, address_problem, shown_address
from orchestrator.core.times import parse_time
from orchestrator.core.webhook_triggers import WebhookTrigger
from orchestrator.errors import (
    DurationInvalid,
    InputInvalid,
    OrchestratorError,
    QueryInvalid,
    UsageError,
    WebhookUnreadable,
)
from orchestrator.webhooks import samples
from orchestrator.webhooks.addresses import AddressList, client_address, parse_address
from orchestrator.webhooks.gates import Door, Secrets, judge, nonces
from orchestrator.webhooks.handshakes import challenge, handshake
from orchestrator.webhooks.mapping import mapped, read_form
from orchestrator.webhooks.out.model import AddressRules
from orchestrator.webhooks.out.places import PlaceRefused, read_place
from orchestrator.webhooks.request import HEADER_LIMIT, Request, Unreadable, read_json
from orchestrator.webhooks.schemes import scheme_of
from tests.support.deliveries import NOW, SAMPLES, URL, compact

E = TypeVar("E", bound=Exception)

CPU_S: Final = 0.1
"""Of a processor, for the longest text that is let in."""
HEADERS: Final = 16 * 1024
"""Bytes of headers that the API reads."""
BODY: Final = 1024 * 1024

anything: Final = st.text(st.characters(codec=None, exclude_categories=[]), max_size=60)
"""Lone surrogates and NUL too."""
latin: Final = st.text(st.characters(max_codepoint=255), max_size=60)
"""What a header can hold."""
MADE: Final = {name: make() for name, make in SAMPLES.items()}
DOORS: Final = {name: Door.of("it", sample.trigger) for name, sample in MADE.items()}


@st.composite
def spoilt(draw: st.DrawFn, text: str, marks: str) -> str:
    """A text in which pieces are left out, doubled, moved or replaced: near enough to the right one to get far."""
    for _ in range(draw(st.integers(1, 3))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
        piece = draw(st.sampled_from(["", text[start:end] * 2, text, text[end:]]) | st.text(marks, max_size=4) | latin)
        text = text[:start] + piece + text[end:]
    return text


def refusal(read: Callable[[], object], *errors: type[E]) -> E | None:
    """What it was refused with, None if it was read."""
    try:
        read()
    except errors as exc:
        return exc
    return None


# ---- signatures ------------------------------------------------------------------------------------------------

_MARKS: Final = "=, ;v01t.:'\"\t\x00²é+/-"


@given(st.sampled_from(sorted(MADE)), st.data())
@settings(max_examples=400)
def test_a_spoilt_delivery_is_judged(name: str, data: st.DataObject) -> None:
    """Each header, the body and the URL, one at a time; what passes is what was signed."""
    sample = MADE[name]
    place = data.draw(st.sampled_from([*sample.headers, "body", "url"]))
    given_headers, body, url = dict(sample.headers), sample.body, sample.url
    if place == "body":
        body = data.draw(spoilt(body.decode(), '{}[]",:0e9\\u')).encode(errors="surrogateescape")
    elif place == "url":
        url = data.draw(spoilt(url, "?&=#%;bodySHA256"))
    else:
        given_headers[place] = data.draw(spoilt(given_headers[place], _MARKS))
    request = Request.of(body, given_headers, url=url, address="192.0.2.7")
    judged = judge(DOORS[name], request, Secrets(sample.secret), NOW)
    if judged.signed is not None:
        assert nonces(DOORS[name], judged.signed).key
        handshake(sample.scheme, request, judged.key or b"")
    if judged.refusal is None and place == "body" and DOORS[name].scheme.form.signs_body:
        assert same_content(name, body, sample.body)


def same_content(name: str, body: bytes, signed: bytes) -> bool:
    """Twilio signs what a form says, and not how."""
    return body == signed or (name == "twilio" and read_form(body) == read_form(signed))


@given(st.sampled_from(sorted(MADE)), st.lists(st.tuples(latin, latin), max_size=4), latin, st.binary())
@example("twilio", [], "https://[", b"")
def test_no_header_and_no_url_raises(name: str, pairs: list[tuple[str, str]], url: str, body: bytes) -> None:
    wanted = [*MADE[name].headers, "content-type", "x-hub-signature"]
    named = [(wanted[len(first) % len(wanted)], second) for first, second in pairs]
    request = Request.of(body, [*named, *pairs], url=url, address=url)
    assert judge(DOORS[name], request, Secrets(MADE[name].secret), NOW).refusal is not None


@given(
    st.sampled_from(sorted(MADE)),
    st.dictionaries(st.text(max_size=10), st.integers(-(2**60), 2**60) | st.text(max_size=10), max_size=5),
    st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=60),
    st.integers(946_684_800, 7_258_118_400).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)
@settings(max_examples=60)
def test_what_is_signed_is_read_back(name: str, value: dict[str, Any], id: str, at: datetime) -> None:
    """Whatever its body, its id and its time; a second of them later too."""
    sample = MADE[name]
    body = compact({key: one for key, one in value.items() if key not in ("signature", "webhookTimestamp")})
    try:
        request = samples.signed(scheme_of(sample.trigger), sample.secret, body, URL, at, id)
    except UsageError:
        assert values.refusal(value) is not None
        return
    for seconds in (0, 1, -1):
        then = at + timedelta(seconds=seconds)
        assert judge(DOORS[name], request, Secrets(sample.secret), then).refusal is None


# ---- addresses -------------------------------------------------------------------------------------------------


@given(st.ip_addresses(), st.lists(anything | st.ip_addresses().map(str), max_size=4), st.integers(1, 4))
def test_the_client_is_so_many_places_from_the_right(address: Any, before: list[str], depth: int) -> None:
    """Whatever stands further left, and whoever wrote it."""
    found = client_address("192.0.2.1", [*before, ", ".join([str(address), *["10.0.0.1"] * (depth - 1)])], depth)
    assert found == str(parse_address(str(address)))


@given(anything, st.integers(0, 5), st.lists(anything | st.text("0123456789abcdef.:[]%, ", max_size=60), max_size=4))
def test_a_forwarded_header_gives_an_address_or_none(peer: str, depth: int, forwarded: list[str]) -> None:
    found = client_address(peer, forwarded, depth, AddressList.parse(["10.0.0.0/8"]))
    assert found is None or str(ip_address(found)) == found


@given(st.lists(anything | st.text("0123456789abcdef.:/-*! %githublocal", max_size=40), max_size=4), st.ip_addresses())
@example(["fe80::1%a-fe80::2%b"], ip_address("fe80::1"))
@example(["fe80::/10%eth0"], ip_address("fe80::1"))
@example(["::-" + "9" * 5000], ip_address("::1"))
def test_a_list_of_addresses_is_read_or_refused(entries: list[str], address: Any) -> None:
    refused = refusal(lambda: AddressList.parse(entries).lets_in(str(address)), UsageError)
    assert refused is None or len(refused.message) < 500


@given(st.ip_addresses(v=4), st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_a_range_has_what_lies_between_its_ends(one: Any, other: Any, address: Any) -> None:
    first, last = sorted((one, other))
    found = AddressList.parse([f"{first}-{last}"])
    assert found.lets_in(str(address)) == (first <= address <= last)
    assert found.lets_in(f"::ffff:{address}") == (first <= address <= last)


@given(st.sampled_from(["json", "slack", "email"]), anything | spoilt("https://a.example:443/b?c=d", "[]:@#/\\%."))
@example("json", "https://[")
@example("json", "https://a:b/")
@example("json", "https://\u2100.example/")
def test_an_address_to_send_to_is_taken_or_refused(kind: Kind, text: str) -> None:
    """What one of the two checks takes may be refused by the other, which knows more; neither raises anything else."""
    if address_problem(kind, text) is None:
        assert shown_address(kind, text)
    refused = refusal(lambda: read_place(text, AddressRules()), PlaceRefused)
    assert refused is None or len(refused.message) < 1000


# ---- queries, lengths and points of time -----------------------------------------------------------------------

_WORDS: Final = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


def quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


@given(st.lists(st.tuples(st.sampled_from([Field.TAG, Field.ERROR, Field.WORD]), _WORDS, st.booleans()), max_size=8))
def test_a_query_that_was_written_is_read_back(terms: list[tuple[Field, str, bool]]) -> None:
    written = [
        f"{'-' if negated else ''}{'' if field is Field.WORD else f'{field}:'}{quoted(value)}"
        for field, value, negated in terms
    ]
    wanted = tuple(Term(field, (value,), negated=negated) for field, value, negated in terms)
    assert parse(" ".join(written), NOW) == RunFilter(wanted)


@given(
    spoilt("""flow:bill status:failed,cancelled -tag:"a b" age<1d since:2026-01-01 input.n>=4 'x' """, "\"':,=<>!- \0")
)
@settings(max_examples=300)
def test_a_spoilt_query_is_read_or_refused_with_a_place(text: str) -> None:
    refused = refusal(lambda: parse(text, NOW), QueryInvalid)
    assert refused is None or (0 <= refused.position <= len(text) and refused.fix)


@given(anything | st.text("0123456789.eE+-PTDHMSWYpt :smhdu²٣", max_size=40))
@example("²")
@example("٣s")
@example("9" * 5000)
@example("1e400s")
@example("P9999999999999999999Y")
def test_a_length_of_time_is_read_or_refused(text: str) -> None:
    refused = refusal(lambda: parse_duration(text), DurationInvalid)
    if refused is None:
        assert timedelta(0) <= parse_duration(text) <= timedelta(days=36_500)
    else:
        assert len(refused.message) < 500


@given(anything | st.text("0123456789-:.TZ+W ²", max_size=40) | st.datetimes().map(str))
@example("0001-01-01T00:00+23:59")
@example("9999-12-31T23:59:59-23:59")
def test_a_point_of_time_is_read_or_none(text: str) -> None:
    found = parse_time(text)
    assert found is None or found.tzinfo is None or found.astimezone(UTC)


# ---- bodies ----------------------------------------------------------------------------------------------------

_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
_STORED: Final = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(st.lists(st.tuples(_STORED, _STORED), max_size=6))
def test_a_form_is_read_back(pairs: list[tuple[str, str]]) -> None:
    found = read_form(urlencode(pairs).encode())
    flat = [(name, one) for name, value in found.items() for one in (value if isinstance(value, list) else [value])]
    assert sorted(flat) == sorted(pairs)


@given(st.binary(max_size=80) | st.text("ab=&;%+0cfF\0", max_size=60).map(str.encode))
def test_a_form_is_read_or_refused(body: bytes) -> None:
    with suppress(WebhookUnreadable):
        assert values.refusal(read_form(body)) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _STORED,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_STORED, inner, max_size=3),
    )
)
def test_a_json_body_is_read_back(value: Any) -> None:
    assert read_json(values.dumps(value).encode()) == value


@given(
    st.binary(max_size=80)
    | spoilt('{"a":[1,-2.5e3,"\\u00e9",null],"b":{"c":true}}', '{}[]",:0eE9-.\\u\0').map(str.encode)
)
@example(b'{"a":1e999}')
@example(b'{"a":-1e999}')
@example(b'{"a":"\\ud800"}')
@example(b'{"\\u0000":1}')
@example(b"9" * 4301)
@example(b"-" + b"9" * 5000)
@example(b"\xef\xbb\xbf{}")
@example(b'{"a":Infinity}')
def test_a_json_body_is_one_that_can_be_kept_or_refused(body: bytes) -> None:
    try:
        found = read_json(body)
    except Unreadable:
        return
    assert values.loads(values.dumps(found)) == found


_MAPPING: Final = WebhookTrigger(
    type="webhook",
    scheme="github",
    secret="env:S",
    input={"a": "@triggerBody()?.a.b", "c": "c: @{triggerBody()?.c}, @{triggerHeaders()?.x}", "all": "@triggerBody()"},
    idempotency_key="@triggerBody()?.a.key",
)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | anything,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc") | anything, inner, max_size=3)
        ),
    ),
    st.lists(st.tuples(anything, anything), max_size=3),
    st.booleans(),
)
def test_a_delivery_is_mapped_or_refused(value: Any, pairs: list[tuple[str, str]], form: bool) -> None:
    body = json.dumps(value).encode()
    given_headers = [*pairs, ("x", "1"), *(_FORM.items() if form else ())]
    for trigger in (_MAPPING, _MAPPING.model_copy(update={"input": None, "body": "form" if form else "json"})):
        request = Request.of(body, given_headers)
        refused = refusal(lambda: mapped(trigger, request), WebhookUnreadable, InputInvalid)  # noqa: B023 # called at once
        if refused is None:
            found = mapped(trigger, request)
            assert values.refusal([values.loads(found.text), values.loads(found.headers)]) is None
        else:
            assert len(refused.message) < 1000


@given(st.dictionaries(anything, anything, max_size=3), st.sampled_from(["dropbox", "slack", "zoom"]), st.binary())
def test_a_challenge_is_answered_or_not(query: dict[str, str], scheme: str, body: bytes) -> None:
    challenge(scheme, query)
    handshake(scheme, Request.of(body), b"key")


# ---- time ------------------------------------------------------------------------------------------------------


def _judge(name: str) -> Callable[[str], object]:
    """Each header of the scheme is the text."""

    def read(text: str) -> object:
        given_headers = dict.fromkeys(MADE[name].headers, text)
        return judge(DOORS[name], Request.of(MADE[name].body, given_headers, url=URL), Secrets(MADE[name].secret), NOW)

    return read


def _body(name: str) -> Callable[[str], object]:
    def read(text: str) -> object:
        request = Request.of(text.encode(), {**MADE[name].headers, **_FORM}, url=URL)
        return judge(DOORS[name], request, Secrets(MADE[name].secret), NOW)

    return read


READERS: Final[dict[str, tuple[Callable[[str], object], int]]] = {
    **{f"{name} header": (_judge(name), HEADER_LIMIT) for name in sorted(MADE)},
    **{f"{name} body": (_body(name), BODY) for name in ("linear", "mailgun", "stripe", "twilio")},
    "forwarded": (lambda text: client_address("10.0.0.1", [text], 3), HEADERS),
    "address list": (lambda text: AddressList.parse([text] * 10), HEADERS),
    "query": (lambda text: parse(text, NOW), CHARACTERS),
    "length of time": (parse_duration, HEADERS),
    "point of time": (parse_time, HEADERS),
    "form": (lambda text: read_form(text.encode()), BODY),
    "value of a form": (lambda text: read_form(b"a=" + text.encode()), BODY),
    "value of a signed form": (lambda text: _body("twilio")("a=" + text), BODY),
    "json": (lambda text: read_json(text.encode()), BODY),
    "mapping": (lambda text: mapped(_MAPPING, Request.of(text.encode(), {"a-b": text[:HEADER_LIMIT]})), BODY),
    "kept headers": (lambda text: headers.kept([(text[at : at + 9], text) for at in range(99)]), HEADERS),
}
PATTERNS: Final = (
    *[
        "a",
        "0",
        " ",
        "\t",
        ",",
        "=",
        "a=1&",
        "&",
        "%",
        "%00",
        "v1=",
        "v1=0,",
        "t=1,v1=a,",
        "-",
        "--",
        ".",
        ":",
        "::",
        "1.",
    ],
    *[
        '"',
        '""',
        "'",
        "''",
        '" "',
        "tag:a ",
        "tag:a,",
        "input.a",
        "1d",
        "1h ",
        "P",
        "PT1S",
        "[",
        "{",
        '{"a":',
        '"\\u0000",',
    ],
    *["[1,", "9", "1e", "1e9999,", "\\", "\\u", "é", "*", "*.", "!", "1.2.3.4,", "1.2.3.4-", "[::1]:1,", "%é"],
)


@pytest.mark.parametrize("name", READERS)
def test_the_longest_text_is_read_in_little_time(name: str) -> None:
    reader, most = READERS[name]
    slow = {}
    for pattern in PATTERNS:
        text = (pattern * (most // len(pattern.encode()) + 1))[: most // (2 if not pattern.isascii() else 1)]
        if not any(spent_s(reader, text) <= CPU_S for _ in range(3)):  # others use the processor's caches too
            slow[pattern] = spent_s(reader, text)
    assert slow == {}


def spent_s(reader: Callable[[str], object], text: str) -> float:
    before = time.thread_time()
    with suppress(OrchestratorError, Unreadable):
        reader(text)
    return time.thread_time() - before
