"""`Idempotency-Key`: the first answer to a request is kept in the commit that does what it asks for, and whoever sends
the request again gets it again."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
from fastapi import Response
from fastapi.concurrency import run_in_threadpool

from orchestrator.client.client import Client
from orchestrator.client.within import Within
from orchestrator.core.happened import Fact
from orchestrator.engine import requests
from orchestrator.errors import OrchestratorError
from orchestrator.http.bodies import JSON, JsonRequest
from orchestrator.http.parameters import REPLAYED
from orchestrator.http.policy import SECRET_REQUESTS
from orchestrator.http.problems import status_of
from orchestrator.ledger.joined import Joined
from orchestrator.ledger.requests import Answer, KeyedRequest
from orchestrator.observe.observer import held_back, notify

MOST_WAITING: Final = 10
"""Threads that may wait for the end of a request with the same key. They are not those that requests are done in, which
might all wait for one that finds none left."""
_KEPT_HEADERS: Final = ("location", "etag", "link")

Act = Callable[[], Awaitable[Response]]


async def answered(request: JsonRequest, operation: str, key: str, body: Any, act: Act) -> Response:
    """What the key was answered before; else what `act` answers, which is one commit with the key, and kept with it.

    Raises:
        IdempotencyConflict: the key was used for another request.
        OrchestratorError: as `act`; the key may be used again.
    """
    client: Client = request.app.state.client
    asked = _asked(request, operation, key, body)
    begun = await anyio.to_thread.run_sync(
        client.call_once, requests.begin, asked, limiter=request.app.state.waiting_for_keys
    )
    return _again(begun) if isinstance(begun, Answer) else await _first(request, client, begun, asked, act)


async def _first(request: JsonRequest, client: Client, joined: Joined, asked: KeyedRequest, act: Act) -> Response:
    within = request.state.client = Within(client, joined)
    facts: list[Fact] = []
    try:
        with held_back(facts):
            answer = await _done(within, joined, asked, act, facts)
    finally:
        del request.state.client
        for fact in facts:
            notify(fact)
    await run_in_threadpool(client.publish, within.dispatches)
    return answer


async def _done(within: Within, joined: Joined, asked: KeyedRequest, act: Act, facts: list[Fact]) -> Response:
    try:
        answer = await act()
        await run_in_threadpool(within.end, requests.keep, asked, _kept(answer))
    except BaseException as exc:
        with anyio.CancelScope(shield=True):  # and in a thread: a server that hangs must not hold up everybody
            if isinstance(exc, OrchestratorError) and status_of(exc) < 500:
                await run_in_threadpool(within.end, requests.leave, asked)
            else:
                await run_in_threadpool(joined.roll_back)
                facts.clear()
        raise
    return answer


def _asked(request: JsonRequest, operation: str, key: str, body: Any) -> KeyedRequest:
    """All that a request says, as it was meant: the order of names and the spaces of its JSON are not part of that."""
    said = json.dumps([request.url.path, sorted(request.query_params.multi_items()), body], sort_keys=True).encode()
    caller = request.state.caller.name
    if operation in SECRET_REQUESTS:  # whoever reads the ledger must not find out by trying
        salt = json.dumps([caller, operation, key]).encode()
        return KeyedRequest(caller, operation, key, hashlib.scrypt(said, salt=salt, n=1 << 14, r=8, p=1))
    return KeyedRequest(caller, operation, key, hashlib.sha256(said).digest())


def _kept(answer: Response) -> Answer:
    headers = {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}
    return Answer(answer.status_code, headers, bytes(answer.body).decode())


def _again(answer: Answer) -> Response:
    """200, as it is not done now; or 204, as there is nothing to say."""
    status = 204 if answer.status == 204 else 200
    return Response(answer.body or None, status, {**answer.headers, REPLAYED: "true"}, JSON if answer.body else None)
