"""What must be true before a worker takes its first message."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy.exc import DBAPIError

from orchestrator.authoring import discovery
from orchestrator.engine import register
from orchestrator.errors import Unavailable
from orchestrator.ledger import migrate
from orchestrator.ledger.tx import Ledger, is_disconnect
from orchestrator.settings import Settings, mask_url
from workers.patience import GaveUp, Patience
from workers.site import AnyFlow

_WAIT_S: Final = 60.0


def load_flows(settings: Settings) -> dict[str, AnyFlow]:
    """The flows that ORCHESTRATOR_FLOWS and the entry points name."""
    return dict(discovery.load_flows(settings.flows))


def prepare(settings: Settings, flows: Mapping[str, AnyFlow]) -> None:
    """Migrate (or check) the schema and register the flows. Waits up to a minute for the database.

    Raises:
        Unavailable: the database stayed away, or its schema is behind.
    """
    patience = Patience(_WAIT_S)
    while True:
        try:
            _prepare(settings, flows)
            return
        except DBAPIError as exc:
            if not is_disconnect(exc):
                raise
            try:
                patience.wait(exc, "start")
            except GaveUp:
                url = mask_url(settings.require_database_url())
                raise Unavailable(
                    f"PostgreSQL at {url} did not answer for {_WAIT_S:.0f} s. "
                    "Fix: start it, or correct ORCHESTRATOR_DATABASE_URL."
                ) from exc


def _prepare(settings: Settings, flows: Mapping[str, AnyFlow]) -> None:
    url = settings.require_database_url()
    if settings.migrate:
        migrate.upgrade(url)
    else:
        migrate.check(url)
    ledger = Ledger.connect(url, pool_size=1, name="orchestrator start")
    try:
        for flow in flows.values():
            register.register(ledger, flow.manifest)
    finally:
        ledger.close()
