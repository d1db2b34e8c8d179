"""A worker process of the simulation: the product's own state, executor and heartbeat, without Celery around them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from celery import Celery

from orchestrator.core.facts import Dispatch, WorkerInfo
from orchestrator.delivery.publisher import Publisher
from orchestrator.engine.sweeps import redispatch
from orchestrator.settings import Settings
from orchestrator.workers.run.heartbeat import Heartbeat
from orchestrator.workers.run.held_lease import HeldLease
from orchestrator.workers.run.loop import Loop
from orchestrator.workers.state import AnyStep, Runtime, WorkerState
from tests.simulation.stage import Actor, Stage, StagedLedger

HOST = "sim"
Broker = dict[tuple[str, int], list[Dispatch]]
"""Lists by queue and priority."""


class Sender:
    """Plays the publisher: the message, and later, if all goes well, the note that it was sent."""

    def __init__(self, stage: Stage, ledger: StagedLedger, broker: Broker) -> None:
        self._stage = stage
        self._ledger = ledger
        self._broker = broker

    def publish(self, dispatches: Sequence[Dispatch]) -> bool:
        if not dispatches:
            return True
        self._stage.boundary("publish")
        for one in dispatches:
            self._broker.setdefault((one.queue, one.priority), []).append(one)
        self._stage.boundary("published")
        try:
            redispatch.confirm(self._ledger, dispatches)
        except Exception:  # as the product does: what it loses is published once more
            return True
        return True


class Pulse(Heartbeat):
    """The product's heartbeat; the simulation says when it beats."""

    def __init__(self, settings: Settings, ledger: StagedLedger) -> None:
        super().__init__(settings)
        self._ledger = ledger

    def add(self, held: HeldLease) -> None:
        self._held[id(held)] = held

    def beat(self) -> None:
        self._beat()


class SimState(WorkerState):
    """A state whose owner is the actor at work."""

    def __init__(self, settings: Settings, stage: Stage, worker_id: str) -> None:
        super().__init__(cast(Celery, None), settings)
        self.worker_id = worker_id
        self._stage = stage

    @property
    def owner(self) -> str:
        acting = self._stage.acting
        assert acting is not None
        return f"{self.worker_id}/{acting.pid}"

    def runtime(self) -> Runtime:
        assert self._runtime is not None
        return self._runtime

    def equip(self, runtime: Runtime, handlers: Mapping[str, AnyStep]) -> None:
        self._runtime = runtime
        self.handlers = dict(handlers)


class Process:
    """A worker's main process with its pool children. A new one takes its place when it dies or stops."""

    def __init__(
        self,
        number: int,
        life: int,
        settings: Settings,
        stage: Stage,
        ledger: StagedLedger,
        broker: Broker,
        handlers: Mapping[str, AnyStep],
    ) -> None:
        self.number = number
        self.life = life
        self.pid = 1000 * (number + 1) + life
        self.state = SimState(settings, stage, f"{HOST}/{self.pid}/{life}")
        self.pulse = Pulse(settings, ledger)
        self.state.equip(Runtime(ledger, cast(Publisher, Sender(stage, ledger, broker)), self.pulse, Loop()), handlers)
        self.children: list[Actor] = []
        """Each at work on one message."""
        self.keepers: list[Actor] = []
        self.paused_ns: int | None = None

    @property
    def name(self) -> str:
        return f"w{self.number}.{self.life}"

    @property
    def healthy(self) -> bool:
        return self.paused_ns is None

    def forget(self) -> None:
        """Those that came to their end."""
        self.children = [one for one in self.children if not one.over]
        self.keepers = [one for one in self.keepers if not one.over]

    def pids(self) -> frozenset[int]:
        return frozenset({self.pid, *(one.pid for one in self.children)})

    def info(self) -> WorkerInfo:
        handlers = tuple(sorted(self.state.handlers))
        return WorkerInfo(self.state.worker_id, HOST, self.pid, "prefork", 2, 2, ("default",), handlers, "sim")


def repeated(work: Callable[[], Any], lost: Callable[[BaseException], bool]) -> None:
    """Until it is answered: the keeper's loops never end."""
    while True:
        try:
            work()
        except Exception as exc:
            if not lost(exc):
                raise
        else:
            return
