"""The broker side of a worker, without the parts we do not use."""

from collections.abc import Callable
from time import monotonic, sleep
from typing import Any, Final

from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

from orchestrator.delivery.message import read
from orchestrator.observe.logs import log
from orchestrator.servers.diagnosis import broker_fix, one_line
from orchestrator.workers.run.hand_over import Unfit
from orchestrator.workers.state import state_of

_PAUSE_S: Final = 5.0


class StepConsumer(Consumer):  # type: ignore[misc]
    """No gossip and no mingle: workers share nothing but the ledger."""

    def __init__(self, *args: Any, worker_options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        options = {**(worker_options or {}), "without_gossip": True, "without_mingle": True}
        super().__init__(*args, worker_options=options, **kwargs)

    def start(self) -> None:
        """Consume until the worker ends. Each round of the loop moves its pulse, as does each second of waiting for
        Redis."""
        pulse = state_of(self.app).consumer
        if self.hub is not None:
            pulse.begin()
            self.hub.on_tick.add(pulse.moved)
        super().start()

    def ensure_connected(self, conn: Any) -> Any:
        """Celery connects here, for as long as that takes."""
        pulse, connect = state_of(self.app).consumer, conn.ensure_connection

        def connecting(*args: Any, callback: Callable[[], None], **kwargs: Any) -> Any:
            def waiting() -> None:
                pulse.moved()
                callback()

            return connect(*args, callback=waiting, **kwargs)

        conn.ensure_connection = connecting
        return super().ensure_connected(conn)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """A broker that is up and refuses us is asked again after a pause: connecting to it works at once."""
        if isinstance(exc, self.channel_errors):
            reason = one_line(exc)
            log.warning("broker.refuses", extra={"error": reason, "fix": broker_fix(reason), "again_in_s": _PAUSE_S})
        super().on_connection_error_after_connected(exc)
        if isinstance(exc, self.channel_errors):
            until = monotonic() + _PAUSE_S
            while monotonic() < until:
                maybe_shutdown()
                state_of(self.app).consumer.moved()
                sleep(0.1)

    def on_close(self) -> None:
        """The connection was lost, or the worker stops. After a loss Celery drops what it took and did not start:
        that must not be given back at the end, when other messages have long done its work."""
        super().on_close()
        state = state_of(self.app)
        if not state.stopping:
            state.waiting.clear()

    def on_unknown_task(self, body: Any, message: Any, exc: BaseException) -> None:
        """A step whose handler this worker does not have, or somebody else's message. Celery would drop it, again and
        again, while a worker that has the handler sits idle."""
        task = message.headers.get("task")
        try:
            args, _, _ = message.decode()
            info = {**(message.delivery_info or {}), "priority": message.properties.get("priority")}
            dispatch = read(task, args, info)
        except Exception as error:
            log.error("message.unknown", extra={"task": task, "error": type(error).__name__})
        else:
            state_of(self.app).runtime().hand_over.give(Unfit(dispatch, "this worker has no such handler"))
        message.reject_log_error(log, self.connection_errors)
