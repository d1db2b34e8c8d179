"""`Client`: start flows and follow their runs from any Python program."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Self, TypeVar, overload
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from orchestrator.authoring.flow import Flow
from orchestrator.core.facts import Dispatch, Started, StartRequest
from orchestrator.core.states import RunStatus
from orchestrator.core.suggest import did_you_mean
from orchestrator.core.values import dumps
from orchestrator.engine import register, start_run
from orchestrator.errors import (
    NotFound,
    SchemaBehind,
    Unavailable,
    UsageError,
)
from orchestrator.ledger import reads
from orchestrator.ledger.reads import RunRow
from orchestrator.ledger.schedules import ScheduleRow
from orchestrator.ledger.tx import Ledger, is_disconnect
from orchestrator.reach import database_fix, database_refuses, one_line
from orchestrator.run_handle import RunHandle
from orchestrator.schedule_handle import ScheduleHandle, find, listed
from orchestrator.settings import Settings, mask_url, variable

if TYPE_CHECKING:
    from workers.sender import Sender

__all__ = ["Client", "RunHandle", "ScheduleHandle", "settings_here", "unavailable"]

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

PAGE: Final = 500
"""Runs started in one round trip by `start_many`."""


def settings_here(env: Mapping[str, str], start: Path) -> Settings:
    """The settings of `env`; the servers of the `orchestrator dev` that runs in this project, when it names none.

    Raises:
        SettingsInvalid: a variable is unknown or wrong.
    """
    settings = Settings.from_env(env)
    if settings.database_url is not None or settings.broker_url is not None:
        return settings
    from orchestrator.embedded.discovery import find_running

    running = find_running(start)
    if running is None:
        return settings
    urls = {variable("database_url"): running.database_url, variable("broker_url"): running.broker_url}
    return Settings.from_env({**env, **urls})


class Client:
    """Starts flows and follows runs. Safe to share between threads; close it, or use it in a `with`."""

    def __init__(self, settings: Settings) -> None:
        """
        Raises:
            SettingsInvalid: there is no database URL.
        """
        self.settings = settings
        self.ledger = Ledger.connect(
            settings.require_database_url(),
            pool_size=settings.database_pool_size,
            statement_timeout=settings.statement_timeout,
            name="orchestrator client",
        )
        self._sender: Sender | None = None
        self._lock = threading.Lock()
        self._registered: set[str] = set()

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """From ORCHESTRATOR_* variables; without URLs, the `orchestrator dev` that runs in this project.

        Raises:
            SettingsInvalid: a variable is unknown, wrong or missing.
        """
        return cls(settings_here(os.environ if env is None else env, Path.cwd()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Confirm what was published, and close every connection."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()
        self.ledger.close()

    @overload
    def start(
        self,
        flow: Flow[..., R],
        input: Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        tags: Sequence[str] = (),
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
        **parameters: Any,
    ) -> RunHandle[Any]: ...
    def start(
        self,
        flow: Flow[..., Any] | str,
        input: Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        tags: Sequence[str] = (),
        **parameters: Any,
    ) -> RunHandle[Any]:
        """Start a run: accepted and durable when this returns, also while Redis is down (a keeper publishes later).

        The input is a mapping, or the flow's parameters as keywords. The same idempotency key and input give the
        first run again.

        Raises:
            FlowNotFound, FlowDisabled: nothing was started.
            InputInvalid: the input does not fit the flow; nothing was started.
            IdempotencyConflict: the key was used with another input.
            Unavailable: the database cannot be reached. Without a key it is not known whether the run was started.
        """
        keys = None if idempotency_key is None else [idempotency_key]
        given = {**(_mapping(input) if input is not None else {}), **parameters}
        return self.start_many(flow, [given], keys, tags)[0]

    @overload
    def start_many(
        self,
        flow: Flow[..., R],
        inputs: Sequence[Mapping[str, Any]],
        idempotency_keys: Sequence[str] | None = None,
        tags: Sequence[str] = (),
    ) -> list[RunHandle[R]]: ...
    @overload
    def start_many(
        self,
        flow: str,
        inputs: Sequence[Mapping[str, Any]],
        idempotency_keys: Sequence[str] | None = None,
        tags: Sequence[str] = (),
    ) -> list[RunHandle[Any]]: ...
    def start_many(
        self,
        flow: Flow[..., Any] | str,
        inputs: Sequence[Mapping[str, Any]],
        idempotency_keys: Sequence[str] | None = None,
        tags: Sequence[str] = (),
    ) -> list[RunHandle[Any]]:
        """Start a run per input, in order: one commit and one round trip for each 500.

        Every input is checked before the first run starts. Of a page either all runs start or none.

        Raises:
            As `start`. Runs of earlier pages stay started.
        """
        requests = _requests(flow, inputs, idempotency_keys, tags)
        sender = self._sending()
        if isinstance(flow, Flow):
            self._register(flow)
        handles: list[RunHandle[Any]] = []
        for first in range(0, len(requests), PAGE):
            started = self._start_page(requests[first : first + PAGE])
            sender.send([dispatch for one in started for dispatch in one.dispatches])
            known = flow if isinstance(flow, Flow) else None
            handles += [RunHandle(self, one.run_id, known, created=one.created) for one in started]
        return handles

    def runs(
        self,
        *,
        flow: Flow[..., Any] | str | None = None,
        status: RunStatus | str | None = None,
        tag: str | None = None,
        limit: int = 50,
    ) -> list[RunRow]:
        """Runs, newest first.

        Raises:
            UsageError: there is no such status, or the limit is below 1.
        """
        if limit < 1:
            raise UsageError(f"The limit is {limit}. Fix: ask for 1 or more runs.")
        name = flow.name if isinstance(flow, Flow) else flow
        return self.call(reads.list_runs, flow=name, status=_status(status), tag=tag, limit=limit)

    @overload
    def run(self, run_id: UUID | str, flow: Flow[..., R]) -> RunHandle[R]: ...
    @overload
    def run(self, run_id: UUID | str, flow: None = None) -> RunHandle[Any]: ...
    def run(self, run_id: UUID | str, flow: Flow[..., Any] | None = None) -> RunHandle[Any]:
        """A run by its id, or the first or last (at least four) characters of it; with the flow, its result is typed.

        Raises:
            RunNotFound: there is none.
            Conflict: several runs fit.
        """
        return RunHandle(self, self.call(reads.find_run, str(run_id)), flow)

    def schedules(self, flow: Flow[..., Any] | str | None = None) -> list[ScheduleRow]:
        """The schedules of a flow, or of all: by flow and key, also those that the code does not have any more.

        Raises:
            FlowNotFound: no such flow is registered.
        """
        return self.call(listed, flow.name if isinstance(flow, Flow) else flow)

    def schedule(self, flow: Flow[..., Any] | str, key: str | None = None) -> ScheduleHandle:
        """A schedule by its flow and key, or by `flow/key`; a flow's only one needs no key.

        Raises:
            FlowNotFound, ScheduleNotFound: there is none.
            UsageError: the flow has several, and no key says which.
        """
        return ScheduleHandle(self, *self.call(find, flow.name if isinstance(flow, Flow) else flow, key))

    def call(self, ask: Callable[Concatenate[Ledger, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """One call to the ledger that may be repeated: once again on a new connection if the first one was dead.

        Raises:
            Unavailable: the database cannot be reached, or has no schema.
        """
        try:
            return self.call_once(ask, *args, **kwargs)
        except Unavailable as exc:
            if not isinstance(exc.__cause__, DBAPIError) or not exc.__cause__.connection_invalidated:
                raise
            return self.call_once(ask, *args, **kwargs)

    def call_once(self, ask: Callable[Concatenate[Ledger, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `call`, for what may not be repeated."""
        try:
            return ask(self.ledger, *args, **kwargs)
        except DBAPIError as exc:
            raise unavailable(exc, self.settings.require_database_url()) or exc from exc
        finally:
            self.ledger.release_thread()  # a program with many threads must not keep a connection in each

    def publish(self, dispatches: Sequence[Dispatch]) -> None:
        """Send what was committed; a keeper sends what this cannot."""
        if dispatches:
            self._sending().send(dispatches)

    def _start_page(self, page: Sequence[StartRequest]) -> list[Started]:
        """Repeated after a lost connection only where keys make that harmless."""
        again = all(request.key is not None for request in page)
        call = self.call if again else self.call_once
        return call(start_run.start, page)

    def _sending(self) -> "Sender":
        with self._lock:
            if self._sender is None:
                self.settings.require_broker_url()
                from workers.publisher import Publisher
                from workers.sender import Sender

                self._sender = Sender(Publisher(None, self.settings, self.ledger))
            return self._sender

    def _register(self, flow: Flow[..., Any]) -> None:
        """A flow that no worker has registered yet is registered; a version the ledger knows is left as it is."""
        manifest = flow.manifest
        if manifest.hash in self._registered:
            return
        try:
            self.call(Ledger.manifest, manifest.hash)
        except NotFound:
            self.call(register.register, manifest)
        self._registered.add(manifest.hash)


