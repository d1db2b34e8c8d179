"""A worker process of the simulation: the product's own state, executor and heartbeat, without Celery around them."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from celery import Celery

from orchestrator.core.facts import Dispatch, WorkerInfo
from orchestrator.core.manifest import Manifest
from orchestrator.delivery.hints import EndHints
from orchestrator.delivery.publisher import Publisher
from orchestrator.engine.sweeps import redispatch
from orchestrator.engine.sweeps.walk import Walk
from orchestrator.settings import Settings
from orchestrator.testing.worker import Pulse, Refusals
from orchestrator.workers.run.loop import Loop
from orchestrator.workers.state import AnyStep, Runtime, WorkerState
from tests.simulation.stage import Actor, Stage, StagedLedger

HOST = "sim"
Broker = dict[tuple[str, int], list[Dispatch]]
"""Lists by queue and priority."""
PAGE = 3
"""Rows that a keeper sees at a time: fewer than there are that nobody can do."""


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


@dataclass(frozen=True)
class Code:
    """What a release brings: its way to the ledger, its flows, and their handlers by task."""

    release: str
    ledger: StagedLedger
    manifests: Sequence[Manifest]
    handlers: Mapping[str, AnyStep]


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

    def learn(self, runtime: Runtime, code: Code) -> None:
        self.equip(runtime)
        self.handlers = dict(code.handlers)
        for manifest in code.manifests:
            runtime.ledger.know(manifest)
            own = {task: one for task, one in code.handlers.items() if task.startswith(f"{manifest.name}.")}
            self.versions.add(manifest, own)


class Process:
    """A worker's main process with its pool children. A new one takes its place when it dies or stops."""

    def __init__(self, number: int, life: int, settings: Settings, stage: Stage, code: Code, broker: Broker) -> None:
        self.number = number
        self.life = life
        self.code = code
        self.pid = 1000 * (number + 1) + life
        self.state = SimState(settings, stage, f"{HOST}/{self.pid}/{life}")
        self.pulse = Pulse(settings, code.ledger)
        sender = cast(Publisher, Sender(stage, code.ledger, broker))
        self.refusals = Refusals(code.ledger, sender, self.state.worker_id, settings.worker_ttl)
        self.state.learn(Runtime(code.ledger, sender, self.pulse, Loop(), self.refusals, cast(EndHints, None)), code)
        self.children: list[Actor] = []
        """Each at work on one message."""
        self.keepers: list[Actor] = []
        self.walks: dict[str, Walk] = defaultdict(lambda: Walk(PAGE))
        """Of its keeper, by duty."""
        self.paused_ns: int | None = None

    @property
    def name(self) -> str:
        return f"{self.code.release} w{self.number}.{self.life}"

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
        state = self.state
        versions = {manifest.name: manifest.hash for manifest in self.code.manifests}
        return WorkerInfo(
            state.worker_id,
            HOST,
            self.pid,
            "prefork",
            2,
            2,
            ("default",),
            tuple(sorted(state.handlers)),
            self.code.release,
            versions,
            state.versions.refused,
        )


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
