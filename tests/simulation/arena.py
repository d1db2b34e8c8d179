"""What histories share: a database with a clock of its own, its recorder, seats for actors."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, Final

import psycopg
import pytest
from pydantic import SecretStr

from orchestrator.engine import faults
from orchestrator.engine.steps import release
from orchestrator.engine.sweeps import walk
from orchestrator.ledger.schema import metadata
from orchestrator.ledger.tx import is_disconnect
from orchestrator.observe.logs import log
from orchestrator.settings import Settings
from orchestrator.workers import run as workers_run
from orchestrator.workers.run import outage
from tests.proof import recorder
from tests.proof.history import SECOND
from tests.simulation.stage import Died, Stage, StagedLedger
from tests.soak import strangers
from tests.support import databases
from tests.support.factories import RECORDER, Lab
from tests.support.servers import Server

EPOCH_NS: Final = 1_893_456_000 * SECOND
"""2030-01-01, where every history begins."""
PATIENCE: Final = timedelta(minutes=10)
"""Of a statement, by the real clock: how loaded the machine is must not show in a history."""
CLOCK: Final = """
CREATE SEQUENCE sim_clock;
CREATE OR REPLACE FUNCTION flow_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS
  $$SELECT timestamptz '2030-01-01 00:00+00' + nextval('sim_clock') * interval '1 microsecond'$$;
"""
"""A microsecond passes with each look at it, and nothing else makes time pass: the same steps give the same times."""


_TABLES: Final = ", ".join(table.name for table in metadata.sorted_tables)


def _by_the_clock() -> list[ModuleType]:
    """Every module of an attempt that asks for the time; one that was left out would wait for hours by a real clock."""
    names = [f"{workers_run.__name__}.{found.name}" for found in iter_modules(workers_run.__path__)]
    return [module for module in map(import_module, names) if hasattr(module, "monotonic")]


class Auditor(Lab):
    """It passes by the runs that nobody here can read."""

    def _audit_run(self, run: dict[str, Any]) -> None:
        if run["flow"] != strangers.FLOW:
            super()._audit_run(run)


class Arena:
    """One database and one stage for any number of histories, one after the other."""

    def __init__(self, url: str) -> None:
        self.url = url
        recorder.install(url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(RECORDER)
            connection.execute(CLOCK)
            for table in metadata.sorted_tables:
                connection.execute(f"ALTER TABLE {table.name} SET (autovacuum_enabled = false)")
            connection.execute("ALTER TABLE proof_history ALTER COLUMN at SET DEFAULT flow_now()")
        self.settings = Settings(
            database_url=SecretStr(url),
            broker_url=SecretStr("redis://none"),
            lease=timedelta(seconds=30),
            heartbeat=timedelta(seconds=10),
            cancel_grace=timedelta(seconds=15),
            redispatch_after=timedelta(seconds=5),
            worker_ttl=timedelta(minutes=1),
            crash_limit=2,
        )
        self.stage = Stage()
        self.ledger = self._ledger()
        self.older = self._ledger()
        """Of processes of an older release: they do not know what the newer one knows."""
        self.lab = Auditor(url, self.ledger)
        self.monotonic_s = 0.0
        """The clock of the workers' machine; a jump of the database's clock leaves it alone."""
        self.swallowed: list[str] = []
        """Errors of the engine that it logged and went on from."""
        self._patch = pytest.MonkeyPatch()
        for module in (*_by_the_clock(), walk):
            self._patch.setattr(module, "monotonic", lambda: self.monotonic_s)
        self._patch.setattr(outage, "sleep", lambda _: self.stage.boundary("sleep"))
        self._patch.setattr(log, "disabled", True)
        self._patch.setattr(release.log, "exception", self._swallow)
        self._patch.setattr(walk.log, "error", self._swallow)
        self._patch.setattr(walk.log, "warning", lambda *_, **__: None)  # of manifests that it cannot read
        faults.arm("handler.before", self._claimed)

    def _ledger(self) -> StagedLedger:
        made = StagedLedger.connect(self.url, pool_size=90, statement_timeout=PATIENCE, name="simulation")
        assert isinstance(made, StagedLedger)
        made.stage = self.stage
        return made

    def _claimed(self) -> None:
        self.stage.boundary("claimed")

    def _swallow(self, event: str, **facts: Any) -> None:
        if not is_disconnect(facts.get("exc_info") or Died()):
            self.swallowed.append(f"{event} {facts}")

    def reset(self) -> None:
        """An empty ledger at the beginning of time. Truncated and never vacuumed: rows without an order come in
        the same one each time."""
        self.lab.execute(f"TRUNCATE {_TABLES}, test_moves, proof_history, proof_effects")
        for ledger in (self.ledger, self.older):
            ledger.forget()
        self.lab.execute("SELECT setval('sim_clock', 1)")
        self.monotonic_s = 0.0
        self.swallowed.clear()

    def now_ns(self) -> int:
        """The ledger's clock. Nobody looks at it twice in the same microsecond."""
        (row,) = self.lab.rows("SELECT nextval('sim_clock') AS now")
        return EPOCH_NS + int(row["now"]) * 1000

    def forward(self, seconds: float) -> None:
        """Of the ledger's clock."""
        self.lab.rows("SELECT setval('sim_clock', nextval('sim_clock') + %s)", int(seconds * 1_000_000))

    def close(self) -> None:
        faults.disarm()
        self._patch.undo()
        self.stage.close()
        self.older.close()
        self.lab.close()


@contextmanager
def arena(server: Server, template: str) -> Iterator[Arena]:
    """In a new database, a copy of the migrated `template`."""
    with databases.created(server, template=template) as name:
        made = Arena(server.url_of(name))
        try:
            yield made
        finally:
            made.close()
