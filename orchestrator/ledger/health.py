"""What health is judged by, as the ledger has it."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from orchestrator.ledger import migrate
from orchestrator.ledger.rows import run
from orchestrator.ledger.tx import Ledger


@dataclass(frozen=True, slots=True)
class Facts:
    """Counts, and the id of the payload store, if there is one."""

    workers: int
    """Live ones."""
    deaf: int
    """Those of them that take no messages."""
    keepers: int
    """Live ones that run no steps."""
    schedules: int
    """Those that fire."""
    late: int
    store: UUID | None
    server: str
    """The version of PostgreSQL."""
    schema: str
    """The revision."""


def suffices(ledger: Ledger) -> bool:
    """The ledger answers; whether its schema is one that this release works with."""
    with ledger.auto() as tx:
        return migrate.suffices(migrate.revision(tx))


def facts(ledger: Ledger, worker_ttl: timedelta, late: timedelta) -> Facts | None:
    """None: the schema is not of this release."""
    with ledger.auto() as tx:
        revision = migrate.revision(tx)
        if revision is None or not migrate.suffices(revision):
            return None
        return Facts(**run(tx, "health", ttl=worker_ttl, late=late).one()._mapping, schema=revision)
