"""A claim while this process works on it."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from orchestrator.authoring.context import Mailbox
from orchestrator.core.facts import Lease


class StepTimedOut(Exception):
    """An async handler took longer than its step's timeout."""


@dataclass(slots=True, eq=False)
class HeldLease:
    """A lease with what the heartbeat and the handler's thread tell each other."""

    lease: Lease
    renewed: float
    """`monotonic()` when the last successful claim or renewal was *sent*: the lease lasts at least from there."""
    signals: Mailbox = field(default_factory=Mailbox)
    future: "Future[Any] | None" = None
    halted: bool = False
    """The run was cancelled or timed out."""
    lost: bool = False
    """Another worker has the step, or the lease ran out without a renewal."""
    recording: bool = False
    """The handler returned: its outcome is being recorded, which ends the claim."""

    def attach(self, future: "Future[Any]") -> None:
        """Let the heartbeat cancel this coroutine."""
        self.future = future
        if self.signals.cancel.is_set():
            future.cancel()

    def interrupt(self) -> None:
        """Tell the handler to stop."""
        self.signals.cancel.set()
        if self.future is not None:
            self.future.cancel()

    def age_s(self) -> float:
        """Seconds since the last renewal was sent."""
        return monotonic() - self.renewed
