"""What the main process knows of a message between its arrival and its end."""

from typing import Any

from billiard.exceptions import WorkerLostError
from celery.worker.request import Request
from celery.worker.state import task_ready

from orchestrator.observe.logs import log
from orchestrator.workers.state import WorkerState, state_of


class StepRequest(Request):  # type: ignore[misc]
    """Remembers what was not started, for a warm shutdown; reports a dead pool child at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._state().waiting[id(self)] = self

    def _state(self) -> WorkerState:
        return state_of(self.app)

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        self._state().waiting.pop(id(self), None)
        super().on_accepted(pid, time_accepted)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        self._state().waiting.pop(id(self), None)
        cause = getattr(exc_info.exception, "exc", exc_info.exception)
        if not isinstance(cause, WorkerLostError | SystemExit):
            super().on_failure(exc_info, send_failed_event, return_ok)
            return
        task_ready(self)
        self.acknowledge()  # the ledger runs it again, with a bound
        # Not the step of the message: the child may have gone on in its chain. `step.lost` says what it had.
        log.error("child.lost", extra={"child": self.worker_pid})
        keeper = self._state().keeper
        if keeper is not None:
            keeper.child_lost(self.worker_pid)
