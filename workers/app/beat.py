"""`celery -A orchestrator beat` and `orchestrator beat`: Celery's program, with our lines and our endings."""

import signal
from types import FrameType
from typing import Any

from celery.apps.beat import Beat as CeleryBeat

from orchestrator.errors import Unavailable
from orchestrator.observe import health, logs
from orchestrator.observe.listener import Answer, Route
from orchestrator.observe.metrics.metric import Source
from orchestrator.schedules.beat import LedgerScheduler
from orchestrator.servers import redbeat
from orchestrator.settings import Settings
from orchestrator.workers.app.exit import exit_with_message
from orchestrator.workers.app.health import BeatHealth
from orchestrator.workers.app.start import prepare, set_up_logging
from orchestrator.workers.state import state_of, turn_limit_s
from orchestrator.workers.supervised import Supervised


class Beat(CeleryBeat):  # type: ignore[misc]
    """Checks what it needs, and then runs until SIGTERM or SIGINT. Outages of any server do not end it."""

    def run(self) -> None:
        settings = state_of(self.app).settings
        self.setup_logging()
        self.health = BeatHealth()
        with exit_with_message():
            health.begin("beat", settings.health_address, self.health, _metrics(settings))
            settings.require_database_url()
            try:
                redbeat.check(settings)
            except Unavailable as exc:
                if exc.refused:
                    raise
                logs.log.warning("beat.waiting", extra={"error": exc.message})
            prepare(settings, {})
        super().run()

    def setup_logging(self, colorize: bool | None = None) -> None:
        state = state_of(self.app)
        set_up_logging(state.settings, self.loglevel, state.beat_id or state.worker_id)

    def install_sync_handler(self, service: Any) -> None:
        """The lock is given back by the code that holds the client, not inside a signal handler."""
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, self._end)
        self.health.scheduler = service.scheduler

    def _end(self, number: int, frame: FrameType | None) -> None:
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, signal.SIG_IGN)  # what they ask for is under way
        self.health.stopping = True
        raise SystemExit(0)


def _metrics(settings: Settings) -> dict[str, Route]:
    """What the process uses, if it is asked at all."""
    if settings.health_address is None:
        return {}
    from orchestrator.observe.metrics.instruments import Instruments  # who is not asked does not pay for its imports
    from orchestrator.observe.metrics.process import ProcessUse

    made = Instruments([Source.BEAT])
    ProcessUse(made)
    return {"/metrics": lambda headers: Answer(200, *made.render(headers["Accept"]))}


def reconcile(scheduler: Any, settings: Settings) -> None:
    """Keep this scheduler's entries like the ledger's schedules, from a thread of its own."""
    if not isinstance(scheduler, LedgerScheduler):  # chosen with `--scheduler`
        return
    limit_s = turn_limit_s(settings)
    loop = Supervised("reconcile", scheduler.reconciler.work, owner="beat", limit_s=limit_s)
    scheduler.reconciler.nudge = loop.nudge
    loop.start()
