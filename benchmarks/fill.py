"""Fill a ledger with finished runs: `python -m benchmarks.fill --runs N`, database URL from the environment.

The engine runs four chains of five in the ledger: a plain one, one with an idempotency key and a tag, one that is
cancelled, and one whose last step fails. Their rows are copied by SQL under ids and times spread over the days before
now, so a copy has what a real run leaves in every table. What it lacks is what updates leave behind: a ledger that was
filled has two thirds of the size of one that worked.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import psycopg
from sqlalchemy import Column, DateTime, Table

from benchmarks.flows import chain
from orchestrator.core.facts import Chain, Claimant, Failure, Lease, StartRequest, StepError, Success
from orchestrator.engine.flows import register
from orchestrator.engine.runs import cancel_run, start_run
from orchestrator.engine.steps import claim_step, fail_step, finish_step
from orchestrator.errors import OrchestratorError
from orchestrator.ledger import migrate
from orchestrator.ledger.schema import flow_runs, metadata
from orchestrator.ledger.tx import Ledger
from orchestrator.settings import Settings

PAGE: Final = 20_000
"""Runs per commit."""
_LEASE: Final = timedelta(minutes=1)
_TASKS: Final = frozenset(f"chain.{step.type}" for step in chain.manifest.steps.values())
_NEW: Final = """
CREATE TEMP TABLE new ON COMMIT DROP AS
SELECT n, model.id AS model, at - model.created_at AS shift,
       (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(noise, 1, 3) || '8'
        || substr(noise, 4, 15))::uuid AS id
  FROM (SELECT n, md5(random()::text || n) AS noise,
               flow_now() - %(days)s::float * interval '1 day' * (1 - n::float / %(runs)s::int) AS at,
               CASE WHEN n %% 100 <= 1 THEN 4 - n %% 100 WHEN n %% 100 <= 11 THEN 2 ELSE 1 END AS place
          FROM generate_series(%(first)s::int, %(last)s::int) AS n) AS spread
  JOIN flow_runs model ON model.id = (%(models)s::uuid[])[place]
"""
"""A new run per number: of a hundred one failed, one was cancelled, ten have a key. Ids are UUIDv7 of that time."""


def fill(url: str, runs: int, *, days: float = 30, say: Callable[[str], None] = print) -> None:
    """Add `runs` finished runs to the ledger, made over the last `days`; then VACUUM ANALYZE.

    The schema is brought up to date, and the flow `chain` registered. Filling twice adds twice.
    """
    migrate.upgrade(url)
    models = _models(url)
    began = time.monotonic()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        for first in range(1, runs + 1, PAGE):
            last = min(first + PAGE, runs + 1) - 1
            with connection.transaction():
                values = {"days": days, "runs": runs, "first": first, "last": last, "models": models}
                connection.execute(_NEW, values)
                for table in metadata.sorted_tables:
                    if table is flow_runs or "run_id" in table.columns:
                        connection.execute(_copy(table))
            say(f"{last:,} of {runs:,} runs after {time.monotonic() - began:.0f} s")
        connection.execute("VACUUM ANALYZE")


def _models(url: str) -> list[UUID]:
    """The plain run, the one with a key, the cancelled one, the failed one."""
    ledger = Ledger.connect(url, name="fill")
    try:
        register.register(ledger, chain.manifest)
        body = json.dumps({"value": 1})
        requests = [
            StartRequest("chain", body),
            StartRequest("chain", body, key=f"model-{time.time_ns()}", tags=("filled",)),
            StartRequest("chain", body),
            StartRequest("chain", body),
        ]
        plain, keyed, cancelled, failed = (started.run_id for started in start_run.start(ledger, requests))
        for run_id in (plain, keyed, failed):
            _work(ledger, run_id, fails=run_id == failed)
        cancel_run.cancel(ledger, cancelled, by="fill", reason="the model of a cancelled run", grace=_LEASE)
        return [plain, keyed, cancelled, failed]
    finally:
        ledger.close()


def _work(ledger: Ledger, run_id: UUID, *, fails: bool) -> None:
    """Every step of a chain, as a worker does it."""
    (key,) = [key for key, step in chain.manifest.steps.items() if not step.run_after]
    lease: Lease | None = claim_step.claim(ledger, run_id, key, 1, Claimant("filler/1/00000000/2", _LEASE))
    while lease is not None:
        inputs = claim_step.inputs(ledger, lease)
        if fails and not ledger.plan(lease.manifest_hash).node(lease.step_key).edges:
            error = StepError("ValueError", "the model of a run that failed", "Traceback\n  ...\nValueError")
            fail_step.fail(ledger, lease, Failure(error, retryable=False, inputs=inputs))
            return
        lease = finish_step.finish(ledger, lease, Success("1", inputs, Chain(_LEASE, _TASKS))).next


def _copy(table: Table) -> str:
    """The INSERT that copies the models' rows of a table for every new run."""
    columns = [column for column in table.columns if column.identity is None]
    order = [f"m.{column.name}" for column in table.columns if column.identity is not None]
    run_id = "id" if table is flow_runs else "run_id"
    return (
        f"INSERT INTO {table.name} ({', '.join(column.name for column in columns)})"
        f" SELECT {', '.join(_value(column, run_id) for column in columns)}"
        f" FROM new JOIN {table.name} m ON m.{run_id} = new.model ORDER BY {', '.join(['new.n', *order])}"
    )


def _value(column: Column[object], run_id: str) -> str:
    if column.name == run_id:
        return "new.id"
    if isinstance(column.type, DateTime):
        return f"m.{column.name} + new.shift"
    return f"m.{column.name} || '-' || new.n" if column.name in {"key", "trigger_key"} else f"m.{column.name}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fill", description=__doc__.partition(":")[0])
    parser.add_argument("--runs", type=int, required=True, help="how many finished runs to add")
    parser.add_argument("--days", type=float, default=30, help="the time they are spread over, up to now")
    given = parser.parse_args(arguments)
    if given.runs < 1 or given.days <= 0:
        parser.error("--runs and --days must be more than zero")
    try:
        url = Settings.from_env(os.environ).require_database_url()
        fill(url.replace("+psycopg", "", 1), given.runs, days=given.days)
    except OrchestratorError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
