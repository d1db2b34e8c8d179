"""The row by which others see this process: that it is there, what it can run, that it consumes, that it stops.

Steps that waited for its code are sent when it has said hello.
"""

import os
import signal
from collections.abc import Callable, Iterable

from orchestrator.core.facts import Swept, WorkerInfo
from orchestrator.core.release import release
from orchestrator.engine import workers
from orchestrator.engine.sweeps import redispatch
from orchestrator.ledger import releases
from orchestrator.observe.logs import log
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState


class Registration:
    """Says hello first, and again when the row is gone. `consuming`: whether messages have come back lately."""

    def __init__(
        self, state: WorkerState, *, pool: str, concurrency: int, queues: Iterable[str], consuming: Callable[[], bool]
    ) -> None:
        self._state = state
        self._pool = pool
        self._concurrency = concurrency
        self._queues = tuple(sorted(queues))
        self._consuming = consuming
        self._judged = False
        self._greeted = False
        self._woke = False

    def page(self) -> Swept:
        ledger, stopping = self._state.runtime().ledger, self._state.stopping
        if not self._greeted:
            self._judge_open_versions()
            workers.hello(ledger, self._info())
            self._greeted = True
        seen = workers.seen(ledger, self._state.worker_id, consuming=self._consuming(), stopping=stopping)
        self._greeted = seen is not None
        if seen is None:
            return Swept(next_s=0.0)
        if seen.draining:
            self._drain()
            return Swept()
        return Swept() if self._woke or stopping else self._wake()

    def _drain(self) -> None:
        """As at SIGTERM, once."""
        if not (self._state.drained or self._state.stopping):
            self._state.drained = True
            log.info("worker.drains", extra={"worker": self._state.worker_id})
            os.kill(os.getpid(), signal.SIGTERM)

    def _judge_open_versions(self) -> None:
        """So that it is known at once, and not first when a step of theirs is met, which releases they need."""
        if self._judged:
            return
        ledger, versions = self._state.runtime().ledger, self._state.versions
        for wanted in releases.wanted(ledger):
            if wanted.runs:
                for task in wanted.tasks & self._state.handlers.keys():
                    versions.accepts(ledger, task, wanted.manifest_hash)
        self._judged = True

    def _wake(self) -> Swept:
        woken = redispatch.wake(self._state.runtime().ledger, self._state.worker_id, self._state.settings.worker_ttl)
        self._woke = not woken.more
        if woken.changed:
            log.info("dispatch.again", extra={"reason": "they waited for this code", "count": woken.changed})
        return woken

    def duty(self) -> Duty:
        """Three times within the time after which it counts as dead, and when it is told to stop."""
        every_s = self._state.settings.worker_ttl.total_seconds() / 3
        return Duty("register", Scope.WORKER, every_s, self.page, failed=self._greet_again, close=self._leave)

    def _greet_again(self) -> None:
        self._greeted = False

    def _leave(self) -> None:
        workers.gone(self._state.runtime().ledger, self._state.worker_id)

    def _info(self) -> WorkerInfo:
        host, pid, _ = self._state.worker_id.rsplit("/", 2)
        return WorkerInfo(
            id=self._state.worker_id,
            host=host,
            pid=int(pid),
            pool=self._pool,
            concurrency=self._concurrency,
            prefetch=self._concurrency * self._state.settings.prefetch_multiplier,
            queues=self._queues,
            handlers=tuple(sorted(self._state.handlers)) if self._queues else (),  # who takes nothing runs nothing
            release=release(),
            versions={flow.name: flow.manifest.hash for flow in self._state.flows.values()},
            refuses=self._state.versions.refused,
            label=self._state.settings.release,
            payload_store=payloads.id if (payloads := self._state.runtime().ledger.payloads) else None,
        )
