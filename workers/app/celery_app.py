"""The Celery app: `make_app` for those who have settings, `app` for the `celery` program."""

import os
import signal
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Final

from celery import Celery
from celery.signals import (
    beat_init,
    celeryd_init,
    setup_logging,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_shutdown,
    worker_shutting_down,
)
from kombu.utils.objects import cached_property

from orchestrator.authoring.alone import by_name
from orchestrator.core import smoke
from orchestrator.observe import health, logs
from orchestrator.observe.listener import Route
from orchestrator.observe.metrics.metric import Source
from orchestrator.observe.traces import switch as traces
from orchestrator.settings import Settings
from orchestrator.workers.app import signals
from orchestrator.workers.app.config import REMOTE_CONTROL, celery_config, queue, queues_of
from orchestrator.workers.app.exit import exit_with_message
from orchestrator.workers.app.health import WorkerHealth
from orchestrator.workers.app.prefetch import PrefetchGuard
from orchestrator.workers.app.smoke import nothing
from orchestrator.workers.app.start import load, prepare, set_up_logging
from orchestrator.workers.app.tasks import StepTask, register, register_alone
from orchestrator.workers.keeper.keeper import KeeperStep
from orchestrator.workers.keeper.probe import ProbeQueue, ProbeTask
from orchestrator.workers.metering import Metering
from orchestrator.workers.state import AnyFlow, AnyStep, WorkerState, pool_name, state_of

_CHILD_FLUSH_TRIES: Final = 20
"""Tenths of a second a pool child waits at exit for its last results to be read; billiard's 300 stall a shutdown."""
_active: WorkerState | None = None


class App(Celery):  # type: ignore[misc]
    """Celery with our beat."""

    @cached_property
    def Beat(self) -> Any:
        return self.subclass_with_self("orchestrator.workers.app.beat:Beat")


def make_app(settings: Settings, flows: Mapping[str, AnyFlow] | None = None) -> Celery:
    """A configured app. Without `flows` a worker loads those of the settings when it starts.

    Raises:
        SettingsInvalid: there is no broker URL.
    """
    app = App("orchestrator", set_as_current=False)
    app.conf.update(celery_config(settings))
    app.worker_state = WorkerState(app, settings)
    app.register_task(ProbeTask())
    app.steps["worker"].add(KeeperStep)
    app.steps["consumer"].update((PrefetchGuard, ProbeQueue))
    if flows is not None:
        add_flows(app, flows)
    return app


def add_flows(app: Celery, flows: Mapping[str, AnyFlow], steps: Iterable[AnyStep] | None = None) -> None:
    """Register a task per step type, and consume the queues that these flows and steps name. Each step, by default each
    of the flows, is served alone too."""
    state = state_of(app)
    state.flows = dict(flows)
    register(app, flows.values())
    if steps is None:
        steps = [step for flow in flows.values() for step in flow.handlers.values()]
    known, unclear = by_name(steps)
    state.alone = {name: step for name, step in known.items() if name not in flows}
    register_alone(app, {**state.alone, smoke.FLOW: nothing})
    for flow in sorted(unclear):
        logs.log.warning("step.unclear", extra={"flow": flow, "fix": 'name one of its functions with @step(key="…")'})
    own = {step.settings.queue for step in state.alone.values() if step.settings.queue}
    names = sorted({*queues_of(flows.values()), *own}) or ["default"]
    app.conf.task_queues = [queue(name) for name in names]


@celeryd_init.connect  # type: ignore[untyped-decorator]
def _worker_begins(instance: Any = None, **_: Any) -> None:
    """Before the queues are chosen and before the fork. Other people's apps in this process are left alone."""
    global _active
    state = getattr(instance.app, "worker_state", None)
    if not isinstance(state, WorkerState):
        return
    _active = state
    state.begin()
    logs.quiet_warnings()
    setup_logging.connect(_log, weak=False)
    worker_init.connect(_before_start, weak=False)
    worker_process_init.connect(_child_begins, weak=False)
    worker_process_shutdown.connect(_child_ends, weak=False)
    worker_shutting_down.connect(_shutting_down, weak=False)
    worker_shutdown.connect(_ended, weak=False)
    with exit_with_message():
        traces.prepare(os.environ)
        state.settings.require_database_url()
        if not state.flows:
            add_flows(instance.app, *load(state.settings))


@beat_init.connect  # type: ignore[untyped-decorator]
def _beat_begins(sender: Any = None, **_: Any) -> None:
    """In `celery beat`, and in the beat of `celery worker -B`."""
    if isinstance(getattr(sender.app, "worker_state", None), WorkerState):
        from orchestrator.workers.app.beat import reconcile

        reconcile(sender.scheduler, state_of(sender.app).settings)


