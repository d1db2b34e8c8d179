"""`HttpClient`: start flows and follow their runs where only the API can be reached."""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload
from uuid import UUID

from pydantic import JsonValue, TypeAdapter

from orchestrator.authoring.alone import alone
from orchestrator.authoring.flow import Flow
from orchestrator.authoring.step import Step
from orchestrator.client.client import PAGE, Startable
from orchestrator.client.given import at_least_one, body_of, mapping
from orchestrator.client.later import StartAfter, begins_of
from orchestrator.client.remote.groups.members import HttpGroups
from orchestrator.client.remote.run import HttpRunHandle
from orchestrator.client.remote.schedule import HttpScheduleHandle
from orchestrator.client.remote.transport import Transport, part
from orchestrator.client.wanted import Wanted, flow_name
from orchestrator.core.durations import format_duration
from orchestrator.core.values import loads
from orchestrator.engine.signals.approvals import Approval
from orchestrator.errors import SettingsInvalid, UsageError
from orchestrator.ledger.error_groups import ErrorGroup
from orchestrator.ledger.reads.rows import EventRow, RunRow
from orchestrator.ledger.rollups import RunStats
from orchestrator.ledger.schedules import ScheduleRow
from orchestrator.settings import Settings, variable

T = TypeVar("T")
R = TypeVar("R")

_MOST: int = 500
"""Items of one page."""