def _requests(
    flow: Flow[..., Any] | str,
    inputs: Sequence[Mapping[str, Any]],
    keys: Sequence[str] | None,
    tags: Sequence[str],
) -> list[StartRequest]:
    if isinstance(tags, str):
        raise UsageError(f"tags={tags!r} is one text. Fix: write tags=[{tags!r}].")
    if keys is not None and len(keys) != len(inputs):
        raise UsageError(f"There are {len(inputs)} inputs and {len(keys)} idempotency keys. Fix: give one for each.")
    each_key = keys if keys is not None else [None] * len(inputs)
    bodies = [flow.encode_input(_mapping(one)) if isinstance(flow, Flow) else dumps(_mapping(one)) for one in inputs]
    name = flow.name if isinstance(flow, Flow) else flow
    return [StartRequest(name, body, key, tuple(tags)) for body, key in zip(bodies, each_key, strict=True)]


def _mapping(given: object) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise UsageError(
            f"The input is of type {type(given).__name__}. Fix: give a mapping, such as {{'name': value}}."
        )
    return dict(given)


def _status(status: RunStatus | str | None) -> RunStatus | None:
    if status is None:
        return None
    try:
        return RunStatus(status)
    except ValueError:
        raise UsageError(f"There is no run status {status!r}. Fix: {did_you_mean(status, list(RunStatus))}") from None


def unavailable(exc: DBAPIError, url: str) -> Unavailable | None:
    """The error for a database that is away or empty; None: something else is wrong."""
    if getattr(exc.orig, "sqlstate", None) == "42P01":  # a table is missing
        return SchemaBehind("The database has no schema of this release. Fix: run `orchestrator db upgrade`.")
    if not is_disconnect(exc):
        return None
    reason = one_line(exc.orig or exc)
    return Unavailable(
        f"PostgreSQL at {mask_url(url.replace('+psycopg', '', 1))} cannot be reached: {reason}. "
        f"Fix: {database_fix(reason)}",
        refused=database_refuses(reason),
    )
