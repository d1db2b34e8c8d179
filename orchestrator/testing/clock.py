"""The clock of a world: a row of its database, which `flow_now()` reads there."""

from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg

from orchestrator.ledger.tx import Ledger

BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""When a world begins."""
_TICK: Final = timedelta(microseconds=1)
_INSTALL: Final = """
CREATE TABLE sim_clock (at timestamptz NOT NULL);
INSERT INTO sim_clock VALUES ('-infinity');
CREATE OR REPLACE FUNCTION flow_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE
  AS 'SELECT at FROM sim_clock';
"""
_NEXT: Final = """
SELECT min(at) FROM (
  SELECT due_at FROM flow_steps WHERE due_at IS NOT NULL AND status = 'waiting'
  UNION ALL SELECT wake_at FROM flow_steps WHERE wake_at IS NOT NULL AND status = 'waiting'
  UNION ALL SELECT start_at FROM flow_run_controls WHERE NOT closed AND start_at IS NOT NULL
  UNION ALL SELECT queue_deadline FROM flow_steps WHERE queue_deadline IS NOT NULL AND status = 'ready'
  UNION ALL SELECT expires_at FROM flow_step_claims WHERE expires_at IS NOT NULL
  UNION ALL SELECT stop_at FROM flow_step_claims WHERE expires_at IS NOT NULL AND stop_at >= flow_now()
  UNION ALL SELECT grace_ends_at FROM flow_run_controls WHERE NOT closed AND grace_ends_at IS NOT NULL
  UNION ALL SELECT deadline FROM flow_run_controls
             WHERE NOT closed AND deadline IS NOT NULL AND timed_out_at IS NULL AND cancel_requested_at IS NULL
) AS timers(at)
"""


def install(connection: psycopg.Connection) -> None:
    """In a migrated database: its time stands still from now on."""
    connection.execute(_INSTALL)


def reset(connection: psycopg.Connection) -> None:
    """Back to the begin."""
    connection.execute("UPDATE sim_clock SET at = %s", [BEGIN])


class Clock:
    """It moves only when told."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.now = BEGIN

    def move(self, at: datetime) -> None:
        """It is `at`; an earlier time changes nothing."""
        if at > self.now:
            with self._ledger.auto() as tx:
                tx.exec_driver_sql("UPDATE sim_clock SET at = %s", (at,))
            self.now = at

    def pass_by(self, timer: datetime) -> None:
        """It is so late that the timer has run out."""
        self.move(max(timer, self.now) + _TICK)

    def next_timer(self) -> datetime | None:
        """The first of all: back-offs, waits, deadlines, queue timeouts, leases, step timeouts, graces."""
        with self._ledger.auto() as tx:
            found: datetime | None = tx.exec_driver_sql(_NEXT).scalar()
        return found
