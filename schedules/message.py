"""The message of a tick: a schedule, and the time it was planned for. A hint: the ledger knows what is due."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from celery import Celery

TASK: Final = "orchestrator.tick"
QUEUE: Final = "orchestrator.ticks"
KEPT: Final = 20_000
"""Messages that wait when no worker runs; older ones are dropped, and nothing is lost with them."""
_BATCH: Final = 1000


@dataclass(frozen=True, slots=True)
class Hint:
    """A schedule that seems to be due."""

    flow: str
    key: str
    planned: datetime

    @classmethod
    def read(cls, args: Sequence[Any]) -> Self:
        """From the arguments of the task.

        Raises:
            ValueError, TypeError: they are not those of a tick.
        """
        flow, key, planned = args
        return cls(str(flow), str(key), datetime.fromisoformat(planned))


def send(app: Celery, hints: Sequence[Hint], key_prefix: str) -> None:
    """Send these in as few round trips as possible. Raises what the broker's client raises."""
    with app.producer_pool.acquire(block=True, timeout=5) as producer:
        for start in range(0, len(hints), _BATCH):
            with producer.batch(max_size=_BATCH):
                for one in hints[start : start + _BATCH]:
                    _put(app, producer, one)
        # By its full name: kombu adds the prefix only to the commands that it uses itself.
        producer.channel.client.ltrim(f"{key_prefix}{QUEUE}", 0, KEPT - 1)


def _put(app: Celery, producer: Any, one: Hint) -> None:
    message = app.amqp.as_task_v2(
        str(uuid.uuid4()),
        TASK,
        args=[one.flow, one.key, one.planned.isoformat()],
        argsrepr=f"{one.flow}/{one.key} {one.planned.isoformat()}",
        kwargsrepr="",
        ignore_result=True,
    )
    producer.publish(
        message.body,
        exchange="",
        routing_key=QUEUE,
        serializer="json",
        headers=message.headers,
        retry=False,
        **message.properties,
    )


class Inbox:
    """Takes the messages of ticks from the broker, over a connection of its own: a worker that is full of long steps
    takes no messages over the other one."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Any = None

    def take(self, wait_s: float, limit: int = 500) -> list[Hint]:
        """Wait for a message, and take those behind it too. Anything that is not a tick is dropped.

        Raises what the broker's client raises; the next call connects anew.
        """
        try:
            if self._connection is None:
                self._connection = self._app.connection_for_read()
            channel = self._connection.default_channel
            first = channel.client.brpop([QUEUE], timeout=wait_s)
            if first is None:
                return []
            raw = [first[1], *(channel.client.rpop(QUEUE, limit - 1) or ())]
        except Exception:
            self.close()
            raise
        return [hint for one in raw if (hint := _hint(channel, one)) is not None]

    def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()


def _hint(channel: Any, raw: bytes) -> Hint | None:
    try:
        message = channel.message_to_python(json.loads(raw))
        message.accept = {"application/json"}
        return Hint.read(message.decode()[0])
    except Exception:  # somebody else's, or of another release
        return None
