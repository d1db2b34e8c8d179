"""What a worker, a beat and Flower configure beyond the broker."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from kombu.entity import Exchange, Queue

from orchestrator.authoring.flow import AnyFlow
from orchestrator.core.manifest import StepDef
from orchestrator.delivery.config import broker_config
from orchestrator.schedules.config import beat_config
from orchestrator.settings import Settings

REMOTE_CONTROL: Final = frozenset(
    {
        "active",
        "active_queues",
        "clock",
        "conf",
        "heartbeat",
        "hello",
        "ping",
        "query_task",
        "registered",
        "report",
        "reserved",
        "revoked",
        "scheduled",
        "stats",
    }
)
"""Remote control may look, not touch: whoever reaches Redis could otherwise stop workers or drop messages."""


def celery_config(settings: Settings) -> dict[str, Any]:
    """What `app.conf` of a worker, a beat and Flower is updated with."""
    return {
        **broker_config(settings),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # the default of 100 ends the worker in a long outage
        "broker_channel_error_retry": True,  # a broker that refuses writes is waited for, like one that is away
        "broker_heartbeat": 0,
        "task_acks_late": True,
        "task_acks_on_failure": True,
        "task_acks_on_timeout": True,
        "task_reject_on_worker_lost": False,  # the ledger re-dispatches, with a bound
        "task_track_started": False,
        "task_store_errors_even_if_ignored": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_prefetch_multiplier": settings.prefetch_multiplier,
        "worker_enable_prefetch_count_reduction": False,
        "worker_pool_start_method": "fork",  # children share the stop flag of their parent
        "worker_consumer": "orchestrator.workers.app.consumer:StepConsumer",
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_log_color": False,
        **beat_config(settings),
    }


def queues_of(flows: Iterable[AnyFlow]) -> tuple[str, ...]:
    """Every queue that steps of these flows are sent to, sorted."""
    return tuple(sorted({name for flow in flows for name in _queues(flow)}))


def _queues(flow: AnyFlow) -> Iterator[str]:
    yield flow.manifest.queue
    yield from _step_queues(flow.manifest.steps)
    yield from (step.settings.queue for step in flow.retired.values() if step.settings.queue)


def _step_queues(steps: Mapping[str, StepDef]) -> Iterator[str]:
    for definition in steps.values():
        if definition.queue:
            yield definition.queue
        if definition.steps:
            yield from _step_queues(definition.steps)


def queue(name: str) -> Queue:
    """A queue as workers declare it; messages are sent to it by its name."""
    exchange = Exchange("orchestrator", type="direct")  # type: ignore[no-untyped-call]
    return Queue(name, exchange, routing_key=name)  # type: ignore[no-untyped-call]