def _log(loglevel: Any = None, **_: Any) -> None:
    if _active is not None:
        set_up_logging(_active.settings, loglevel, _active.worker_id)


def _before_start(sender: Any = None, **_: Any) -> None:
    from celery.worker.control import Panel

    for name in set(Panel.data) - REMOTE_CONTROL:
        del Panel.data[name]
    if getattr(sender, "task_events", False):
        StepTask.send_events = True
    signals.forget_in_children()
    state = state_of(sender.app)
    level = getattr(sender, "loglevel", None)
    set_up_logging(state.settings, level, state.worker_id)  # Celery does so later, and what follows logs already
    with exit_with_message():
        more = _metrics(state, prefork=pool_name(sender) == "prefork")
        listener = health.begin("worker", state.settings.health_address, WorkerHealth(state), more)
        if listener is not None and state.listens is not None:
            state.listens(listener.port)
        prepare(state.settings, state.flows, state.worker_id, state.alone)
    _introduce(sender, state)


def _metrics(state: WorkerState, *, prefork: bool) -> dict[str, Route]:
    """Where they are shown, if probes are answered at all."""
    if state.settings.health_address is None:
        return {}
    state.metering = Metering([Source.WORKER, Source.KEEPER], state.settings.metrics_series, prefork=prefork)
    return {"/metrics": state.metering.answer}


def _introduce(worker: Any, state: WorkerState) -> None:
    """What this worker is, for whoever reads its log."""
    names = ",".join(sorted(state.flows)) or "none"
    about = {
        "flows": names,
        "queues": ",".join(sorted(worker.app.amqp.queues.consume_from)),
        "pool": pool_name(worker),
        "concurrency": worker.concurrency,
        "release": installed("flow-orchestrator"),
    }
    logs.log.info("worker.starts", extra=about)
    if not state.flows and not state.alone:
        fix = "name modules with flows: --flows, or ORCHESTRATOR_FLOWS"
        logs.log.warning("worker.without_flows", extra={"fix": fix})


def _child_begins(**_: Any) -> None:
    import billiard.pool
    from billiard.process import current_process

    if _active is None:
        return
    billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = _CHILD_FLUSH_TRIES
    child = current_process()
    child._config["daemon"] = False  # or `multiprocessing` would start nothing in a handler
    _active.become_child(getattr(child, "index", 0))
    if _active.metering is not None:
        _active.metering.become_child()
    logs.quiet_warnings()


def _child_ends(**_: Any) -> None:
    """Confirm what this child published, so that nobody sends it again."""
    if _active is not None and os.getpid() != _active.main_pid:
        _active.close()
        logs.tell_suppressed()


def _shutting_down(sig: str = "", how: str = "", **_: Any) -> None:
    """In a signal handler. One more signal inside it would wait for ever for a lock that this one holds."""
    if how == "Warm" and sig == "SIGTERM":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what it asks for is under way
    if _active is not None and how == "Cold":
        _active.told_cold = True
    if _active is None or _active.shared.stopping:
        return
    _active.shared.stop()
    if _active.keeper is not None:
        _active.keeper.shut_down()


def _ended(**_: Any) -> None:
    if _active is not None and os.getpid() == _active.main_pid:
        keeper, _active.keeper = _active.keeper, None
        if keeper is not None:
            keeper.stop()
        if _active.metering is not None:
            _active.metering.close()
            _active.metering = None
        _active.close()
        logs.tell_suppressed()


def _started_by_celery() -> bool:
    program = Path(sys.argv[0]) if sys.argv else Path()
    return program.name == "celery" or program.parent.name == "celery"


def default_app() -> Celery:
    """The app for the `celery` program, from the environment. A mistake in that ends the program with one line."""
    if not _started_by_celery():
        return make_app(Settings.from_env(os.environ))
    with exit_with_message():
        settings = Settings.from_env(os.environ)
        if "flower" in sys.argv:  # Flower's own defaults switch events on in every worker, and let anybody stop one
            for name, value in FLOWER_DEFAULTS.items():
                os.environ.setdefault(f"FLOWER_{name.upper()}", value)
            set_up_logging(settings)  # before its own, which adds no handler where there is one
        return make_app(settings)
    raise AssertionError("unreachable")


FLOWER_DEFAULTS: Final = {"enable_events": "False", "read_only": "True", "max_tasks": "10000"}
