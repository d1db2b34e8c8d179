"""A worker without Celery around it: the product's own state, executor and heartbeat, which act when they are told."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from celery import Celery
from sqlalchemy import Connection

from orchestrator.core.facts import Dispatch, WorkerInfo
from orchestrator.core.release import release
from orchestrator.delivery.hints import EndHints
from orchestrator.delivery.publisher import Publisher
from orchestrator.engine import workers
from orchestrator.engine.flows import register
from orchestrator.ledger.tx import Ledger
from orchestrator.settings import Settings
from orchestrator.testing.transport import Transport
from orchestrator.workers.app.config import queues_of
from orchestrator.workers.run.deliver import deliver
from orchestrator.workers.run.hand_over import HandOver, Unfit
from orchestrator.workers.run.heartbeat import Heartbeat
from orchestrator.workers.run.held_lease import HeldLease
from orchestrator.workers.run.loop import Loop
from orchestrator.workers.state import AnyFlow, AnyStep, Runtime, WorkerState, task_name


class Lost(BaseException):
    """The worker is gone. Nothing below catches it for long: whatever asks its ledger raises it again."""


class WorkerLedger(Ledger):
    """The ledger as a worker sees it that may die."""

    dead = False

    @contextmanager
    def tx(self) -> Iterator[Connection]:
        self._look()
        with super().tx() as connection:
            yield connection

    @contextmanager
    def auto(self) -> Iterator[Connection]:
        self._look()
        with super().auto() as connection:
            yield connection

    def _look(self) -> None:
        if self.dead:
            raise Lost


class Pulse(Heartbeat):
    """The product's heartbeat, without its thread: it beats when it is told."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        super().__init__(settings)
        self._ledger = ledger

    def add(self, held: HeldLease) -> None:
        """Keep this lease from now on."""
        self._held[id(held)] = held

    def beat(self) -> None:
        """Renew every lease that is held."""
        if held := [one for one in self._held.values() if not one.lost]:
            self._renew(held)

    def forget(self) -> None:
        """What it held, it lost with its worker."""
        self._held.clear()


class Refusals(HandOver):
    """The product's, without its thread."""

    def give(self, unfit: Unfit) -> None:
        """It waits until somebody says `hand_on`."""
        self._held.append(unfit)

    def hand_on(self) -> None:
        """To workers that fit, or to the ledger."""
        self._hand_on()


class Worker:
    """One of a world: it takes one message at a time, and never dies for long."""

    def __init__(self, settings: Settings, ledger: WorkerLedger, transport: Transport) -> None:
        self.ledger = ledger
        self.pulse = Pulse(settings, ledger)
        self.state = WorkerState(cast(Celery, None), settings)
        publisher = cast(Publisher, transport)
        refusals = Refusals(ledger, publisher, self.state.worker_id, settings.worker_ttl)
        self.state.equip(Runtime(ledger, publisher, self.pulse, Loop(), refusals, EndHints(settings)))
        self._flows: dict[str, AnyFlow] = {}

    def learn(self, flow: AnyFlow, handlers: Mapping[str, AnyStep]) -> None:
        """Run the steps of this version from now on, by these handlers for its step types."""
        by_task = {task_name(flow.name, type_): step for type_, step in handlers.items()}
        register.register(self.ledger, flow.manifest, "the test")
        self.ledger.know(flow.manifest)
        self.state.handlers |= by_task
        self.state.versions.add(flow.manifest, by_task)
        self._flows[flow.name] = flow
        workers.hello(self.ledger, self._info())

    def seen(self) -> None:
        """It says that it lives, and keeps its leases."""
        if not workers.seen(self.ledger, self.state.worker_id, consuming=True):
            workers.hello(self.ledger, self._info())
        self.pulse.beat()

    def take(self, dispatch: Dispatch) -> None:
        """Act on one message. If that kills it, its leases stay, and another worker is there."""
        try:
            deliver(self.state, dispatch)
        except Lost:
            self.pulse.forget()
            self.ledger.dead = False
            self.state.begin()
            workers.hello(self.ledger, self._info())

    def die(self) -> None:
        """Called by a handler: the worker is gone.

        Raises:
            Lost: always.
        """
        self.ledger.dead = True
        raise Lost

    def close(self) -> None:
        """Close what it opened."""
        self.state.close()

    def _info(self) -> WorkerInfo:
        state = self.state
        return WorkerInfo(
            id=state.worker_id,
            host="sim",
            pid=state.main_pid,
            pool="threads",
            concurrency=1,
            prefetch=1,
            queues=queues_of(self._flows.values()),
            handlers=tuple(sorted(state.handlers)),
            release=release(),
            versions={name: flow.manifest.hash for name, flow in self._flows.items()},
            refuses=state.versions.refused,
        )
