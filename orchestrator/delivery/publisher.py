"""Sends committed dispatches to Redis. A message is a hint: what fails here is sent again by a keeper."""

import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from time import monotonic
from typing import Any, Final

from celery import Celery
from kombu.pools import ProducerPool

from orchestrator import forks
from orchestrator.core.facts import Dispatch
from orchestrator.core.happened import Dispatched
from orchestrator.delivery import message
from orchestrator.delivery.config import sending_app
from orchestrator.engine.faults import fp
from orchestrator.engine.sweeps import redispatch
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.logs import log
from orchestrator.observe.observer import notify
from orchestrator.servers.diagnosis import one_line
from orchestrator.settings import Settings

_BATCH: Final = 1000
_REST_S: Final = 2.0
"""After a failure nothing is tried for this long, so that steps do not wait for a dead broker one by one."""
_CONFIRM_S: Final = 1.0
"""Most messages are taken within this time; their dispatches need no confirmation."""
_CONNECTIONS: Final = 10


class Publisher:
    """One per process. Safe to use from several threads."""

    def __init__(self, app: Celery | None, settings: Settings, ledger: Ledger) -> None:
        """Without an app it makes one that can send and nothing else."""
        self._app = app if app is not None else sending_app(settings)
        # What they import is imported here and not by the first to send: a fork in the middle of an import leaves the
        # child with half a module.
        self._app.connection_for_write()
        self._app.amqp.Producer  # noqa: B018
        self._confirmer = Confirmer(ledger)
        self._begin()
        forks.watch(self)

    def _begin(self) -> None:
        self._guard = threading.Lock()
        self._pool: Any = None
        self._rest_until = 0.0
        self._origin = f"{os.getpid()}"

    def after_fork(self) -> None:
        """See `forks.Forked`: the connections are the parent's."""
        forks.inherited(self._pool)
        self._begin()
        self._confirmer.after_fork()

    def _producers(self) -> Any:
        """A pool of our own, made at first use: kombu's is one for all apps of a process, and survives a fork with its
        sockets; and one that is made while the child begins is closed by kombu's own care for children."""
        with self._guard:
            if self._pool is None:
                connections: Any = self._app.connection_for_write().Pool(limit=_CONNECTIONS)
                self._pool = ProducerPool(connections, Producer=self._app.amqp.Producer, limit=_CONNECTIONS)  # type: ignore[no-untyped-call]
            return self._pool

    @property
    def resting(self) -> bool:
        """Whether nothing would be sent at the moment, because sending failed just now."""
        return monotonic() < self._rest_until

    def publish(self, dispatches: Sequence[Dispatch], *, again: bool = False) -> bool:
        """Send these; whether that worked. Never raises for a broken broker: the keeper sends what was not sent.
        `again`: they were sent before, and may be lost."""
        if not dispatches:
            return True
        forks.notice()
        if self.resting:
            return False
        fp("publish.before")
        began = monotonic()
        try:
            self._send(dispatches)
        except Exception as exc:
            self._rest_until = monotonic() + max(_REST_S, monotonic() - began)
            reason = one_line(f"{type(exc).__name__}: {exc}")
            log.warning("publish.failed", extra={"count": len(dispatches), "error": reason})
            return False
        fp("publish.after")
        self._confirmer.add(dispatches)
        lag_s = monotonic() - began
        for one in dispatches:
            notify(Dispatched(one, lag_s, again))
        return True

    def close(self) -> None:
        """Confirm what was sent; nothing may be published afterwards."""
        self._confirmer.close()
        if self._pool is not None:
            self._pool.connections.force_close_all()

    def _send(self, dispatches: Sequence[Dispatch]) -> None:
        with self._producers().acquire(block=True, timeout=10) as producer:
            _keep_client(producer.channel)
            if len(dispatches) == 1:
                message.put(self._app, producer, dispatches[0], origin=self._origin)
                return
            for start in range(0, len(dispatches), _BATCH):
                with producer.batch(max_size=_BATCH):
                    for one in dispatches[start : start + _BATCH]:
                        message.put(self._app, producer, one, origin=self._origin)


def _keep_client(channel: Any) -> None:
    """One Redis client for this channel. kombu makes one for every message, or batch: 40 % of the CPU of sending it."""
    if "_create_client" not in vars(channel):
        channel._create_client = lru_cache(maxsize=2)(channel._create_client)  # by whether it is for the event loop


class Confirmer:
    """Marks dispatches as sent, a batch at a time, off the hot path. What it loses is published once more."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.after_fork()

    def after_fork(self) -> None:
        """See `forks.Forked`: what was sent is confirmed by the parent."""
        self._sent: list[Dispatch] = []
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, dispatches: Sequence[Dispatch]) -> None:
        with self._guard:
            self._sent.extend(dispatches)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="publish-confirm", daemon=True)
                self._thread.start()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._flush()

    def _run(self) -> None:
        while not self._wake.wait(_CONFIRM_S):
            self._flush()
        self._ledger.release_thread()

    def _flush(self) -> None:
        with self._guard:
            sent, self._sent = self._sent, []
        if not sent:
            return
        try:
            redispatch.confirm(self._ledger, sent)
        except Exception as exc:  # the keeper sends them once more, and the claim suppresses those
            reason = f"{type(exc).__name__}: {exc}".split("\n")[0]
            log.warning("confirm.failed", extra={"count": len(sent), "error": reason})
