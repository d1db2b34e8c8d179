"""`Client`: start flows and follow their runs from any Python program."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar, Unpack, overload
from uuid import UUID

from orchestrator.authoring.alone import alone
from orchestrator.authoring.flow import Flow
from orchestrator.authoring.step import Length, Step
from orchestrator.client.given import at_least_one, body_of, check_starts, given_once, whoami
from orchestrator.client.groups.members import Groups
from orchestrator.client.headers import Headers, headers_of, traced
from orchestrator.client.later import StartAfter, begins_of
from orchestrator.client.operations import Operations
from orchestrator.client.records import Record, records
from orchestrator.client.run_handle import RunHandle
from orchestrator.client.schedule_handle import ScheduleHandle, find, listed
from orchestrator.client.siblings import Siblings
from orchestrator.client.wanted import Wanted, filter_of, flow_name, span_of
from orchestrator.core.facts import StartedRun, StartRequest
from orchestrator.engine.flows import register
from orchestrator.engine.runs import shown, start_run
from orchestrator.engine.signals import approvals
from orchestrator.engine.signals.approvals import Approval
from orchestrator.ledger import error_groups, listing, reads, rollups
from orchestrator.ledger.borrowed import Borrowed
from orchestrator.ledger.error_groups import ErrorGroup
from orchestrator.ledger.reads.rows import EventRow, RunRow
from orchestrator.ledger.rollups import RunStats
from orchestrator.ledger.schedules import ScheduleRow
from orchestrator.settings import Settings

__all__ = ["Client"]

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

Startable: TypeAlias = Flow[..., R] | Step[..., R, Any]
"""A flow, or a step that is started alone."""

PAGE: Final = 500
"""Runs started in one round trip by `start_many`."""


class Client(Operations, Groups):
    """Starts flows and follows runs. Safe to share between threads; close it, or use it in a `with`."""

    def __init__(self, settings: Settings) -> None:
        """
        Raises:
            SettingsInvalid: there is no database URL.
        """
        super().__init__(settings)
        self._registered: set[str] = set()

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
        connection: Borrowed | None = None,
        **parameters: Any,
    ) -> RunHandle[R]: ...
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
        connection: Borrowed | None = None,
        **parameters: Any,
    ) -> RunHandle[Any]: ...
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
        connection: Borrowed | None = None,
        **parameters: Any,
    ) -> RunHandle[Any]:
        """Start a run: accepted and durable when this returns, also while Redis is down (a keeper publishes later).

        A step may be started alone: it is then a flow of one step, and runs on any worker whose flows or modules have
        it. The input is a mapping, or the flow's parameters as keywords. The same idempotency key and input give the
        first run again. A flow object's own version is run, whatever version is current; a name's current one.

        With `start_after` (`"10m"`, or a time with its zone) the run is accepted now, and begins then: it can be looked
        at and cancelled meanwhile, and its deadline counts from now.

        `headers` are those of the request that it is started for, for `header(…)` in the flow's body. Those that prove
        who sent it are not kept; of the others up to 64, 8 KiB together.

        With `connection` the run is started in your own transaction there: it exists if and only if you commit. What is
        refused leaves the transaction usable. After the commit say `committed`, or a keeper sends the first steps.

        Raises:
            FlowNotFound, FlowDisabled: nothing was started.
            InputInvalid: the input does not fit the flow; nothing was started.
            IdempotencyConflict: the key was used with another input.
            Unavailable: the database cannot be reached. Without a key it is not known whether the run was started.
        """
        keys = None if idempotency_key is None else [idempotency_key]
        given = given_once(input, parameters)
        return self.start_many(
            flow, [given], keys, tags, start_after=start_after, headers=headers, connection=connection
        )[0]

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
        connection: Borrowed | None = None,
    ) -> list[RunHandle[R]]: ...
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
        connection: Borrowed | None = None,
    ) -> list[RunHandle[Any]]: ...
    def start_many(
        self,
        flow: Startable[Any] | str,
        inputs: Sequence[Mapping[str, Any]],
        idempotency_keys: Sequence[str] | None = None,
        tags: Sequence[str] = (),
        *,
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
        connection: Borrowed | None = None,
    ) -> list[RunHandle[Any]]:
        """Start a run per input, in order: one commit and one round trip for each 500.

        Every input is checked before the first run starts. Of a page either all runs start or none.

        Raises:
            As `start`. Runs of earlier pages stay started.
        """
        if isinstance(flow, Step):
            flow = alone(flow)
        requests = self._requests(flow, inputs, idempotency_keys, tags)
        begins, kept = begins_of(start_after), headers_of(headers)
        if begins is not None or kept is not None:
            requests = [replace(request, begins=begins, headers=kept) for request in requests]
        requests = traced(requests, kept)
        self.sending()  # without a broker nothing is started
        if isinstance(flow, Flow):
            self._register(flow)
        handles: list[RunHandle[Any]] = []
        for first in range(0, len(requests), PAGE):
            started = self._start_page(requests[first : first + PAGE], connection)
            if connection is None:
                self.publish([dispatch for one in started for dispatch in one.dispatches])
            known = flow if isinstance(flow, Flow) else None
            siblings = Siblings([one.run_id for one in started]) if len(started) > 1 else None
            handles += [RunHandle(self, one.run_id, known, started=one, siblings=siblings) for one in started]
        return handles

    def committed(self, *handles: RunHandle[Any]) -> None:
        """Their transaction was committed: send their first steps now. Otherwise a keeper does, some seconds later."""
        self.publish([dispatch for handle in handles for dispatch in handle.dispatches])

    def runs(
        self, *, limit: int = 50, after: UUID | None = None, inputs: bool = True, **wanted: Unpack[Wanted]
    ) -> list[RunRow]:
        """A page of runs, newest first, from the one after the run `after`; by `q` (the text of a query), `flow`,
        `status` (one or several), `tag`, `key` (the idempotency key), `schedule` (`flow/key`, or its key), `error` (its
        fingerprint, or a part of its type or message), `since` and `until` (of the time of acceptance). All that is
        given holds. Without `inputs` the rows have no `body`: inputs may be large. Their secrets are `***`.

        Raises:
            FlowNotFound: no run matches, and no such flow is registered.
            QueryInvalid: the query does not read.
            UsageError: there is no such status, the limit is below 1, or a time has no zone.
        """
        rows = self.read(listing.list_runs, filter_of(wanted), limit=at_least_one(limit), after=after, inputs=inputs)
        return self.call(shown.rows, rows)

    def all_records(self, **wanted: Unpack[Wanted]) -> Iterator[Record]:
        """Runs, newest first, each followed by its steps, attempts that ended, outputs and events: a record each, with
        its kind as `record` and its `run`, without secrets. It is read a page at a time, as it is asked for. A run that
        is removed meanwhile, or is of a newer release, is followed by an `error` instead.

        Raises: as `runs`.
        """
        return records(self, wanted)

    def count_runs(self, **wanted: Unpack[Wanted]) -> int:
        """How many runs `runs` would list in all; 10,000 stands for that many or more."""
        return self.read(listing.count_runs, filter_of(wanted))

    def errors(self, **wanted: Unpack[Wanted]) -> list[ErrorGroup]:
        """What went wrong in the runs that `runs` would list, the most frequent first: runs whose errors have the same
        fingerprint are one group. Of the newest 10,000.

        Raises:
            QueryInvalid, UsageError: as `runs`.
        """
        return self.read(error_groups.errors, filter_of(wanted))

    def stats(
        self,
        flow: Startable[Any] | str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        every: Length | None = None,
    ) -> list[RunStats]:
        """How many runs ended from `since` (else a day ago) until `until` (else now), and how long they took: by flow,
        version and status, and with `every` by parts of that length. Keepers count within half a minute or so, each
        run once, as it ended first.

        Raises:
            UsageError: a time has no zone, or the span is empty.
        """
        name = None if flow is None else flow_name(flow)
        begin, end, part = span_of(since, until, every)
        return self.read(rollups.stats, name, begin, end, part)

    @overload
    def run(self, run_id: UUID | str, flow: Startable[R]) -> RunHandle[R]: ...
    @overload
    def run(self, run_id: UUID | str, flow: None = None) -> RunHandle[Any]: ...
    def run(self, run_id: UUID | str, flow: Startable[Any] | None = None) -> RunHandle[Any]:
        """A run by its id, or the first or last (at least four) characters of it; with the flow, its result is typed.

        Raises:
            RunNotFound: there is none.
            Conflict: several runs match.
        """
        known = alone(flow) if isinstance(flow, Step) else flow
        return RunHandle(self, self.call(reads.runs.find, str(run_id)), known)

    def is_unserved(self, flow: Startable[Any] | str) -> bool:
        """Whether no live worker has a step of the flow, so that its runs wait.

        Raises:
            FlowNotFound: no such flow is registered.
        """
        return self.call(reads.flows.is_unserved, flow_name(flow), self.settings.worker_ttl)

    def flow_events(self, flow: Startable[Any] | str, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """What happened to a flow itself: starts that were refused, and who switched it; in order, from the event after
        `after`.

        Raises:
            FlowNotFound: no such flow is registered.
        """
        return self.call(reads.events.of_flow, flow_name(flow), after, limit)

    def delete_flow(self, flow: Startable[Any] | str, *, by: str | None = None) -> None:
        """Remove a flow that the code does not have any more, with its schedules. Its runs that ended can be read as
        before.

        Raises:
            FlowNotFound: no such flow is registered.
            Conflict: open runs, schedules that fire, or live workers with its code need it.
        """
        self.flows.delete(flow_name(flow), by=by)

    def approvals(self, to: str | None = None, *, limit: int = 50, after: Approval | None = None) -> list[Approval]:
        """A page of what runs ask and nobody has answered, the oldest first, from the one after `after`; with `to`,
        what that one is asked."""
        last = None if after is None else (after.run_id, after.step)
        return self.call(approvals.open_, to, last, at_least_one(limit))

    def schedules(self, flow: Flow[..., Any] | str | None = None) -> list[ScheduleRow]:
        """The schedules of a flow, or of all: by flow and key, also those that the code does not have any more.

        Raises:
            FlowNotFound: no such flow is registered.
        """
        return self.call(listed, None if flow is None else flow_name(flow))

    def schedule(self, flow: Flow[..., Any] | str, key: str | None = None) -> ScheduleHandle:
        """A schedule by its flow and key, or by `flow/key`; a flow's only one needs no key.

        Raises:
            FlowNotFound, ScheduleNotFound: there is none.
            UsageError: the flow has several, and no key says which.
        """
        return ScheduleHandle(self, *self.call(find, flow_name(flow), key))

    def _start_page(self, page: Sequence[StartRequest], connection: Borrowed | None) -> list[StartedRun]:
        """Repeated after a lost connection only where keys make that harmless."""
        if connection is not None:
            return start_run.start_borrowed(self.ledger, connection, page)  # its errors are the caller's own
        if all(request.key is not None for request in page):
            return self.call(lambda ledger: start_run.start(ledger, page))
        return self.call_once(lambda ledger: start_run.start(ledger, page))

    def _requests(
        self,
        flow: Startable[Any] | str,
        inputs: Sequence[Mapping[str, Any]],
        keys: Sequence[str] | None,
        tags: Sequence[str],
    ) -> list[StartRequest]:
        check_starts(tags, inputs, keys)
        name = flow_name(flow)
        each_key = keys if keys is not None else [None] * len(inputs)
        code = flow if isinstance(flow, Flow) else None
        bodies = [body_of(code, one, self.ledger.secret_names) for one in inputs]
        version = flow.manifest.hash if isinstance(flow, Flow) else None
        return [
            StartRequest(name, body, key, tuple(tags), version=version, checked=version is not None)
            for body, key in zip(bodies, each_key, strict=True)
        ]

    def _register(self, flow: Flow[..., Any]) -> None:
        """Its version is kept, for the runs that are pinned to it, with those of the flows that it calls. Each is
        current only if its flow had none."""
        manifest = flow.manifest
        if manifest.hash in self._registered:
            return
        for called in flow.called.values():
            self._register(called)
        done = self.call(register.keep, manifest, whoami())
        self.ledger.know(manifest)
        self.publish(done.dispatches)
        self._registered.add(manifest.hash)
