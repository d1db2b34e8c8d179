"""The places a worker has for messages it took from Redis: none is lost with a connection."""

from collections.abc import Callable
from typing import Any

from celery import bootsteps
from kombu.transport import virtual


class Places(bootsteps.StartStopStep):  # type: ignore[misc]
    """Looks after the channel of the consumer, again after every reconnect."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, c: Any) -> None:
        keep(c.task_consumer.channel.qos)

    def stop(self, c: Any) -> None:
        """The channel goes with its consumer."""


def keep(qos: Any) -> None:
    """From now on a message whose acknowledgement fails gives up its place all the same.

    With acknowledgements emulated, kombu goes on counting it. A worker that lost as many as it has places takes nothing
    more, for ever: it asks Redis for nothing, so it does not see that the connection is gone, and it looks busy. The
    message may come once more; the claim suppresses it.
    """
    qos.ack = _freeing(qos, qos.ack)
    qos.reject = _freeing(qos, qos.reject)


def _freeing(qos: Any, act: Callable[..., None]) -> Callable[..., None]:
    def wrapped(delivery_tag: str, *args: Any, **kwargs: Any) -> None:
        try:
            act(delivery_tag, *args, **kwargs)
        except Exception:
            virtual.QoS.ack(qos, delivery_tag)  # type: ignore[no-untyped-call]
            raise

    return wrapped
