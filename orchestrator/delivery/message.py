"""The message of a dispatch: ids and nothing else. It is written and read here, whoever sends or takes it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from celery import Celery

from orchestrator.core.facts import Dispatch

DEFAULT_QUEUE: Final = "default"


def put(app: Celery, producer: Any, one: Dispatch, *, origin: str) -> None:
    """Send this dispatch to its queue. Raises what the broker's client raises."""
    message = app.amqp.as_task_v2(
        f"{one.run_id}:{one.step_key}:{one.number}",
        one.task,
        args=[str(one.run_id), one.step_key, one.number],
        argsrepr=f"{str(one.run_id)[-12:]}/{one.step_key}",
        kwargsrepr="",
        origin=origin,
        ignore_result=True,
    )
    producer.publish(
        message.body,
        exchange="",
        routing_key=one.queue,
        priority=one.priority,
        serializer="json",
        headers=message.headers,
        retry=False,
        **message.properties,
    )


def read(task: str, args: Sequence[Any], info: Mapping[str, Any] | None) -> Dispatch:
    """The dispatch that a message stands for; `info` is where it was delivered, and with which priority.

    Raises:
        ValueError, TypeError: these are not the arguments of a step.
    """
    run_id, step_key, number = args
    where = info or {}
    queue, priority = where.get("routing_key") or DEFAULT_QUEUE, where.get("priority") or 0
    return Dispatch(UUID(run_id), step_key, number, task, queue, priority)
