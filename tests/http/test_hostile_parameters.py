"""What strangers write into cursors, keys, tags and lengths of time: it is taken or refused, and never a 500."""

import asyncio
import base64
import hashlib
import json
from collections import Counter
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.client import Client
from orchestrator.http import paging, tags
from orchestrator.http.parameters import key_of, length, moment
from orchestrator.http.problems import Refused
from orchestrator.http.waiting import LONGEST_S, seconds_of
from orchestrator.settings import Settings
from tests.http.access import bearer, key, served

anything: Final = st.text(st.characters(codec=None, exclude_categories=[]), max_size=60)
latin: Final = st.text(st.characters(max_codepoint=255), max_size=60)


def asked(path: str = "/api/runs", query: str = "", **headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": pairs}
    return Request({**scope, "server": ("127.0.0.1", 80), "scheme": "http"})


# ---- parsers ---------------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=255))
def test_a_key_is_the_same_bare_or_in_quotes(key: str) -> None:
    plain = key.replace('"', "q").replace("\\", "b")
    assert asyncio.run(key_of(plain)) == asyncio.run(key_of(f'"{plain}"')) == plain


@given(anything | latin | st.text('"\\ \t\0²a', max_size=260))
def test_a_key_is_one_that_can_be_kept_or_refused(given_key: str) -> None:
    with suppress(Refused):
        found = asyncio.run(key_of(given_key))
        assert found is not None
        assert 1 <= len(found) <= 255
        assert found.isprintable()


@given(anything | st.text("0123456789smhdPT:.-+Z²٣ ", max_size=40))
@example("²")
@example("9" * 5000)
@example("٣")
def test_a_length_or_a_time_is_read_or_refused(text: str) -> None:
    for read in (lambda: length("ttl", text), lambda: moment("since", text)):
        with suppress(Refused):
            read()


@given(anything | st.text("0123456789smhPT.²٣ ", max_size=20), latin | st.text("wait=0123456789,; ²", max_size=40))
@example("²", "wait=²")
@example("", "wait=999999")
def test_a_wait_is_short_or_refused(text: str, prefer: str) -> None:
    with suppress(Refused):
        assert 0 <= seconds_of(asked(), text) <= LONGEST_S
    assert 0 <= seconds_of(asked(prefer=prefer), None) <= LONGEST_S


@given(latin | st.text('W/"abc",* ', max_size=60))
def test_a_list_of_tags_has_the_one_that_is_in_it(text: str) -> None:
    tag = tags.of({"a": 1})
    assert tags.known(asked(if_none_match=f"{text.replace(',', ' ')}, {tag}"), Response(), tag) is not None
    if tag not in text:
        assert tags.known(asked(if_none_match=text), Response(), tag) is None


@given(st.text(max_size=20), st.uuids(), st.uuids())
def test_a_cursor_that_a_page_gave_is_read_back_for_its_query_only(flow: str, first: UUID, second: UUID) -> None:
    from urllib.parse import urlencode

    query = urlencode({"flow": flow})
    page = paging.page(asked(query=query), Response(), [first, second], 1, str)
    assert page.next is not None
    assert paging.after_id(asked(query=f"{query}&limit=7"), page.next) == first
    with pytest.raises(Refused, match="another query"):
        paging.after_id(asked(query=f"{query}x"), page.next)


@given(anything | st.binary(max_size=60).map(lambda one: base64.urlsafe_b64encode(one).decode()))
@example(base64.urlsafe_b64encode(b"1").decode())
@example(base64.urlsafe_b64encode(b'{"a":1,"b":2}').decode())
@example(base64.urlsafe_b64encode(b"[" * 300).decode())
def test_a_cursor_that_nobody_gave_is_refused(cursor: str) -> None:
    with pytest.raises(Refused) as caught:
        paging.after_id(asked(), cursor)
    assert caught.value.status == 400


# ---- routes ----------------------------------------------------------------------------------------------------

PLACES: Final[list[Any]] = [
    *[None, True, 0, -1, 2**31, 2**63, 2**200, 1.5, "", "a\0b", "\ud800", {"a": 1}, [], ["x", "y"]],
    *[["a\0", "b\0"], ["a\0", 1, 2], ["a", 2**40, 2**70], ["a", -1, -1], [[[]]]],
    *["01a228c7-ba59-76d7-84e1-e2ab87b7c2f7", ["01a228c7-ba59-76d7-84e1-e2ab87b7c2f7", "a\0"]],
]


def forged(path: str, place: Any) -> str:
    """Anybody can: a cursor holds no secret."""
    query = hashlib.sha256(json.dumps([path, []]).encode()).hexdigest()[:12]
    return base64.urlsafe_b64encode(json.dumps([query, place]).encode()).decode()


def test_a_forged_cursor_of_any_list_is_taken_or_refused(settings: Settings, stack: Client) -> None:
    run = stack.start("hello", {"name": "ann"})
    known = {"run_id": str(run.id), "flow": "hello", "step": "greet"}
    answers: Counter[tuple[str, int]] = Counter()
    with served(settings, rate_reads=0) as api:
        api.headers.update(bearer(key(stack)))
        for template, methods in api.get("/api/openapi.json").json()["paths"].items():
            names = {one["name"] for one in methods.get("get", {}).get("parameters", ())}
            if "cursor" in names:
                path = template.format(**{name: known.get(name, "none") for name in names})
                for place in PLACES:
                    answers[template, api.get(path, params={"cursor": forged(path, place)}).status_code] += 1
    assert len({template for template, status in answers if status == 400}) > 8
    assert {status for _, status in answers} <= {200, 400, 404}, answers
