"""Checks of PostgreSQL."""

from datetime import UTC, datetime
from typing import Final

from orchestrator.core.reach import Pooler
from orchestrator.doctor.findings import Finding, failed, passed, warned
from orchestrator.doctor.ground import Ground
from orchestrator.ledger import migrate, session
from orchestrator.settings import variable

_SKEW_WARN_S: Final = 1.0
_SKEW_FAIL_S: Final = 5.0


def database(ground: Ground) -> list[Finding]:
    """It answers."""
    if ground.database is None:
        return [failed("database", ground.database_problem, ground.database_fix)]
    found = f"PostgreSQL at {ground.database.info.host}:{ground.database.info.port} answers"
    if ground.reach.pooler is Pooler.NONE:
        return [passed("database", found)]
    if session.is_pooled(ground.database):
        return [passed("database", f"{found}, through a pooler in {ground.reach.pooler} mode")]
    name = variable("database_pooler")
    return [
        warned("database", f"{found} itself, and {name} names a pooler", f"name the pooler's URL, or unset {name}.")
    ]


def version(ground: Ground) -> list[Finding]:
    """It is new enough."""
    if ground.database is None:
        return []
    number = ground.database.info.server_version
    found = f"PostgreSQL {number // 10_000}.{number % 10_000}"
    if number // 10_000 < migrate.OLDEST_SERVER:
        return [failed("database version", found, f"upgrade to PostgreSQL {migrate.OLDEST_SERVER} or newer.")]
    return [passed("database version", found)]


def migrations(ground: Ground) -> list[Finding]:
    """The schema is that of this release."""
    if ground.database is None:
        return []
    found, needed = migrate.current(*ground.settings.direct()), migrate.head()
    ground.is_migrated = migrate.suffices(found)
    if ground.is_migrated:
        return [passed("migrations", f"the schema is at {found}")]
    return [
        failed(
            "migrations",
            f"the schema is at {found or 'nothing'}, this release needs {needed}",
            "run `orchestrator db upgrade`, or the output of `orchestrator db sql`.",
        )
    ]


def clock(ground: Ground) -> list[Finding]:
    """This host and the database agree on the time: leases use the database's, logs and timeouts the host's."""
    if ground.database is None:
        return []
    before = datetime.now(UTC)
    row = ground.database.execute("SELECT clock_timestamp()").fetchone()
    middle = before + (datetime.now(UTC) - before) / 2
    assert row is not None
    skew_s = abs((row[0] - middle).total_seconds())
    said = f"this host and the database differ by {skew_s:.3f} s"
    fix = "let NTP set the clock of both hosts."
    if skew_s > _SKEW_FAIL_S:
        return [failed("clock", said, fix)]
    return [warned("clock", said, fix) if skew_s > _SKEW_WARN_S else passed("clock", said)]


def embedded(ground: Ground) -> list[Finding]:
    """No embedded server outside `dev`."""
    if ground.database is None:
        return []
    row = ground.database.execute("SHOW cluster_name").fetchone()
    if row is None or not str(row[0]).startswith("flow-orchestrator "):
        return [passed("servers", "the database is a server of its own")]
    if ground.is_dev:
        return [passed("servers", "embedded, of the `orchestrator dev` that runs in this project")]
    return [
        warned(
            "servers",
            "the database is an embedded one, with nobody to back it up or to take over",
            "use PostgreSQL and Redis servers of their own in production.",
        )
    ]


CHECKS = (database, version, migrations, clock, embedded)
