"""Operators: they pause, edit, disable and trigger schedules at seeded moments, and undo it some seconds later."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic_ns
from typing import Final

from orchestrator.client import Client
from orchestrator.client.schedule_handle import ScheduleHandle
from orchestrator.engine.flows import switch
from orchestrator.settings import Settings
from tests.proof.history import Fault
from tests.soak.load import UNKNOWN
from tests.soak.plans import Plan

PAUSE_S: Final = (2.0, 6.0)
"""Between two acts."""
LASTS_S: Final = (0.5, 5.0)
"""Until it is undone."""
NOBODY: Final = frozenset({-1})
"""The processes that they strike."""
_ME: Final = "soak"


class Operators(threading.Thread):
    """In a thread of their own. Each act is noted as a fault, for the log; it excuses nothing."""

    def __init__(self, settings: Settings, plans: Sequence[Plan], seed: str, faults: list[Fault]) -> None:
        super().__init__(name="operators", daemon=True)
        self._client = Client(settings)
        self._names = [(plan.name, key) for plan in plans for key in plan.manifest["triggers"]]
        self._rng = random.Random(f"operators {seed}")
        self._faults = faults
        self._over = threading.Event()
        self._stopped = False
        self.error: BaseException | None = None

    def run(self) -> None:
        acts = (self._pause, self._pause, self._edit, self._edit, self._disable, self._trigger)
        try:
            while not self._over.wait(self._rng.uniform(*PAUSE_S)):
                act = self._rng.choice(acts)
                act(*self._rng.choice(self._names))
        except BaseException as exc:  # shown by the field
            self.error = exc

    def stop(self) -> None:
        """Undo what is under way, and pause every schedule. The servers are there by then."""
        if self._stopped:
            return
        self._stopped = True
        self._over.set()
        self.join(60)
        try:
            for flow, key in self._names if self.error is None else ():
                self._insist(partial(ScheduleHandle(self._client, flow, key).pause, "the soak is over", by=_ME))
        finally:
            self._client.close()
        if self.error is not None:
            raise self.error

    def _pause(self, flow: str, key: str) -> None:
        schedule = ScheduleHandle(self._client, flow, key)
        with self._for_a_while("schedule-pause", f"{flow}/{key}"):
            self._insist(lambda: schedule.pause("the soak says so", by=_ME))
            self._wait()
            self._insist(lambda: schedule.resume(by=_ME))

    def _edit(self, flow: str, key: str) -> None:
        schedule = ScheduleHandle(self._client, flow, key)
        with self._for_a_while("schedule-edit", f"{flow}/{key}"):
            self._insist(lambda: schedule.set_cron(self._rng.choice(("* * * * *", "*/2 * * * *")), by=_ME))
            self._wait()
            self._insist(lambda: schedule.reset(by=_ME))

    def _disable(self, flow: str, key: str) -> None:
        with self._for_a_while("schedule-disable", flow):
            self._insist(lambda: self._client.call(switch.disable, flow, _ME))
            self._wait()
            self._insist(lambda: self._client.call(switch.enable, flow, _ME))

    def _trigger(self, flow: str, key: str) -> None:
        """Once; whether it happened is not asked for."""
        with self._for_a_while("schedule-trigger", f"{flow}/{key}"):
            try:
                ScheduleHandle(self._client, flow, key).trigger(by=_ME)
            except UNKNOWN:
                self._over.wait(0.2)

    def _wait(self) -> None:
        self._over.wait(self._rng.uniform(*LASTS_S))

    @contextmanager
    def _for_a_while(self, kind: str, target: str) -> Iterator[None]:
        begun = monotonic_ns()
        yield
        self._faults.append(Fault(kind, target, begun, monotonic_ns(), NOBODY))

    def _insist(self, act: Callable[[], object]) -> None:
        """Until the ledger has it."""
        while True:
            try:
                act()
                return
            except UNKNOWN:
                threading.Event().wait(0.2)
