"""Parameters that several routes take."""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, Header, Path, Query
from fastapi.concurrency import run_in_threadpool

from orchestrator.client.run_handle import RunHandle
from orchestrator.client.wanted import Wanted
from orchestrator.core.durations import parse_duration
from orchestrator.core.states import RunStatus
from orchestrator.core.times import parse_time
from orchestrator.errors import DurationInvalid
from orchestrator.http.caller import TheClient
from orchestrator.http.paging import MOST_NUMBER
from orchestrator.http.problems import Refused

FlowName = Annotated[str, Path(alias="flow", min_length=1, max_length=100, description="The name of a flow.")]
StepKey = Annotated[str, Path(alias="step", min_length=1, max_length=400, description="The key of a step.")]
AfterEvent = Annotated[int, Query(ge=0, le=MOST_NUMBER, description="Only events with a greater id.")]
Moment = Annotated[str | None, Query(max_length=40, description="RFC 3339, as 2026-01-31T12:00:00Z.")]
KEY: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
_KEY: Final = re.compile(r'"([^"\\]*)"')


RunId = Annotated[str, Path(max_length=36, description="A run's id, or its last characters, at least four.")]


def run_of(run_id: RunId, client: TheClient) -> "RunHandle[Any]":
    return client.run(run_id)


async def named_run(run_id: RunId, client: TheClient) -> "RunHandle[Any]":
    """For a route that reads the run anyway: a whole id is not looked up before."""
    try:
        return RunHandle(client, UUID(run_id))
    except ValueError:
        return await run_in_threadpool(client.run, run_id)


TheRun = Annotated[RunHandle[Any], Depends(run_of)]
NamedRun = Annotated[RunHandle[Any], Depends(named_run)]


async def key_of(
    given: Annotated[
        str | None,
        Header(
            alias=KEY,
            min_length=1,
            max_length=257,
            description="The same key and request, for a day: the first answer again.",
        ),
    ] = None,
) -> str | None:
    """See `read_key`."""
    return None if given is None else read_key(given)


def read_key(given: str) -> str:
    """Quoted, as the draft of the header has it, or bare.

    Raises:
        Refused: it is neither.
    """
    quoted = _KEY.fullmatch(given.strip())
    key = quoted[1] if quoted else given.strip()
    if not 1 <= len(key) <= 255 or not key.isprintable():
        raise Refused(400, "The `Idempotency-Key` is not one.", fix="send 1 to 255 printable characters.")
    return key


IdempotencyKey = Annotated[str | None, Depends(key_of)]


async def wanted_of(
    q: Annotated[str | None, Query(max_length=1000, description="A query, as `flow:x status:failed age<1d`.")] = None,
    flow: Annotated[str | None, Query(max_length=100)] = None,
    status: Annotated[list[RunStatus] | None, Query(description="Several: any of them.")] = None,
    tag: Annotated[str | None, Query(max_length=100)] = None,
    key: Annotated[str | None, Query(max_length=255, description="The idempotency key.")] = None,
    schedule: Annotated[str | None, Query(max_length=201, description="Its key, or FLOW/KEY.")] = None,
    error: Annotated[str | None, Query(max_length=200, description="A part of the error.")] = None,
    since: Moment = None,
    until: Moment = None,
) -> Wanted:
    """Which runs: all that is given holds. (A coroutine, as all that needs no thread.)"""
    wanted: Wanted = {"q": q, "flow": flow, "status": status, "tag": tag, "key": key}
    return wanted | {
        "schedule": schedule,
        "error": error,
        "since": moment("since", since),
        "until": moment("until", until),
    }


TheWanted = Annotated[Wanted, Depends(wanted_of)]


def moment(name: str, text: str | None) -> datetime | None:
    """RFC 3339 with an offset.

    Raises:
        Refused: it is not.
    """
    if text is None:
        return None
    found = parse_time(text.replace(" ", "+"))  # a plus that was not escaped
    if found is None or found.tzinfo is None:
        raise Refused(400, f"{name}={text[:60]!r} is not a time.", fix="write 2026-01-31T12:00:00Z.")
    return found


def span(name: str, text: str) -> timedelta:
    """A length of time.

    Raises:
        Refused: it is none.
    """
    try:
        return parse_duration(text)
    except DurationInvalid as exc:
        raise Refused(400, f"{name}={text[:40]!r} is not a length of time.", fix="write 24h.") from exc


def length(name: str, text: str | None) -> Any:
    """A length of time, or a time.

    Raises:
        Refused: it is neither.
    """
    if text is None:
        return None
    try:
        return parse_duration(text)
    except DurationInvalid:
        return moment(name, text)
