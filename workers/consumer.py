"""The broker side of a worker, without the parts we do not use."""

from typing import Any

from celery.worker.consumer import Consumer

from workers.logs import log


class StepConsumer(Consumer):  # type: ignore[misc]
    """No gossip and no mingle: workers share nothing but the ledger."""

    def __init__(self, *args: Any, worker_options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        options = {**(worker_options or {}), "without_gossip": True, "without_mingle": True}
        super().__init__(*args, worker_options=options, **kwargs)

    def on_unknown_task(self, body: Any, message: Any, exc: BaseException) -> None:
        """A step of a flow this worker does not have. The message goes; its dispatch stays in the ledger."""
        log.error(
            "no handler",
            extra={
                "task": message.headers.get("task"),
                "id": message.headers.get("id"),
                "fix": "start a worker that has this flow; the dispatch waits in the ledger",
            },
        )
        message.reject_log_error(log, self.connection_errors)
