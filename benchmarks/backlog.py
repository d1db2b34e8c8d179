"""A deep backlog before a slow worker: how many messages are sent twice?"""

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import redis
from pydantic import SecretStr
from sqlalchemy import text

from benchmarks import flows
from benchmarks.command import in_database
from benchmarks.contenders import worker
from benchmarks.figures import number
from benchmarks.report import Result
from benchmarks.workloads import Say, Sizes
from orchestrator import Client, Settings
from orchestrator.ledger import migrate, reads

_DATABASE = "backlog"
_SLOW_STEP_S = 0.02
_PAGE = 5_000


def backlog(database_url: str, broker_url: str, folder: Path, sizes: Sizes, say: Say) -> Result:
    """In a database and under a key prefix of its own, because it leaves most of its steps undone."""
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {_DATABASE}")
    url = in_database(database_url, _DATABASE)
    settings = Settings(
        database_url=SecretStr(url),
        broker_url=SecretStr(broker_url),
        key_prefix="backlog:",
        redispatch_after=timedelta(seconds=sizes.redispatch_after_s),
        sweep_interval=timedelta(seconds=sizes.sweep_s),
    )
    migrate.upgrade(settings.require_database_url())
    process = worker(
        settings,
        folder,
        "backlog",
        queue="backlog",
        BENCH_SLOW_STEP_S=str(_SLOW_STEP_S),
        ORCHESTRATOR_KEY_PREFIX=settings.key_prefix,
        ORCHESTRATOR_REDISPATCH_AFTER=f"{sizes.redispatch_after_s}s",
        ORCHESTRATOR_SWEEP_INTERVAL=f"{sizes.sweep_s}s",
    )
    try:
        with Client(settings) as client:
            process.wait_ready(lambda: bool(reads.workers.every(client.ledger)))
            took_s = _start(client, sizes.backlog, say)
            _watch(client, sizes.backlog_s, say)
            process.pause()
            return _result(client, sizes, took_s)
    finally:
        process.kill()


def _start(client: Client, count: int, say: Say) -> float:
    began = time.perf_counter()
    for first in range(0, count, _PAGE):
        client.start_many(flows.backlog, [{"value": value} for value in range(first, min(first + _PAGE, count))])
        say(f"backlog: {min(first + _PAGE, count):,} of {count:,} runs started")
    return time.perf_counter() - began


def _watch(client: Client, seconds: float, say: Say) -> None:
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        time.sleep(min(10.0, left))
        facts = _facts(client)
        say(f"backlog: {facts['ready']:,} ready, {facts['again']:,} sent again, {facts['suppressed']:,} suppressed")


def _facts(client: Client) -> dict[str, int]:
    with client.ledger.auto() as tx:
        row = tx.execute(
            text(
                "SELECT count(*) AS dispatches, coalesce(sum(greatest(publish_count - 1, 0)), 0)::int AS again, "
                "coalesce(sum(suppressed), 0)::int AS suppressed, "
                "(SELECT count(*) FROM flow_steps WHERE status = 'ready') AS ready FROM flow_step_dispatches"
            )
        ).one()
    return dict(row._mapping)


def _result(client: Client, sizes: Sizes, took_s: float) -> Result:
    time.sleep(1)  # what the client confirms lazily
    facts, waiting = _facts(client), _waiting(client.settings)
    done = facts["dispatches"] - facts["ready"]
    extra = max(0, waiting - facts["ready"]) + facts["suppressed"]
    share = max(extra, facts["again"]) / max(1, facts["dispatches"])
    speed, pace = facts["dispatches"] / took_s, sizes.backlog_s * 1000 / max(1, done)
    notes = [
        f"{facts['dispatches']:,} steps were made ready in {number(took_s)} s, {speed:,.0f} a second, by `start_many` "
        f"beside a busy worker, which did {done:,} in all, one every {number(pace)} ms.",
        f"Messages sent again by the ledger's count: {facts['again']:,}. In Valkey: {waiting:,} messages for "
        f"{facts['ready']:,} ready steps, and {facts['suppressed']:,} duplicates met by the worker.",
        f"**Share of messages published twice: {share:.3%}** (target: under 1 %).",
    ]
    return Result(f"Backlog of {sizes.backlog:,} ready steps and a slow worker", notes=notes)


def _waiting(settings: Settings) -> int:
    with redis.Redis.from_url(settings.require_broker_url()) as client:
        connection: Any = client
        return sum(int(connection.llen(f"{settings.key_prefix}backlog{step}")) for step in _STEPS)


_STEPS = ("", *(f"\x06\x16{step}" for step in (3, 6, 9)))
