"""Messages for steps this worker does not have: handed on to a worker that does.

On a rolling deploy workers of two releases share a queue. Celery drops a message whose task it does not know, and may
do so again and again while a worker that knows it is waiting beside.
"""

from collections import deque
from time import monotonic
from typing import Any, Final

from orchestrator.core.facts import Dispatch, Swept
from orchestrator.delivery import message
from orchestrator.ledger import reads
from orchestrator.observe.logs import SUPPRESSED, about_dispatch, log
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState

_PAUSE_S: Final = 0.5
"""Between two hand-overs, so that a message does not race between two workers that lack its handler."""
_HELD: Final = 1000
_SAY_AGAIN_S: Final = 60.0


class UnknownTasks:
    """Filled on the hub, emptied by a loop of the keeper. What does not fit is left to the ledger."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._held: deque[Dispatch] = deque(maxlen=_HELD)
        self._said: dict[str, float] = {}

    def take(self, raw: Any) -> None:
        """A message of another worker's. Its dispatch stays in the ledger, whatever becomes of the message."""
        args, _, _ = raw.decode()
        info = {**(raw.delivery_info or {}), "priority": raw.properties.get("priority")}
        self._held.append(message.read(raw.headers["task"], args, info))

    def duty(self) -> Duty:
        """Each worker's own."""
        return Duty("unknown_tasks", Scope.WORKER, _PAUSE_S, self.hand_on)

    def hand_on(self) -> Swept:
        """Send what a live worker can run. The rest is dropped: the ledger sends it when there is such a worker."""
        if not self._held:
            return Swept()
        live = reads.workers(self._state.runtime().ledger, self._state.settings.worker_ttl)
        known = {task for worker in live if worker.live for task in worker.handlers}
        taken = [self._held.popleft() for _ in range(len(self._held))]
        for one in taken:
            self._say(one, elsewhere=one.task in known)
        return Swept(len(taken), tuple(one for one in taken if one.task in known))

    def _say(self, one: Dispatch, *, elsewhere: bool) -> None:
        if monotonic() - self._said.get(one.task, -_SAY_AGAIN_S) < _SAY_AGAIN_S:
            return
        self._said[one.task] = monotonic()
        what = "handed on" if elsewhere else "no live worker has it; it waits in the ledger"
        log.warning("no handler", extra=about_dispatch(one, SUPPRESSED, task=one.task, what=what))
