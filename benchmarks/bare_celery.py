"""The peer: Celery as its manual has it, on the same Valkey. Run by `celery -A benchmarks.bare_celery worker`."""

import os
from collections.abc import Sequence

from celery import Celery, Task


def make_app(broker_url: str | None, ack_emulation: bool) -> Celery:
    """Late acks, a prefetch of four per child, every result kept: what `chain` and `chord` need to be of use."""
    app = Celery("bare", set_as_current=False)
    app.conf.update(
        broker_url=broker_url,
        result_backend=broker_url,
        broker_transport_options={"ack_emulation": ack_emulation},
        broker_connection_retry_on_startup=True,
        task_acks_late=True,
        worker_prefetch_multiplier=4,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
    )
    app.task(name="bare.add_one", shared=False)(add_one)
    app.task(name="bare.total", shared=False, bind=True)(total)
    return app


def add_one(value: int) -> int:
    return value + 1


def total(self: Task, values: Sequence[int], done: str) -> int:
    """The join; says so on a list of its own, because a client that waits for a big chord's result is slow."""
    self.backend.client.rpush(done, 1)
    return sum(values)


app = make_app(os.environ.get("BENCH_BROKER_URL"), os.environ.get("BENCH_ACK_EMULATION", "1") == "1")
