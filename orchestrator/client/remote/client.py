"""`HttpClient`: start flows and follow their runs where only the API can be reached."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar, Unpack, overload
from uuid import UUID

from orchestrator.authoring.alone import alone
from orchestrator.authoring.flow import Flow
from orchestrator.authoring.step import Length, Step
from orchestrator.client.client import PAGE, Startable
from orchestrator.client.given import at_least_one, body_of, check_starts, given_once
from orchestrator.client.headers import Headers, headers_of
from orchestrator.client.later import StartAfter, begins_of
from orchestrator.client.records import Record
from orchestrator.client.remote.groups.members import HttpGroups
from orchestrator.client.remote.operations import HttpOperations
from orchestrator.client.remote.run import HttpRunHandle
from orchestrator.client.remote.schedule import HttpScheduleHandle
from orchestrator.client.remote.transport import part
from orchestrator.client.schedule_handle import named, only
from orchestrator.client.wanted import Wanted, asked_of, filter_of, flow_name
from orchestrator.core.durations import format_duration, parse_duration
from orchestrator.core.values import loads
from orchestrator.engine.signals.approvals import Approval
from orchestrator.ledger.error_groups import ErrorGroup
from orchestrator.ledger.reads.rows import EventRow, RunRow
from orchestrator.ledger.reads.runs import check_whole
from orchestrator.ledger.rollups import RunStats
from orchestrator.ledger.schedules import ScheduleRow, no_schedule

R = TypeVar("R")

_LARGEST: Final = 900_000
"""Bytes of the inputs in one request: the API takes 1 MiB."""


class HttpClient(HttpOperations, HttpGroups):
    """As `Client`, over the HTTP API. A flow runs at its current version, also where its object is given; that says
    what its input and its result are. Safe to share between threads; close it, or use it in a `with`."""

    @overload
    def start(
        self,
        flow: Startable[R],
        input: Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        tags: Sequence[str] = (),
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
        **parameters: Any,
    ) -> HttpRunHandle[R]: ...
    @overload
    def start(
        self,
        flow: str,
        input: Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        tags: Sequence[str] = (),
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
        **parameters: Any,
    ) -> HttpRunHandle[Any]: ...
    def start(
        self,
        flow: Startable[Any] | str,
        input: Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        tags: Sequence[str] = (),
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
        **parameters: Any,
    ) -> HttpRunHandle[Any]:
        """As `Client.start`. A lost answer is asked for again by itself. Where that is in vain, too, and there is no
        idempotency key, it is not known whether a run was started."""
        keys = None if idempotency_key is None else [idempotency_key]
        given = given_once(input, parameters)
        return self.start_many(flow, [given], keys, tags, start_after=start_after, headers=headers)[0]

    @overload
    def start_many(
        self,
        flow: Startable[R],
        inputs: Sequence[Mapping[str, Any]],
        idempotency_keys: Sequence[str] | None = None,
        tags: Sequence[str] = (),
        *,
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
    ) -> list[HttpRunHandle[R]]: ...
    @overload
    def start_many(
        self,
        flow: str,
        inputs: Sequence[Mapping[str, Any]],
        idempotency_keys: Sequence[str] | None = None,
        tags: Sequence[str] = (),
        *,
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
    ) -> list[HttpRunHandle[Any]]: ...
    def start_many(
        self,
        flow: Startable[Any] | str,
        inputs: Sequence[Mapping[str, Any]],
        idempotency_keys: Sequence[str] | None = None,
        tags: Sequence[str] = (),
        *,
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
    ) -> list[HttpRunHandle[Any]]:
        """As `Client.start_many`: a request for each 500, or for as many as it takes."""
        check_starts(tags, inputs, idempotency_keys)
        code, kept = _code(flow), headers_of(headers)
        bodies = [body_of(code, one, ()) for one in inputs]
        path = f"/flows/{part(flow_name(flow))}/trigger/batch"
        same = {
            "tags": list(tags),
            "start_after": _begins(start_after),
            "headers": None if kept is None else loads(kept),
        }
        handles: list[HttpRunHandle[Any]] = []
        for first, end in _pages(bodies):
            keys = None if idempotency_keys is None else list(idempotency_keys[first:end])
            batch = {"inputs": [loads(body) for body in bodies[first:end]], "idempotency_keys": keys, **same}
            again = keys is not None and None not in keys
            done: Mapping[str, Any] = self.transport.post(dict[str, Any], path, batch, again=again)
            handles += [HttpRunHandle(self, UUID(one["id"]), code, created=one["created"]) for one in done["items"]]
        return handles

    def runs(
        self, *, limit: int = 50, after: UUID | None = None, inputs: bool = True, **wanted: Unpack[Wanted]
    ) -> list[RunRow]:
        """As `Client.runs`."""
        query = {**_query(wanted), "fields": "body" if inputs else None, "after": after}
        return self.listed(RunRow, "/runs", query, at_least_one(limit))

    def count_runs(self, **wanted: Unpack[Wanted]) -> int:
        """As `Client.count_runs`."""
        query = {**_query(wanted), "count": True, "limit": 1}
        found: Mapping[str, Any] = self.transport.get(dict[str, Any], "/runs", query)
        return int(found["count"])

    def errors(self, **wanted: Unpack[Wanted]) -> list[ErrorGroup]:
        """As `Client.errors`."""
        return self.listed(ErrorGroup, "/runs/errors", _query(wanted), None)

    def all_records(self, **wanted: Unpack[Wanted]) -> Iterator[Record]:
        """As `Client.all_records`: one answer, read as it is made. If that breaks off, this raises `Unavailable`."""
        for line in self.transport.lines("/runs/export", _query(wanted)):
            yield loads(line)

    def stats(
        self,
        flow: Startable[Any] | str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        every: Length | None = None,
    ) -> list[RunStats]:
        """As `Client.stats`."""
        moments = {"since": since and since.isoformat(), "until": until and until.isoformat()}
        moments["every"] = None if every is None else format_duration(parse_duration(every))
        name = None if flow is None else flow_name(flow)
        return self.listed(RunStats, "/runs/stats", {"flow": name, **moments}, None)

    @overload
    def run(self, run_id: UUID | str, flow: Startable[R]) -> HttpRunHandle[R]: ...
    @overload
    def run(self, run_id: UUID | str, flow: None = None) -> HttpRunHandle[Any]: ...
    def run(self, run_id: UUID | str, flow: Startable[Any] | None = None) -> HttpRunHandle[Any]:
        """As `Client.run`."""
        check_whole(str(run_id))
        row: RunRow = self.transport.get(RunRow, f"/runs/{part(run_id)}")
        return HttpRunHandle(self, row.id, None if flow is None else _code(flow))

    def is_unserved(self, flow: Startable[Any] | str) -> bool:
        """As `Client.is_unserved`."""
        found: Mapping[str, bool] = self.transport.get(dict[str, bool], f"/flows/{part(flow_name(flow))}/unserved")
        return found["unserved"]

    def flow_events(self, flow: Startable[Any] | str, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """As `Client.flow_events`."""
        path = f"/flows/{part(flow_name(flow))}/events"
        return self.listed(EventRow, path, {"after": after}, at_least_one(limit))

    def delete_flow(self, flow: Startable[Any] | str, *, by: str | None = None) -> None:
        """As `Client.delete_flow`."""
        self.flows.delete(flow_name(flow), by=by)

    def approvals(self, to: str | None = None, *, limit: int = 50, after: Approval | None = None) -> list[Approval]:
        """As `Client.approvals`."""
        last = None if after is None else f"{after.run_id}/{after.step}"
        return self.listed(Approval, "/approvals", {"to": to, "after": last}, at_least_one(limit))

    def schedules(self, flow: Flow[..., Any] | str | None = None) -> list[ScheduleRow]:
        """As `Client.schedules`."""
        return self.listed(ScheduleRow, "/schedules", {"flow": None if flow is None else flow_name(flow)}, None)

    def schedule(self, flow: Flow[..., Any] | str, key: str | None = None) -> HttpScheduleHandle:
        """As `Client.schedule`."""
        name, given = named(flow_name(flow), key)
        if given is None:
            return HttpScheduleHandle(self, name, only(name, self.schedules(name)))
        if not given or "/" in given:  # no part of a path is like that
            raise no_schedule(name, given, [row.trigger_key for row in self.schedules(name)])
        handle = HttpScheduleHandle(self, name, given)
        handle.row()
        return handle


def _code(flow: Startable[Any] | str) -> Flow[..., Any] | None:
    return alone(flow) if isinstance(flow, Step) else flow if isinstance(flow, Flow) else None


def _begins(start_after: StartAfter | None) -> str | None:
    begins = begins_of(start_after)
    if isinstance(begins, timedelta):
        return format_duration(begins)
    return begins.isoformat() if isinstance(begins, datetime) else None


def _query(wanted: Wanted) -> dict[str, Any]:
    """
    Raises:
        UsageError: there is no such status, or a time has no zone.
    """
    filter_of({**wanted, "q": None})  # what is wrong is said as `Client` says it; the query is the server's to read
    return dict(asked_of(wanted))


def _pages(bodies: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The bounds of as many as one request takes."""
    first = size = 0
    for place, body in enumerate(bodies):
        if place > first and (place - first == PAGE or size + len(body) > _LARGEST):
            yield first, place
            first, size = place, 0
        size += len(body.encode()) + 1
    if bodies:
        yield first, len(bodies)
