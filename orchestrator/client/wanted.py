"""Which runs a caller means: by names, or by the text of a query."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypedDict

from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from orchestrator.authoring.alone import name_alone
from orchestrator.authoring.flow import Flow
from orchestrator.authoring.step import Step
from orchestrator.client.given import known
from orchestrator.core import runquery
from orchestrator.core.durations import DurationLike, format_duration, parse_duration
from orchestrator.core.runfilter import ALL, RunFilter
from orchestrator.core.states import RunStatus
from orchestrator.errors import UsageError

PARTS: Final = 2000
"""So many parts of a span are told apart."""
_SHORTEST: Final = timedelta(minutes=1)


class Wanted(TypedDict, total=False):
    """Which runs are listed or counted. `q` is a query as `orchestrator run ls` takes it."""

    q: str | None
    flow: Flow[..., Any] | Step[..., Any, Any] | str | None
    status: RunStatus | str | Iterable[str] | None
    tag: str | None
    key: str | None
    schedule: str | None
    error: str | None
    since: datetime | None
    until: datetime | None


def asked_of(wanted: Wanted) -> dict[str, JsonValue]:
    """What is asked for, as JSON, in the words of the caller."""
    flow, status = wanted.get("flow"), wanted.get("status")
    plain = {
        **wanted,
        "flow": None if flow is None else flow_name(flow),
        "status": [status] if isinstance(status, str) else list(status or ()),
    }
    return {name: to_jsonable_python(value) for name, value in plain.items() if value not in (None, "", [])}


def filter_of(wanted: Wanted) -> RunFilter:
    """All that is given holds.

    Raises:
        QueryInvalid: the query does not read.
        UsageError: there is no such status, or a time has no zone.
    """
    for at in (wanted.get("since"), wanted.get("until")):
        _check_zone(at)
    flow, given = wanted.get("flow"), wanted.get("status") or ()
    statuses = (given,) if isinstance(given, str) else tuple(given)
    plain = RunFilter.of(
        flow=None if flow is None else flow_name(flow),
        status=[known(RunStatus, status) for status in statuses],
        tag=wanted.get("tag"),
        key=wanted.get("key"),
        schedule=wanted.get("schedule"),
        error=wanted.get("error"),
        since=wanted.get("since"),
        until=wanted.get("until"),
    )
    query = wanted.get("q")
    return plain & (runquery.parse(query, datetime.now(UTC)) if query else ALL)


def span_of(
    since: datetime | None, until: datetime | None, every: DurationLike | None
) -> tuple[datetime, datetime, timedelta | None]:
    """A span, by default the last day, whose first minute is a whole one; and the length of its parts.

    Raises:
        UsageError: a time has no zone, the span is empty, or it has too many parts.
    """
    _check_zone(since)
    _check_zone(until)
    end = until or datetime.now(UTC)
    begin = (since or end - timedelta(days=1)).replace(second=0, microsecond=0)
    part = None if every is None else parse_duration(every)
    if begin >= end:
        raise UsageError(f"The span from {begin} until {end} is empty. Fix: give a `since` that is before `until`.")
    if part is not None and (part < _SHORTEST or (end - begin) / part > PARTS):
        raise UsageError(
            f"`every={format_duration(part)}` is too short for a span of {format_duration(end - begin)}. "
            f"Fix: ask for a minute or more, and for {PARTS:,} parts at most."
        )
    return begin, end, part


def _check_zone(at: datetime | None) -> None:
    if at is not None and at.tzinfo is None:
        raise UsageError(f"{at} has no zone. Fix: give an aware datetime, such as {at.isoformat()}+00:00.")


def flow_name(flow: object) -> str:
    """The name of a flow that was given as an object or by its name.

    Raises:
        UsageError: it is something else.
    """
    match flow:
        case Flow():
            return flow.name
        case str():
            return flow
        case Step():
            return name_alone(flow)
    if callable(flow):
        name = getattr(flow, "__name__", type(flow).__name__)
        raise UsageError(f"`{name}` is a function. Fix: make it a flow with `@flow`.")
    raise UsageError(f"A flow is a Flow or its name, not {type(flow).__name__}. Fix: give one of these.")
