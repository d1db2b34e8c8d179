"""A worker, a client and `doctor` behind PgBouncer."""

from pathlib import Path

import psycopg
import pytest

from orchestrator.client import Client
from orchestrator.core.states import RunStatus
from orchestrator.doctor import Finding, Status, examine
from orchestrator.errors import PoolerUnfit
from orchestrator.settings import Settings
from tests.support.bouncer import bouncer, through
from tests.workers import flows
from tests.workers.conftest import Bench
from tests.workers.test_outages import Start


def database_finding(settings: Settings) -> Finding:
    return next(found for found in examine(settings) if found.check == "database")


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_runs_end_behind_a_pooler_in_session_mode(
    bench: Bench, worker: Start, db_url: str, tmp_path: Path, pool: str
) -> None:
    with psycopg.connect(db_url) as connection:
        connection.execute("CREATE TABLE test_payments (key text PRIMARY KEY, amount int)")
    with bouncer(db_url, tmp_path, "session") as url:
        settings = through(bench.settings, url)
        process = worker(settings=settings, pool=pool, concurrency=2)
        with Client(settings) as client:
            handles = [client.start(flows.chain, n=n) for n in range(20)]
            handles += [client.start(flows.payment, amount=n, fail_first=False) for n in range(5)]
            assert {handle.wait(timeout=60) for handle in handles} == {RunStatus.SUCCEEDED}
        assert database_finding(settings).status is Status.PASS
        process.term()
        assert process.wait() == 0


def test_a_pooler_in_transaction_mode_ends_a_worker_at_once_with_the_fix(
    bench: Bench, worker: Start, db_url: str, tmp_path: Path
) -> None:
    with bouncer(db_url, tmp_path, "transaction", options="ignore_startup_parameters = options\n") as url:
        settings = through(bench.settings, url)
        process = worker(settings=settings, ready=False, pool="threads", concurrency=1)
        assert process.wait(timeout=60) == 1
        assert "pool_mode = session" in process.log()
        assert "database.away" not in process.log()
        with Client(settings) as client, pytest.raises(PoolerUnfit) as caught:
            client.runs()
        finding = database_finding(settings)
        assert finding.status is Status.FAIL
        assert f"{finding.finding} Fix: {finding.fix}" == caught.value.message
