"""Steps that this worker's code cannot run: handed on to a worker whose code can.

On a rolling deploy workers of two releases share a queue: one may lack a step's handler, or have one that does not fit
the version of the run. What is handed on waits a little, so that a message does not race between workers that all
refuse it; what nobody accepts is dropped, and the ledger sends it when somebody does.
"""

import threading
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Final

from orchestrator.core.facts import Dispatch, pair
from orchestrator.core.happened import Refused
from orchestrator.delivery.publisher import Publisher
from orchestrator.engine import workers
from orchestrator.ledger import reads
from orchestrator.ledger.passing import passing
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.logs import SUPPRESSED, about_dispatch, log
from orchestrator.observe.observer import notify
from orchestrator.workers.run.outage import event_of, reason

_PAUSE_S: Final = 0.3
_HELD: Final = 1000
_SAY_AGAIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Unfit:
    """A dispatch, why this code does not take it, and of which version of its flow it is; None: its handler is not here
    at all, so its version was not asked for."""

    dispatch: Dispatch
    why: str
    version: str | None = None

    @property
    def key(self) -> str:
        """What is refused: the task, in that version."""
        task = self.dispatch.task
        return task if self.version is None else pair(task, self.version)

    def fits(self, worker: reads.rows.WorkerRow) -> bool:
        """Whether that worker takes it, as far as the registry knows."""
        one = self.dispatch
        return one.task in worker.handlers and one.queue in worker.queues and self.key not in worker.refuses


class HandOver:
    """A thread of its process, started by the first refusal. What does not fit is left to the ledger."""

    def __init__(self, ledger: Ledger, publisher: Publisher, worker_id: str, worker_ttl: timedelta) -> None:
        self._ledger = ledger
        self._worker_ttl = worker_ttl
        self._publisher = publisher
        self._worker_id = worker_id
        self._held: deque[Unfit] = deque(maxlen=_HELD)
        self._said: dict[str, float] = {}
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def give(self, unfit: Unfit) -> None:
        """What this code does not take. Its dispatch stays in the ledger, whatever becomes of it here."""
        one = unfit.dispatch
        notify(Refused("version", unfit.why, one.task.rpartition(".")[0], one.run_id, one.step_key, one.number))
        self._held.append(unfit)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hand-over", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """What is held is left to the ledger."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        while not self._ended.wait(_PAUSE_S):
            try:
                self._hand_on()
            except Exception as exc:  # the ledger sends what was taken, and the thread goes on with what comes
                event = event_of(exc) if passing(exc) else "hand_over.failed"
                log.warning(event, extra={"doing": "hand over", "error": reason(exc)})
        self._ledger.release_thread()

    def _hand_on(self) -> None:
        taken = [self._held.popleft() for _ in range(len(self._held))]
        if not taken:
            return
        for key, why in {one.key: one.why for one in taken if one.version is not None}.items():
            workers.refuse(self._ledger, self._worker_id, key, why)
        live = [worker for worker in reads.workers.every(self._ledger, self._worker_ttl) if worker.live]
        elsewhere = [one.dispatch for one in taken if any(one.fits(worker) for worker in live)]
        for one in taken:
            self._say(one, elsewhere=one.dispatch in elsewhere)
        self._publisher.publish(elsewhere)

    def _say(self, one: Unfit, *, elsewhere: bool) -> None:
        if monotonic() - self._said.get(one.key, -_SAY_AGAIN_S) < _SAY_AGAIN_S:
            return
        self._said[one.key] = monotonic()
        # That one may have died since: then the ledger sends the step again, as after any loss.
        what = "no live worker accepts it; it waits in the ledger"
        if elsewhere:
            what = "handed on: a worker that was seen lately accepts it"
        version = {} if one.version is None else {"version": one.version[:12]}
        facts = {"task": one.dispatch.task, **version, "reason": one.why, "what": what}
        log.warning("step.refused", extra=about_dispatch(one.dispatch, SUPPRESSED, **facts))
