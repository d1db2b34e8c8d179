"""The threads that do the duties of a table, the leader's among them."""

import time
from collections.abc import Sequence
from threading import Event
from typing import Final

from orchestrator.observe.logs import log
from orchestrator.workers.keeper.duty import Duty, loop_of
from orchestrator.workers.keeper.leader import Leader
from orchestrator.workers.state import WorkerState, turn_limit_s
from orchestrator.workers.supervised import Supervised

_JOIN_S: Final = 3.0


class Loops:
    """One per process. `ended` is set when it ends, for duties that wait meanwhile."""

    def __init__(self, state: WorkerState, duties: Sequence[Duty], ended: Event) -> None:
        self._ended = ended
        self._duties = duties
        self.leader = Leader(state)
        """Whether this process does the duties of the cluster."""
        self._loops = {duty.name: loop_of(duty, state, self.leader) for duty in duties}
        self._loops["leader"] = Supervised("leader", self.leader.turn, limit_s=turn_limit_s(state.settings))

    def start(self) -> None:
        for loop in self._loops.values():
            loop.start()

    def nudge(self, name: str) -> None:
        """Have a duty done now."""
        self._loops[name].nudge()

    def stop(self) -> None:
        """Say goodbye. Waits for the calls under way, at most a few seconds."""
        self._ended.set()
        for loop in self._loops.values():
            loop.end()
        deadline = time.monotonic() + _JOIN_S
        for loop in self._loops.values():
            loop.join(timeout=max(0.0, deadline - time.monotonic()))
        for farewell in (self.leader.close, *(duty.close for duty in self._duties)):
            try:
                if farewell is not None:
                    farewell()
            except Exception as exc:  # the row and the key run out by themselves
                log.debug("keeper.farewell_failed", extra={"error": type(exc).__name__})
