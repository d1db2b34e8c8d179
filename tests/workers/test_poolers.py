"""A worker, a client and `doctor` behind PgBouncer."""

import time
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from orchestrator.client import Client
from orchestrator.core.states import RunStatus
from orchestrator.doctor import Finding, Status, examine
from orchestrator.errors import PoolerUnfit
from orchestrator.servers.embedded.server import free_port
from orchestrator.settings import Settings
from tests.support.bouncer import bouncer, equip, through
from tests.support.eventually import eventually
from tests.workers import flows
from tests.workers.conftest import Bench
from tests.workers.test_outages import Start


def database_finding(settings: Settings) -> Finding:
    return next(found for found in examine(settings) if found.check == "database")


@pytest.mark.parametrize(
    ("mode", "pool"), [("session", "prefork"), ("transaction", "prefork"), ("transaction", "threads")]
)
def test_runs_end_behind_a_pooler(
    bench: Bench, worker: Start, db_url: str, tmp_path: Path, mode: str, pool: str
) -> None:
    with psycopg.connect(db_url) as connection:
        connection.execute("CREATE TABLE test_payments (key text PRIMARY KEY, amount int)")
    if mode == "transaction":
        equip(db_url)
    with bouncer(db_url, tmp_path, mode, size=50 if mode == "session" else 6) as url:
        settings = through(bench.settings, url, mode)
        process = worker(settings=settings, pool=pool, concurrency=2)
        with Client(settings) as client:
            handles = [client.start(flows.chain, n=n) for n in range(20)]
            handles += [client.start(flows.payment, amount=n, fail_first=False) for n in range(5)]
            assert {handle.wait(timeout=60) for handle in handles} == {RunStatus.SUCCEEDED}
        finding = database_finding(settings)
        assert finding.status is Status.PASS
        assert f"through a pooler in {mode} mode" in finding.finding
        process.term()
        assert process.wait() == 0


def test_a_pooler_that_was_declared_and_is_not_there_is_a_warning(settings: Settings) -> None:
    finding = database_finding(settings.model_copy(update={"database_pooler": "session"}))
    assert finding.status is Status.WARN
    assert "names a pooler" in finding.finding


def test_a_pooler_that_was_not_declared_ends_a_worker_at_once_with_the_fix(
    bench: Bench, worker: Start, db_url: str, tmp_path: Path
) -> None:
    with bouncer(db_url, tmp_path, "transaction") as url:
        settings = through(bench.settings, url, "none")
        process = worker(settings=settings, ready=False, pool="threads", concurrency=1)
        assert process.wait(timeout=60) == 1
        assert "set ORCHESTRATOR_DATABASE_POOLER=transaction" in process.log()
        assert "database.away" not in process.log()
        with Client(settings) as client, pytest.raises(PoolerUnfit) as caught:
            client.runs()
        finding = database_finding(settings)
        assert finding.status is Status.FAIL
        assert f"{finding.finding} Fix: {finding.fix}" == caught.value.message


def test_settings_of_the_role_that_did_not_arrive_end_a_worker_at_once_with_the_fix(
    bench: Bench, worker: Start, db_url: str, tmp_path: Path
) -> None:
    equip(db_url, timedelta(seconds=60))
    with bouncer(db_url, tmp_path, "transaction") as url:
        settings = through(bench.settings, url, "transaction")
        process = worker(settings=settings, ready=False, pool="threads", concurrency=1)
        assert process.wait(timeout=60) == 1
        assert "statement_timeout is '60000' and must be '5000'" in process.log()
        assert "orchestrator db role-sql --settings" in process.log()
        assert database_finding(settings).status is Status.FAIL


@pytest.mark.slow
def test_a_pooler_that_restarts_and_loses_sessions_costs_no_attempt(
    bench: Bench, worker: Start, db_url: str, tmp_path: Path
) -> None:
    """PgBouncer ends in the middle of runs and comes back; sessions are ended under transactions all the while."""
    equip(db_url)
    port = free_port()
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    ours = f"{ended} AND application_name LIKE 'orchestrator %'"
    with psycopg.connect(db_url, autocommit=True) as admin:
        with bouncer(db_url, tmp_path, "transaction", size=6, port=port) as url:
            settings = through(bench.settings, url, "transaction")
            process = worker(settings=settings, pool="threads", concurrency=4)
            runs = bench.start_many("slow", [{"seconds": 0.5}] * 10)
            runs += bench.start_many("chain", [{"n": n} for n in range(40)])
            for _ in range(5):
                admin.execute(ours.encode())
                time.sleep(0.2)  # so that something is under way again
        eventually(lambda: "database.away" in process.log(), message="the pooler is missed")
        with bouncer(db_url, tmp_path, "transaction", size=6, port=port):
            bench.ran_once_per_attempt(runs)
            process.term()
            assert process.wait() == 0
