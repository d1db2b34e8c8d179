"""No process has more connections than its budget says."""

import psycopg
import pytest

from orchestrator.core.connections import of_worker
from tests.support.eventually import eventually
from tests.workers.conftest import Bench
from tests.workers.test_outages import Start

OPEN = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'orchestrator%'"
)


@pytest.mark.slow
@pytest.mark.parametrize(("pool", "concurrency"), [("prefork", 2), ("threads", 4)])
def test_a_worker_under_load_stays_within_its_budget(
    bench: Bench, worker: Start, db_url: str, pool: str, concurrency: int
) -> None:
    """Chains and loops, with all duties of the keeper going on; and the budget is not far from the truth."""
    with psycopg.connect(db_url, autocommit=True) as admin:
        worker(pool=pool, concurrency=concurrency)
        runs = bench.start_many("chain", [{"n": n} for n in range(40)])
        runs += bench.start_many("naps", [{"count": [1] * 20, "seconds": 0.05}] * 3)
        seen: list[int] = []

        def over() -> bool:
            row = admin.execute(OPEN).fetchone()
            assert row is not None
            seen.append(row[0])
            return all(bench.status(run_id).value == "succeeded" for run_id in runs)

        eventually(over, timeout=90, message="the runs end")
    print(f"{pool}: {max(seen)} open, the budget is {of_worker(pool, concurrency)}")
    assert of_worker(pool, concurrency) / 2 < max(seen) <= of_worker(pool, concurrency)
