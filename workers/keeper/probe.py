"""Proves that this worker consumes: it sends itself a message through Redis and looks for its return.

A Celery worker can stay connected to Redis, answer PING, and take nothing.
"""

import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from celery import Celery, Task, bootsteps
from kombu.entity import Exchange, Queue

from orchestrator.core.facts import Swept
from orchestrator.observe.logs import log
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState, state_of

TASK: Final = "workers.probe"
_MISSED: Final = 3
_FIRST_S: Final = 0.5
_TTL_MS: Final = 120_000
_RECONNECT_S: Final = 60.0
"""A consumer that lost Redis pauses up to 30 s between two attempts, also when Redis has been back for long."""


def queue_name(state: WorkerState) -> str:
    """The private queue of one worker process."""
    return f"probe.{state.worker_id.replace('/', '.')}"


class ProbeTask(Task):  # type: ignore[misc]
    """Never runs in the pool: its strategy answers in the main process."""

    name = TASK
    Strategy = "orchestrator.workers.keeper.probe:strategy"
    ignore_result = True
    send_events = False

    def run(self) -> None:
        """Nothing to do."""


def strategy(task: Task, app: Celery, consumer: Any) -> Callable[..., None]:
    """Take note and acknowledge, on the thread that consumes."""
    state = state_of(app)

    def handle(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **_: Any) -> None:
        if state.keeper is not None:
            state.keeper.probe.returned(message.headers["id"])
        ack(log, consumer.connection_errors)

    return handle


class ProbeQueue(bootsteps.StartStopStep):  # type: ignore[misc]
    """Adds the private queue to the consumer, again after every reconnect."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, c: Any) -> None:
        name = queue_name(state_of(c.app))
        unbound = Exchange("")  # type: ignore[no-untyped-call]
        c.task_consumer.add_queue(Queue(name, unbound, routing_key=name))  # type: ignore[no-untyped-call]

    def stop(self, c: Any) -> None:
        """The consumer's own step closes it."""


class Probe:
    """Sends one probe per interval. After three without an answer it forces a reconnect, then ends the process."""

    def __init__(self, state: WorkerState, worker: Any) -> None:
        self._state = state
        self._worker = worker
        self._guard = threading.Lock()
        self._open: dict[str, float] = {}
        self._count = 0
        self._seen = monotonic()
        self.used = False
        """Whether probes are sent at all."""
        self._heard: float | None = None
        self._remedy = 0
        self._away_since: float | None = None
        self.interval_s = max(1.0, min(10.0, 2 * state.settings.sweep_interval.total_seconds()))

    @property
    def consuming(self) -> bool:
        """Whether messages have come back lately."""
        return monotonic() - self._seen < _MISSED * self.interval_s

    def heard_within(self, limit_s: float) -> bool:
        """Whether a message came back, or the worker was full, so lately. Unlike `consuming`, not while Redis is
        away."""
        return self._heard is not None and monotonic() - self._heard < limit_s

    def returned(self, token: str) -> None:
        """A probe came back."""
        with self._guard:
            if self._open.pop(token, None) is None:
                return
            self._open.clear()
            self._seen = self._heard = monotonic()
            if self._remedy:
                log.info("probe.recovered")
            self._remedy = 0

    def duty(self) -> Duty:
        """Each worker's own."""
        self.used = True
        return Duty("probe", Scope.WORKER, self.interval_s, self.tick, failed=self.forget_on_outage, close=self.close)

    def tick(self) -> Swept:
        """Judge the open probes, then send the next."""
        full = self._full()
        if full or self._state.stopping:
            self._forget()  # a full worker takes nothing, rightly
            self._heard = monotonic() if full else self._heard
            return Swept()
        self._send()  # raises while Redis is away: then silence proves nothing, and the caller logs it
        if self._reconnecting():
            self._forget_open()
            return self._next()
        with self._guard:
            silent = bool(self._open) and monotonic() - min(self._open.values()) >= _MISSED * self.interval_s
        if silent:
            self._act()
        return self._next()

    def _next(self) -> Swept:
        """Until the first message came back the worker is not ready, so the next is sent soon."""
        return Swept(next_s=_FIRST_S if self._heard is None else None)

    def forget_on_outage(self) -> None:
        """Redis was away; what was sent before may be gone."""
        self._away_since = None
        self._forget()

    def close(self) -> None:
        """Remove the private queue."""
        with self._state.app.connection_for_write() as connection:
            connection.default_channel.client.delete(queue_name(self._state))

    def _forget(self) -> None:
        with self._guard:
            self._open.clear()
            self._seen = monotonic()

    def _full(self) -> bool:
        consumer = getattr(self._worker.consumer, "task_consumer", None)
        channel = getattr(consumer, "channel", None)
        return channel is not None and not channel.qos.can_consume()

    def _reconnecting(self) -> bool:
        """Whether the consumer has yet to notice that Redis is back; not for ever, or a stuck one would go unseen."""
        consumer = self._worker.consumer
        if consumer is None or consumer.connection is not None:
            self._away_since = None
            return False
        if self._away_since is None:
            self._away_since = monotonic()
        return monotonic() - self._away_since < _RECONNECT_S

    def _send(self) -> None:
        app, name = self._state.app, queue_name(self._state)
        self._count += 1
        token = f"{self._state.worker_id}:{self._count}"
        body = app.amqp.as_task_v2(token, TASK, args=[], argsrepr="", kwargsrepr="", ignore_result=True)
        with app.producer_pool.acquire(block=True, timeout=5) as producer:
            with self._guard:
                self._open[token] = monotonic()
            producer.publish(
                body.body,
                exchange="",
                routing_key=name,
                serializer="json",
                headers=body.headers,
                retry=False,
                **body.properties,
            )
            producer.channel.client.pexpire(name, _TTL_MS)

    def _act(self) -> None:
        self._remedy += 1
        if self._remedy == 1:
            log.error("probe.silent", extra={"action": "reconnect", "queue": queue_name(self._state)})
            self._forget_open()
            consumer = self._worker.consumer
            if consumer is not None and consumer.hub is not None:
                consumer.hub.call_soon(_reset)
            return
        log.critical(
            "probe.silent", extra={"action": "exit", "fix": "run workers under a supervisor that restarts them"}
        )
        os._exit(70)

    def _forget_open(self) -> None:
        with self._guard:
            self._open.clear()


def _reset() -> None:
    """Raised on the hub, this takes the consumer through its ordinary reconnect."""
    raise ConnectionResetError("the consumption probe did not come back")
