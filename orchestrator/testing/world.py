"""A world: flows, a worker, a clock that stands still, and what may befall them.

Nothing happens at the same time. `start`, `advance` and `finish` let the worker take messages, one after the other,
until nothing can go on; between them nothing moves.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar, cast, overload

from pydantic import SecretStr

from orchestrator.authoring.alone import alone
from orchestrator.authoring.context import Context
from orchestrator.authoring.flow import AnyFlow, Flow
from orchestrator.authoring.step import AnyStep, Length, Step
from orchestrator.client.client import Client, Startable
from orchestrator.core.durations import parse_duration
from orchestrator.core.facts import Dispatch, Swept
from orchestrator.core.signals import Delivery
from orchestrator.delivery.sender import Sender
from orchestrator.engine.subflows import report, stopping
from orchestrator.engine.sweeps import sweep
from orchestrator.engine.sweeps.wake import wake
from orchestrator.engine.sweeps.walk import Walk
from orchestrator.errors import UsageError
from orchestrator.settings import Settings
from orchestrator.testing import fakes
from orchestrator.testing.clock import Clock
from orchestrator.testing.databases import databases
from orchestrator.testing.fakes import Call, Fake, Played
from orchestrator.testing.sim_run import SimRun
from orchestrator.testing.transport import Transport
from orchestrator.testing.worker import Worker, WorkerLedger

P = ParamSpec("P")
R = TypeVar("R")
Error = BaseException | type[BaseException]
_JUMPS: Final = 10_000
"""From timer to timer, until it is said that this does not end."""


class _Client(Client):
    """The product's, which hands what it starts to the world's transport."""

    transport: Transport

    def sending(self) -> Sender:
        return cast(Sender, self.transport)


class World:
    """Made by `sim`, or by the fixture `world`. One thread uses it."""

    def __init__(self, seed: int = 0) -> None:
        """
        Raises:
            EmbeddedMissing, EmbeddedFailed: there is no PostgreSQL, and none can be started.
        """
        self._url = databases.take()
        self.settings = Settings(database_url=SecretStr(self._url))
        ledger = WorkerLedger.connect(self._url, pool_size=4, name="sim worker")
        assert isinstance(ledger, WorkerLedger)
        ledger.jitter = lambda: 1.0  # whoever writes a test knows when the next attempt is due
        self._transport = Transport(ledger, seed)
        self._worker = Worker(self.settings, ledger, self._transport)
        self.client = _Client(self.settings)
        """The product's client: whatever else an operator does."""
        self.client.transport = self._transport
        self._clock = Clock(self.client.ledger)
        self._known: set[str] = set()
        self._fakes: dict[AnyStep, Fake] = {}
        self._deaths: dict[str, Counter[AnyStep]] = {"before": Counter(), "after": Counter(), "late": Counter()}
        walks = ("expired", "wake", "deadlines", "queue_timeouts", "overruns", "untold")
        self._walks = {name: Walk() for name in walks}
        self._busy = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is kept of it."""
        self._worker.close()
        self.client.close()
        databases.give_back(self._url)

    # ---- flows and runs ----

    def add(self, *flows: AnyFlow) -> None:
        """The worker has these flows. A flow that is started by its object need not be added."""
        for flow in flows:
            self.add(*(called for called in flow.called.values() if called.manifest.hash not in self._known))
            if flow.manifest.hash not in self._known:
                self._known.add(flow.manifest.hash)
                handlers = {type_: Played(step, self._befall) for type_, step in flow.handlers.items()}
                self._worker.learn(flow, handlers)

    @overload
    def start(self, flow: Startable[R], input: Mapping[str, Any] | None = None, /, **given: Any) -> SimRun[R]: ...
    @overload
    def start(self, flow: str, input: Mapping[str, Any] | None = None, /, **given: Any) -> SimRun[Any]: ...
    def start(self, flow: Startable[Any] | str, input: Mapping[str, Any] | None = None, /, **given: Any) -> SimRun[Any]:
        """Start a run as `Client.start` does, with the same arguments, and work until nothing can go on.

        Raises:
            As `Client.start`.
        """
        if isinstance(flow, Step | Flow):  # what is neither, the client refuses
            self.add(alone(flow) if isinstance(flow, Step) else flow)
        run = SimRun(self.client.start(flow, input, **given), self.work)
        self.work()
        return run

    def work(self) -> None:
        """Until nothing can go on without time. Whoever acts through `client` says when."""
        if self._busy:  # a handler is at work, in whose time this is: there is one worker
            return
        self._busy = True
        try:
            while self._take_all() or self._tell():
                pass
        finally:
            self._busy = False

    def _take_all(self) -> bool:
        dispatch = self._transport.take()
        while dispatch is not None:
            self._worker.take(dispatch)
            if (dispatch := self._transport.take()) is None:
                return True
        return False

    def _tell(self) -> bool:
        """What keepers do about runs that steps of other runs wait for, or that are to be started for them."""
        ledger = self._worker.ledger
        stopped = stopping.stop_children(ledger, None, self.settings.cancel_grace)
        told = report.untold(ledger, self._walks["untold"])
        woken = wake(ledger, self._walks["wake"])
        self._publish((*told.dispatches, *woken.dispatches))
        return bool(stopped.changed or told.changed or woken.changed)

    # ---- whoever is waited for ----

    def signal(self, run: SimRun[Any], name: str, payload: object = None, /, **given: Any) -> Delivery:
        """Send a signal as `RunHandle.signal` does, with the same arguments, and work until nothing can go on.

        Raises:
            As `RunHandle.signal`.
        """
        try:
            return run.handle.signal(name, payload, **given)
        finally:  # the time of a wait may have been over
            self.work()

    def answer(self, run: SimRun[Any], step: str, answer: object, /, *, by: str = "the test") -> Delivery:
        """Answer an approval as `RunHandle.answer` does, and work until nothing can go on.

        Raises:
            As `RunHandle.answer`.
        """
        try:
            asks, key = run.at(step)
            return asks.answer(key, answer, by=by)
        finally:
            self.work()

    # ---- fakes ----

    @overload
    def fake(self, step: Step[P, R, Any], /, *, returns: R, raises: Sequence[Error] = ...) -> Fake: ...
    @overload
    def fake(
        self,
        step: Step[P, R, Any],
        /,
        *,
        calls: Callable[P, R] | Callable[Concatenate[Context, P], R],
        raises: Sequence[Error] = ...,
    ) -> Fake: ...
    @overload
    def fake(self, step: Step[P, R, Any], /, *, raises: Error | Sequence[Error]) -> Fake: ...
    def fake(self, step: AnyStep, /, **how: Any) -> Fake:
        """From now on the step's function is not called. What stands for it returns a value, or is another function
        with the step's parameters, or raises an error. A list of errors is one for each of the first attempts of a
        step; what comes after them, `returns` or `calls` says.

        Raises:
            UsageError: none of these is given, or `returns` and `calls`.
        """
        self._fakes[step.base] = made = Fake(step.base, fakes.answer(step, how))
        return made

    # ---- what befalls a worker ----

    def kill(self, step: Step[..., Any], *, after: bool = False, times: int = 1) -> None:
        """The worker dies at the next call of this step's function, or after it, before its result is recorded. Its
        lease has to run out before another worker has the step: let time pass."""
        self._deaths["after" if after else "before"][step.base] += times

    def late(self, step: Step[..., Any], *, times: int = 1) -> None:
        """At the next call of this step's function its worker sleeps past its lease, and another one gets the step.
        What the first one returns after that is refused."""
        self._deaths["late"][step.base] += times

    @contextmanager
    def _befall(self, step: AnyStep, call: Call) -> Iterator[Fake | None]:
        if self._strikes("before", step):
            self._worker.die()
        if self._strikes("late", step):
            self._worker.pulse.forget()
            self._clock.move(self.now + self.settings.lease + timedelta(seconds=1))
            self._sweep()
        yield self._fakes.get(step.base)
        if self._strikes("after", step):
            self._worker.die()

    def _strikes(self, what: str, step: AnyStep) -> bool:
        struck = self._deaths[what][step.base] > 0
        self._deaths[what][step.base] -= struck
        return struck

    # ---- time ----

    @property
    def now(self) -> datetime:
        """What time it is, aware UTC."""
        return self._clock.now

    def advance(self, length: Length | None = None, /, **units: float) -> None:
        """Let time pass: `advance("3d")`, `advance(days=3)`. Every timer on the way goes off in its turn, and what
        follows is done at its time.

        Raises:
            DurationInvalid: that is not a length of time.
        """
        passed = timedelta(**units) + (timedelta() if length is None else parse_duration(length))
        self.advance_to(self.now + passed)

    def advance_to(self, at: datetime) -> None:
        """Let time pass until `at`.

        Raises:
            UsageError: it is in the past, or has no zone.
        """
        if at.tzinfo is None or at < self.now:
            raise UsageError(f"{at} is not later than {self.now}, with a zone. Fix: time does not go back.")
        self._pass(lambda timer: timer is None or timer > at)
        self._clock.move(at)
        self._worker.seen()
        self.work()

    def finish(self, run: SimRun[R]) -> SimRun[R]:
        """Jump from timer to timer until the run has ended.

        Raises:
            AssertionError: no timer is left, or the timers do not end; the text says what it waits for.
        """
        self._pass(lambda timer: timer is None or run.ended)
        if not run.ended:
            raise AssertionError(f"Run {run.id} does not end by time alone. {run.explain().sentence}")
        return run

    def _pass(self, enough: Callable[[datetime | None], bool]) -> None:
        self.work()
        for _ in range(_JUMPS):
            timer = self._clock.next_timer()
            if timer is None or enough(timer):
                return
            self._clock.pass_by(timer)
            self._worker.seen()
            self._sweep()
            self.work()
        raise AssertionError(f"After {_JUMPS} timers there is one more. Fix: let less time pass.")

    def _sweep(self) -> None:
        """What keepers do for steps and runs when their time has come."""
        ledger, settings, walks = self._worker.ledger, self.settings, self._walks
        limits = {"crash_limit": settings.crash_limit, "deploy_limit": settings.deploy_limit}
        self._pages(lambda: sweep.due(ledger))
        self._pages(lambda: wake(ledger, walks["wake"]))
        self._pages(lambda: sweep.expired(ledger, walk=walks["expired"], **limits))
        self._pages(lambda: sweep.deadlines(ledger, settings.cancel_grace, walks["deadlines"]))
        self._pages(lambda: sweep.queue_timeouts(ledger, walks["queue_timeouts"]))
        for overrun in sweep.overruns(ledger, self._worker.state.worker_id, walks["overruns"]):
            self._transport.publish(overrun.dispatches)

    def _pages(self, duty: Callable[[], Swept]) -> None:
        swept = duty()
        self._publish(swept.dispatches)
        while swept.more:
            swept = duty()
            self._publish(swept.dispatches)

    def _publish(self, dispatches: Sequence[Dispatch]) -> None:
        self._transport.publish(dispatches)


def sim(*flows: AnyFlow, seed: int = 0) -> World:
    """A new world with these flows, for a `with`: an empty ledger at the beginning of 2026. The seed decides the order
    of what may run in any order.

    Raises:
        EmbeddedMissing, EmbeddedFailed: there is no PostgreSQL, and none can be started.
    """
    world = World(seed)
    world.add(*flows)
    return world
