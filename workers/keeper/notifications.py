"""Tells subscriptions what happened. What is to be sent is written down by one thread; others send it, each one at a
time, so that an endpoint that is slow keeps nothing else waiting."""

import os
import queue
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

from orchestrator.core.facts import Swept
from orchestrator.delivery import outbound
from orchestrator.engine.subscriptions import deliver, feed
from orchestrator.engine.subscriptions.deliver import Post
from orchestrator.errors import OrchestratorError
from orchestrator.ledger import notifications
from orchestrator.ledger.notifications import Claimed
from orchestrator.observe.logs import log
from orchestrator.observe.metrics.table import NOTIFICATIONS_SENT
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState

SENDERS: Final = 32
"""Threads that send, at most."""
_NOBODY_S: Final = 15.0
"""How often it looks whether somebody subscribes."""
_BUSY_S: Final = 0.05
_IDLE_S: Final = 10.0
"""A thread without work ends after this time."""
_CLOSE_S: Final = 2.0


class Notifications:
    """The leader's. Another one may be at it for a moment: what is to be sent is claimed."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._post: Post | None = None
        self._unfit = False
        self._fed_at = 0.0
        self._senders = Senders(self._send)

    def duty(self) -> Duty:
        """Every second or so while somebody subscribes."""
        return Duty("notifications", Scope.CLUSTER, _NOBODY_S, self.sweep, close=self._senders.close)

    def sweep(self) -> Swept:
        """Write down what is to be sent of a page of events, and give what is due to the senders."""
        ledger, settings, poll_s = self._state.runtime().ledger, self._state.settings, self._state.poll_s
        with ledger.auto() as tx:
            if not notifications.anybody(tx):
                return Swept()
        if self._post is None and not self._equip():
            return Swept()
        fed = Swept()
        if monotonic() - self._fed_at >= poll_s:
            fed = feed.page(ledger, settings.notification_give_up_after, settings.public_url)
            if not fed.more:
                self._fed_at = monotonic()
        claimed = deliver.claim(ledger, self._senders.free) if self._senders.free else []
        for one in claimed:
            self._senders.give(one)
        busy = bool(claimed) or not self._senders.free
        return Swept(fed.changed + len(claimed), next_s=_BUSY_S if busy or fed.more else poll_s)

    def _equip(self) -> bool:
        """Whether this process has what it needs to send; if not, that is said once."""
        try:
            self._post = outbound.post(self._state.settings, os.environ)
        except (ImportError, OrchestratorError) as exc:
            if not self._unfit:
                self._unfit = True
                extra = "" if isinstance(exc, OrchestratorError) else " Fix: pip install 'flow-orchestrator[webhooks]'."
                log.error("notifications.unsent", extra={"error": f"{exc}{extra}"})
            return False
        return True

    def _send(self, claimed: Claimed) -> None:
        ledger = self._state.runtime().ledger
        assert self._post is not None
        try:
            state = deliver.deliver(ledger, claimed, self._post)
            self._state.count(NOTIFICATIONS_SENT, "late" if state is None else str(state))
        except Exception as exc:  # the ledger is away: another process sends it when the claim is over
            log.warning("notification.lost", extra={"notification": claimed.id, "error": type(exc).__name__})
        finally:
            ledger.release_thread()


class Senders:
    """Threads that do one thing at a time each; made when there is something to do. They keep no process alive."""

    def __init__(self, send: Callable[[Claimed], None], most: int = SENDERS) -> None:
        self._do = send
        self._most = most
        self._given: queue.SimpleQueue[Claimed | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._under_way = 0

    @property
    def free(self) -> int:
        """How many more can be given now."""
        return self._most - self._under_way

    def give(self, claimed: Claimed) -> None:
        """Have it sent now."""
        with self._lock:
            self._under_way += 1
            if self._under_way > len(self._threads):
                thread = threading.Thread(target=self._work, name="keeper-sender", daemon=True)
                self._threads.add(thread)
                thread.start()
        self._given.put(claimed)

    def _work(self) -> None:
        while True:
            try:
                claimed = self._given.get(timeout=_IDLE_S)
            except queue.Empty:
                with self._lock:
                    if len(self._threads) > self._under_way:
                        self._threads.discard(threading.current_thread())
                        return
                continue
            if claimed is None:
                return
            try:
                self._do(claimed)
            finally:
                with self._lock:
                    self._under_way -= 1

    def close(self) -> None:
        """Wait a moment for what is under way."""
        with self._lock:
            threads = list(self._threads)
        for _ in threads:
            self._given.put(None)
        until = monotonic() + _CLOSE_S
        for thread in threads:
            thread.join(max(0.0, until - monotonic()))