class HttpClient(HttpGroups):
    """As `Client`, over the HTTP API. A flow runs at its current version, also where its object is given; that says
    what its input and its result are. Safe to share between threads; close it, or use it in a `with`."""

    def __init__(self, url: str, key: str | None = None) -> None:
        """`url` is that of the API, such as `https://flows.example.com`."""
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{url!r} is not the URL of an API. Fix: give one such as https://flows.example.com.")
        self.transport = Transport(url, key)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """From ORCHESTRATOR_API_URL and ORCHESTRATOR_API_KEY.

        Raises:
            SettingsInvalid: a variable is unknown, wrong or missing.
        """
        settings = Settings.from_env(os.environ if env is None else env)
        if settings.api_url is None:
            raise SettingsInvalid(f"{variable('api_url')} is not set. Fix: set it to the URL of `orchestrator api`.")
        return cls(settings.api_url, None if settings.api_key is None else settings.api_key.get_secret_value())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self.transport.close()

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
        **parameters: Any,
    ) -> HttpRunHandle[Any]:
        """As `Client.start`. Without an idempotency key, and when the answer is lost, it is not known whether a run was
        started; with one it is asked for again by itself."""
        if input is not None and (twice := input.keys() & parameters.keys()):
            raise UsageError(f"`{min(twice)}` is given in the mapping and as a keyword. Fix: give it once.")
        code = _code(flow)
        body = loads(body_of(code, {**(mapping(input) if input is not None else {}), **parameters}, ()))
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        query = {"tag": list(tags), "start_after": _begins(start_after)}
        path = f"/flows/{part(flow_name(flow))}/trigger"
        done: Mapping[str, Any] = self.send(dict[str, Any], "POST", path, body, query, headers)
        return HttpRunHandle(self, UUID(done["id"]), code, created=done["created"])

    def start_many(
        self,
        flow: Startable[Any] | str,
        inputs: Sequence[Mapping[str, Any]],
        idempotency_keys: Sequence[str] | None = None,
        tags: Sequence[str] = (),
        *,
        start_after: StartAfter | None = None,
    ) -> list[HttpRunHandle[Any]]:
        """As `Client.start_many`: a request for each 500."""
        code = _code(flow)
        bodies = [loads(body_of(code, one, ())) for one in inputs]
        handles: list[HttpRunHandle[Any]] = []
        for first in range(0, len(bodies), PAGE):
            keys = None if idempotency_keys is None else list(idempotency_keys[first : first + PAGE])
            batch = {
                "inputs": bodies[first : first + PAGE],
                "idempotency_keys": keys,
                "tags": list(tags),
                "start_after": _begins(start_after),
            }
            path = f"/flows/{part(flow_name(flow))}/trigger/batch"
            done: Mapping[str, Any] = self.send(dict[str, Any], "POST", path, batch)
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
        found: Mapping[str, Any] = self.get(dict[str, Any], "/runs", {**_query(wanted), "count": True, "limit": 1})
        return int(found["count"])

    def errors(self, q: str | None = None, flow: Startable[Any] | str | None = None) -> list[ErrorGroup]:
        """As `Client.errors`, of the runs that a query means."""
        query = {"q": q, "flow": None if flow is None else flow_name(flow)}
        return self.listed(ErrorGroup, "/runs/errors", query, None)

    def stats(
        self,
        flow: Startable[Any] | str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        every: str | None = None,
    ) -> list[RunStats]:
        """As `Client.stats`."""
        moments = {"since": since and since.isoformat(), "until": until and until.isoformat(), "every": every}
        name = None if flow is None else flow_name(flow)
        return self.listed(RunStats, "/runs/stats", {"flow": name, **moments}, None)

    @overload
    def run(self, run_id: UUID | str, flow: Startable[R]) -> HttpRunHandle[R]: ...
    @overload
    def run(self, run_id: UUID | str, flow: None = None) -> HttpRunHandle[Any]: ...
    def run(self, run_id: UUID | str, flow: Startable[Any] | None = None) -> HttpRunHandle[Any]:
        """As `Client.run`."""
        row: RunRow = self.get(RunRow, f"/runs/{part(run_id)}")
        return HttpRunHandle(self, row.id, None if flow is None else _code(flow))

    def flow_events(self, flow: Startable[Any] | str, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """As `Client.flow_events`."""
        path = f"/flows/{part(flow_name(flow))}/events"
        return self.listed(EventRow, path, {"after": after}, at_least_one(limit))

    def delete_flow(self, flow: Startable[Any] | str) -> None:
        """As `Client.delete_flow`."""
        self.transport.tell("DELETE", f"/flows/{part(flow_name(flow))}")

    def approvals(self, to: str | None = None, *, limit: int = 50) -> list[Approval]:
        """As `Client.approvals`: those that were asked first."""
        return self.listed(Approval, "/approvals", {"to": to}, at_least_one(limit))

    def schedules(self, flow: Flow[..., Any] | str | None = None) -> list[ScheduleRow]:
        """As `Client.schedules`."""
        return self.listed(ScheduleRow, "/schedules", {"flow": None if flow is None else flow_name(flow)}, None)

    def schedule(self, flow: Flow[..., Any] | str, key: str) -> HttpScheduleHandle:
        """A schedule by its flow and key."""
        handle = HttpScheduleHandle(self, flow_name(flow), key)
        handle.row()
        return handle

    # ---- for the handles ----

    def get(self, kind: type[T], path: str, query: Mapping[str, Any] | None = None, *, wait_s: float = 0) -> T:
        """See `Transport.get`."""
        return self.transport.get(kind, path, query, wait_s=wait_s)

    def send(self, kind: type[T], method: str, path: str, *given: Any) -> T:
        """See `Transport.send`."""
        return self.transport.send(kind, method, path, *given)

    def value(self, path: str) -> JsonValue:
        found: Mapping[str, JsonValue] = self.get(dict[str, Any], path)
        return found["value"]

    def made(self, kind: type[T], plain: object) -> T:
        return TypeAdapter(kind).validate_python(plain)

    def listed(self, kind: type[T], path: str, query: Mapping[str, Any], limit: int | None) -> list[T]:
        """As many as asked for, from as many pages as it takes; None: of a list that has no pages."""
        found: list[T] = []
        one, given = TypeAdapter(kind), dict(query)
        while limit is None or len(found) < limit:
            if limit is not None:
                given["limit"] = min(limit - len(found), _MOST)
            page: Mapping[str, Any] = self.get(dict[str, Any], path, given)
            found += [one.validate_python(item) for item in page["items"]]
            if page["next"] is None:
                break
            given = {**query, "cursor": page["next"]}
        return found


def _code(flow: Startable[Any] | str) -> Flow[..., Any] | None:
    return alone(flow) if isinstance(flow, Step) else flow if isinstance(flow, Flow) else None


def _begins(start_after: StartAfter | None) -> str | None:
    begins = begins_of(start_after)
    if isinstance(begins, timedelta):
        return format_duration(begins)
    return begins.isoformat() if isinstance(begins, datetime) else None


def _query(wanted: Wanted) -> dict[str, Any]:
    flow, status = wanted.get("flow"), wanted.get("status")
    moments = {name: at.isoformat() for name in ("since", "until") if (at := wanted.get(name)) is not None}  # type: ignore[attr-defined]
    return {
        **{name: wanted.get(name) for name in ("q", "tag", "key", "schedule", "error")},
        **moments,
        "flow": None if flow is None else flow_name(flow),
        "status": status if status is None or isinstance(status, str) else list(status),
    }
