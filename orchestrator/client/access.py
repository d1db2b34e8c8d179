"""What a client and its handles share: calls to the ledger, and the way to the broker."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Concatenate, ParamSpec, Self, TypeVar
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from orchestrator import forks
from orchestrator.client.watcher import CLOSED, Watcher
from orchestrator.core.facts import Dispatch
from orchestrator.core.secrets import names_with
from orchestrator.core.states import RunStatus
from orchestrator.delivery.hints import EndHints
from orchestrator.delivery.publisher import Publisher
from orchestrator.delivery.sender import Sender
from orchestrator.errors import DatabaseFailed, OrchestratorError, TookTooLong, Unavailable, UsageError
from orchestrator.ledger import reads
from orchestrator.ledger.replica import Replica
from orchestrator.ledger.rows import Watch
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.logs import log
from orchestrator.observe.observer import slow_statement
from orchestrator.servers.diagnosis import explained
from orchestrator.servers.here import settings_here
from orchestrator.servers.standby import standby
from orchestrator.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


def asked(
    ledger: Ledger,
    settings: Settings,
    ask: Callable[Concatenate[Ledger, P], T],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """See `Access.call`."""
    try:
        return asked_once(ledger, settings, ask, *args, **kwargs)
    except Unavailable as exc:
        if not isinstance(exc.__cause__, DBAPIError) or not exc.__cause__.connection_invalidated:
            raise
        return asked_once(ledger, settings, ask, *args, **kwargs)


def asked_once(
    ledger: Ledger,
    settings: Settings,
    ask: Callable[Concatenate[Ledger, P], T],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """See `Access.call_once`."""
    try:
        return ask(ledger, *args, **kwargs)
    except DBAPIError as exc:
        raise explained(exc, settings.require_database_url()) from exc
    finally:
        ledger.release_thread()  # a program with many threads must not keep a connection in each


def _statuses(ledger: Ledger, settings: Settings, run_ids: Sequence[UUID]) -> Mapping[UUID, RunStatus]:
    """For the watcher, which must not hold the client: one that is dropped unclosed is gone at once."""
    return asked(ledger, settings, reads.runs.statuses, run_ids)


def _replica(settings: Settings) -> Replica | None:
    return standby(
        settings,
        _tell,
        name="orchestrator lists",
        pool_size=settings.database_pool_size,
        statement_timeout=settings.statement_timeout,
    )


def _tell(url: str, why: str | None) -> None:
    if why is None:
        log.info("replica.used", extra={"url": url})
    else:
        log.warning("replica.left_out", extra={"url": url, "error": why, "what": "lists are read from the primary"})


class Access:
    """The connections of a client. Safe to share between threads; close it, or use it in a `with`."""

    pause_s: ClassVar = 0.25
    """How long whoever follows something rests between two looks."""

    def __init__(self, settings: Settings) -> None:
        """
        Raises:
            SettingsInvalid: there is no database URL.
        """
        self.settings = settings
        self.ledger = Ledger.connect(
            settings.require_database_url(),
            reach=settings.reach(),
            pool_size=settings.database_pool_size,
            statement_timeout=settings.statement_timeout,
            essential=settings.events == "essential",
            name="orchestrator client",
        )
        self.ledger.secret_names = names_with(settings.secret_names)
        self.ledger.payloads, self.ledger.loop_limit = settings.payloads(), settings.loop_limit
        self.ledger.slow = Watch(settings.slow_statement.total_seconds(), slow_statement)
        self._replica = _replica(settings)
        self._sender: Sender | None = None
        self._hints = EndHints(settings)
        self.ledger.ended = self._hints.announce
        self.watcher = Watcher(settings, partial(_statuses, self.ledger, settings))
        """Tells when runs have ended."""
        self._lock = threading.Lock()
        self._closed = False
        forks.watch(self)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """From ORCHESTRATOR_* variables; without URLs, the `orchestrator dev` that runs in this project.

        Raises:
            SettingsInvalid: a variable is unknown, wrong or missing.
        """
        return cls(settings_here(os.environ if env is None else env, Path.cwd()))

    def after_fork(self) -> None:
        """See `forks.Forked`: what this client has looks after itself."""
        self._lock = threading.Lock()
        if self._replica is not None:
            self._replica.after_fork()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Confirm what was published, and close every connection. Nothing may be asked afterwards."""
        self._closed = True
        self.watcher.close()
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()
        self._hints.close()
        self.ledger.close()
        if self._replica is not None:
            self._replica.close()

    def call(self, ask: Callable[Concatenate[Ledger, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """One call to the ledger that may be repeated: once again on a new connection if the first one was dead.

        Raises:
            Unavailable: the database cannot be reached, or has no schema.
        """
        self._open()
        return asked(self.ledger, self.settings, ask, *args, **kwargs)

    def read(self, ask: Callable[Concatenate[Ledger, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `call`, for what may be some seconds old: from the standby, if there is one that is near enough. What it
        fails in or refuses, it may not know yet: the primary is asked."""
        self._open()
        replica = self._replica
        if replica is not None and replica.may_be_read():
            try:
                return asked_once(replica.ledger, self.settings, ask, *args, **kwargs)
            except (Unavailable, DatabaseFailed, TookTooLong) as exc:
                replica.lose(exc)
            except OrchestratorError:
                pass
        return self.call(ask, *args, **kwargs)

    def call_once(self, ask: Callable[Concatenate[Ledger, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `call`, for what may not be repeated."""
        self._open()
        return asked_once(self.ledger, self.settings, ask, *args, **kwargs)

    def _open(self) -> None:
        if self._closed:
            raise UsageError(CLOSED)

    def publish(self, dispatches: Sequence[Dispatch]) -> None:
        """Send what was committed; a keeper sends what this cannot."""
        if dispatches:
            self.sending().send(dispatches)

    def sending(self) -> Sender:
        """This client's sender, made at first use.

        Raises:
            SettingsInvalid: there is no broker URL.
        """
        with self._lock:
            if self._sender is None:
                self.settings.require_broker_url()
                self._sender = Sender(Publisher(None, self.settings, self.ledger))
            return self._sender
