"""What must be true before a worker takes its first message."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sqlalchemy.exc import DBAPIError

from orchestrator.authoring import discovery
from orchestrator.authoring.alone import alone
from orchestrator.core.release import release
from orchestrator.engine import payloads
from orchestrator.engine.flows import register
from orchestrator.errors import Unavailable
from orchestrator.ledger import definitions, migrate
from orchestrator.ledger.tx import Ledger, is_disconnect
from orchestrator.observe import logs
from orchestrator.observe.logs import log
from orchestrator.servers import broker
from orchestrator.servers.diagnosis import unavailable
from orchestrator.settings import Settings
from orchestrator.workers.run.outage import GaveUp, Outage
from orchestrator.workers.state import AnyFlow, AnyStep

_WAIT_S: Final = 60.0
_REPEAT_S: Final = 5.0


def set_up_logging(settings: Settings, level: int | str | None = None, worker: str = "") -> None:
    """As the settings say; of a worker or a beat, with its name."""
    logs.setup(level or settings.log_level, settings.log_format, burst=settings.log_burst, worker=worker)


def load(settings: Settings) -> discovery.Loaded:
    """The flows and steps that ORCHESTRATOR_FLOWS and the entry points name."""
    return discovery.load(settings.flows)


def prepare(
    settings: Settings,
    flows: Mapping[str, AnyFlow],
    worker_id: str = "unknown",
    steps: Mapping[str, AnyStep] = MappingProxyType({}),
) -> None:
    """Migrate (or check) the schema and register the flows; of `steps`, by the name of their flow, those that somebody
    has started alone before. Waits up to a minute for the database.

    Raises:
        Unavailable: the database stayed away, is too old or behind; or it, or the broker, refuses us.
        SettingsInvalid: a file of the broker's TLS options cannot be read.
        PayloadUnavailable: the payload store cannot be reached, or is not the one of this ledger.
    """
    _check_broker(settings)
    outage = Outage(_WAIT_S, repeat_s=_REPEAT_S)
    while True:
        try:
            _prepare(settings, flows, worker_id, steps)
            return
        except DBAPIError as exc:
            away = unavailable(exc, settings.require_database_url())
            if away is None or not is_disconnect(exc):
                raise
            if away.refused:
                raise away from exc
            try:
                outage.wait(exc, "start")
            except GaveUp:
                raise away from exc


def _check_broker(settings: Settings) -> None:
    """A broker that is away is waited for, by the consumer; one that refuses us would be waited for in vain."""
    try:
        broker.connect(settings).release()
    except Unavailable as exc:
        if exc.refused:
            raise


def _register(ledger: Ledger, flow: AnyFlow, by: str, *, deploy: bool) -> None:
    done = (register.deploy if deploy else register.register)(ledger, flow.manifest, by)
    if not done.current:
        log.warning(
            "flow.not_current",
            extra={
                "flow": flow.name,
                "hash": flow.manifest.hash[:12],
                "ordinal": done.ordinal,
                "current": done.current_ordinal,
                "what": f"it was superseded; to go back to it: orchestrator flow deploy {flow.name}",
            },
        )


def _prepare(settings: Settings, flows: Mapping[str, AnyFlow], worker_id: str, steps: Mapping[str, AnyStep]) -> None:
    if settings.migrate:
        migrate.upgrade(*settings.direct())
    else:
        migrate.check(*settings.direct())
    ledger = Ledger.connect(
        settings.require_database_url(),
        reach=settings.reach(),
        pool_size=1,
        statement_timeout=settings.statement_timeout,
        name="orchestrator start",
    )
    ledger.payloads = settings.payloads()
    try:
        ledger.prove()
        payloads.begin(ledger)
        for flow in [*flows.values(), *_started_before(ledger, steps)]:
            _register(ledger, flow, f"worker {worker_id} (release {release()})", deploy=settings.deploy_at_start)
    finally:
        ledger.close()


def _started_before(ledger: Ledger, steps: Mapping[str, AnyStep]) -> list[AnyFlow]:
    with ledger.auto() as tx:
        known = definitions.names(tx) if steps else ()
    return [alone(steps[name]) for name in known if name in steps]
