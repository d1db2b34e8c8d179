"""Endless loops that outlive every outage."""

import random
import threading
from collections.abc import Callable
from typing import Final

from orchestrator.observe.logs import log
from orchestrator.observe.pulse import Pulse

_CAP_S: Final = 5.0


class Idle(float):
    """Seconds until the next call of a loop that had nothing to try: it neither failed nor got over a failure."""


class Supervised(threading.Thread):
    """Calls `work` for ever; it returns the seconds until its next call, as `Idle` when it did nothing.

    A failure is logged once, and once more when it is over; in between the pauses grow to five seconds, spread at
    random, so that a hundred workers do not come back at the same moment. A turn that takes longer than `limit_s` turns
    the liveness of the process.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], float],
        *,
        on_failure: Callable[[], None] | None = None,
        owner: str = "keeper",
        limit_s: float,
    ) -> None:
        super().__init__(name=f"{owner}-{name}", daemon=True)
        self._owner = owner
        self._work = work
        self._on_failure = on_failure
        self._wake = threading.Event()
        self._ended = False
        self._failures = 0
        self.pulse = Pulse(self.name, limit_s)

    def nudge(self) -> None:
        """End the pause now."""
        self._wake.set()

    def end(self) -> None:
        """Stop after the current call."""
        self._ended = True
        self._wake.set()

    def run(self) -> None:
        self.pulse.begin()
        while not self._ended:
            self.pulse.moved()
            pause = self._once()
            self.pulse.moved(pause)
            self._wake.wait(pause)
            if not self._ended:
                self._wake.clear()
        self.pulse.end()

    def _once(self) -> float:
        try:
            pause = self._work()
        except Exception as exc:
            self._failures += 1
            if self._failures == 1:
                reason = f"{type(exc).__name__}: {exc}".split("\n")[0]
                log.warning(f"{self._owner}.failing", extra={"loop": self.name, "error": reason[:300]})
            if self._on_failure is not None:
                self._on_failure()
            return min(_CAP_S, 0.25 * 2.0 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)
        if self._failures and not isinstance(pause, Idle):
            log.info(f"{self._owner}.recovered", extra={"loop": self.name, "failures": self._failures})
            self._failures = 0
        return pause
