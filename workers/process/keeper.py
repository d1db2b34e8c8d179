"""What `orchestrator keeper` runs."""

import signal
from typing import Final

from orchestrator.core.release import release
from orchestrator.observe import health, logs
from orchestrator.observe.metrics.metric import Source
from orchestrator.settings import Settings
from orchestrator.workers.app.celery_app import make_app
from orchestrator.workers.app.health import KeeperHealth
from orchestrator.workers.app.start import prepare, set_up_logging
from orchestrator.workers.keeper.alone import KeeperAlone
from orchestrator.workers.metering import Metering
from orchestrator.workers.state import state_of

_STOPS: Final = {signal.SIGTERM, signal.SIGINT}


def run_keeper(settings: Settings, *, loglevel: str | None = None) -> int:
    """Do the duties of the cluster until SIGTERM or SIGINT, or stand by while another process does. Returns the exit
    code.

    Raises:
        SettingsInvalid: a URL is not set.
        UsageError: `health_address` cannot be listened on.
        Unavailable: a server refuses us, or the database stayed away for a minute.
    """
    settings.require_database_url()
    settings.require_broker_url()
    app = make_app(settings, {})
    app.set_current()
    state = state_of(app)
    state.begin()
    set_up_logging(settings, loglevel, state.worker_id)
    logs.quiet_warnings()
    subject = KeeperHealth(state)
    metering = Metering([Source.KEEPER], settings.metrics_series)
    state.metering = None if settings.health_address is None else metering
    health.begin("keeper", settings.health_address, subject, {"/metrics": metering.answer})
    prepare(settings, {}, state.worker_id)
    # From here on no thread is interrupted by them: this one waits for them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    if state.metering is not None:
        state.metering.begin(lambda: state.runtime().ledger.connections)
    keeper = KeeperAlone(state)
    keeper.start()
    subject.leader = keeper.leader
    logs.log.info("keeper.starts", extra={"worker": state.worker_id, "release": release()})
    stopped = signal.sigwait(_STOPS)
    logs.log.info("keeper.stops", extra={"signal": signal.Signals(stopped).name})
    keeper.stop()
    return 0
