"""The row by which others see this worker: that it is there, what it can run, that it consumes, that it stops.

Steps that waited for its code are sent when it has said hello.
"""

from typing import Any

from orchestrator.core.facts import Swept, WorkerInfo
from orchestrator.core.release import release
from orchestrator.engine import workers
from orchestrator.engine.sweeps import redispatch
from orchestrator.observe.logs import log
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.keeper.probe import Probe
from orchestrator.workers.state import WorkerState, pool_name


class Registration:
    """Says hello first, and again when the row is gone."""

    def __init__(self, state: WorkerState, worker: Any, probe: Probe) -> None:
        self._state = state
        self._worker = worker
        self._probe = probe
        self._greeted = False
        self._woke = False

    def page(self) -> Swept:
        ledger, stopping = self._state.runtime().ledger, self._state.stopping
        if not self._greeted:
            workers.hello(ledger, self._info())
            self._greeted = True
        self._greeted = workers.seen(ledger, self._state.worker_id, consuming=self._probe.consuming, stopping=stopping)
        if not self._greeted:
            return Swept(next_s=0.0)
        return Swept() if self._woke or stopping else self._wake()

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
        concurrency = self._worker.concurrency
        return WorkerInfo(
            id=self._state.worker_id,
            host=host,
            pid=int(pid),
            pool=pool_name(self._worker),
            concurrency=concurrency,
            prefetch=concurrency * self._state.settings.prefetch_multiplier,
            queues=tuple(sorted(self._state.app.amqp.queues.consume_from)),
            handlers=tuple(sorted(self._state.handlers)),
            release=release(),
            versions={flow.name: flow.manifest.hash for flow in self._state.flows.values()},
            refuses=self._state.versions.refused,
            payload_store=payloads.id if (payloads := self._state.runtime().ledger.payloads) else None,
        )
