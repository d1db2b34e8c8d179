"""One registered Celery task per step type. A message carries ids; the ledger has the rest."""

from collections.abc import Iterable, Mapping
from typing import Any

from celery import Celery, Task

from orchestrator.delivery import message
from orchestrator.workers.run.deliver import deliver
from orchestrator.workers.state import AnyFlow, AnyStep, state_of, task_name


class StepTask(Task):  # type: ignore[misc]
    """Claim, run, report. A duplicate delivery claims nothing and returns."""

    abstract = True
    Request = "orchestrator.workers.app.request:StepRequest"
    acks_late = True
    ignore_result = True
    send_events = False  # `--events` turns them on: they cost more than the step
    typing = False

    def run(self, run_id: str, step_key: str, number: int) -> None:
        dispatch = message.read(self.name, (run_id, step_key, number), self.request.delivery_info)
        state = state_of(self.app)
        with state.consumer.lent():  # the solo pool runs it on the thread that consumes
            deliver(state, dispatch)


def register(app: Celery, flows: Iterable[AnyFlow]) -> None:
    """Make every step type of these flows a task `<flow>.<type>` of the app."""
    state = state_of(app)
    for flow in flows:
        handlers = {task_name(flow.name, step_type): step for step_type, step in flow.handlers.items()}
        state.handlers |= handlers
        state.versions.add(flow.manifest, handlers)
        for name, step in handlers.items():
            app.register_task(_task(name, step.__doc__)())


def register_alone(app: Celery, steps: Mapping[str, AnyStep]) -> None:
    """Make steps tasks of the flows of these names, in which they are started alone. Their versions are read when they
    are met: a worker starts no later for steps that nobody starts so."""
    state = state_of(app)
    handlers = {task_name(flow, step.type): step for flow, step in steps.items()}
    state.handlers |= handlers
    state.versions.know(handlers)
    for name, step in handlers.items():
        app.register_task(_task(name, step.__doc__)())


def _task(name: str, doc: str | None) -> Any:
    return type("StepTask", (StepTask,), {"name": name, "__doc__": doc, "__module__": __name__})
