"""A warm shutdown: what was taken from Redis and not started goes back, without waiting for the running steps."""

import threading
from typing import Final

from orchestrator.delivery import message
from orchestrator.observe.logs import log
from orchestrator.workers.state import WorkerState

_EVERY_S: Final = 0.2


class Drain:
    """A thread that waits for the shutdown to begin."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._begun = threading.Event()
        self._ended = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="keeper-drain", daemon=True).start()

    def begin(self) -> None:
        """Safe in a signal handler."""
        self._begun.set()

    def end(self) -> None:
        """The worker ended."""
        self._ended.set()
        self._begun.set()

    def _run(self) -> None:
        self._begun.wait()
        given = 0
        while True:
            try:
                given += self._give_back()
            except Exception as exc:  # the channel gives them back when it closes
                log.warning("shutdown.give_back_failed", extra={"error": type(exc).__name__})
            if self._ended.wait(_EVERY_S):
                break
        if given:
            log.info("shutdown.gave_back", extra={"count": given})

    def _give_back(self) -> int:
        requests = list(self._state.waiting.values())
        if not requests or not self._state.stopping:
            return 0
        dispatches = [message.read(request.name, request.args, request.delivery_info) for request in requests]
        if not self._state.runtime().publisher.publish(dispatches):
            return 0
        for request in requests:
            self._state.waiting.pop(id(request), None)
            request.acknowledge()
        return len(requests)
