"""The prefetch slots of a worker, for messages that it took from Redis: none is lost with a connection."""

from collections.abc import Callable
from typing import Any

from celery import bootsteps
from kombu.transport import virtual

from orchestrator.observe.logs import log
from orchestrator.servers.diagnosis import one_line


class PrefetchGuard(bootsteps.StartStopStep):  # type: ignore[misc]
    """Looks after the channel of the consumer, again after every reconnect."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, c: Any) -> None:
        keep(c.task_consumer.channel.qos)

    def stop(self, c: Any) -> None:
        """The channel goes with its consumer."""


def keep(qos: Any) -> None:
    """From now on a message whose acknowledgement fails gives up its slot all the same.

    With acknowledgements emulated, kombu goes on counting it. A worker that lost as many as it has slots takes nothing
    more, for ever: it asks Redis for nothing, so it does not see that the connection is gone, and it looks busy. The
    message may come once more; the claim suppresses it.

    Without emulation kombu sends each message that was not acknowledged back by a connection of its own, when it lost
    the one they came by; if Redis is away it asks for as many connections as there are messages, and writes the
    messages to a file in the system's temporary folder. The first that fails ends it: the ledger has them all.
    """
    qos.ack = _freeing(qos, qos.ack)
    qos.reject = _freeing(qos, qos.reject)
    if type(qos) is virtual.QoS:
        vars(qos)["restore_unacked"] = _while_it_works(qos)


def _freeing(qos: Any, act: Callable[..., None]) -> Callable[..., None]:
    def wrapped(delivery_tag: str, *args: Any, **kwargs: Any) -> None:
        try:
            act(delivery_tag, *args, **kwargs)
        except Exception:
            virtual.QoS.ack(qos, delivery_tag)  # type: ignore[no-untyped-call]
            raise

    return wrapped


def _while_it_works(qos: Any) -> Callable[[], list[tuple[BaseException, Any]]]:
    """`restore_unacked` that gives up at the first failure, and leaves kombu nothing to write to its file."""

    def restore() -> list[tuple[BaseException, Any]]:
        qos._flush()
        held = qos._delivered
        while held:
            _, message = held.popitem()
            try:
                qos.channel._restore(message)
            except Exception as exc:
                reason = one_line(f"{type(exc).__name__}: {exc}")
                log.warning("messages.left_to_ledger", extra={"count": len(held) + 1, "error": reason})
                held.clear()
        return []

    return restore
