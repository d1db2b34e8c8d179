"""A worker removes what is too old."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from orchestrator.core.facts import StartRequest
from orchestrator.engine.runs import start_run
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess
from tests.workers.conftest import Bench

A_MONTH_LATER = (
    "CREATE OR REPLACE FUNCTION flow_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE"
    " AS $$SELECT clock_timestamp() + interval '31 days'$$"
)


@pytest.mark.parametrize("on", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["on", "off"])
def test_a_worker_removes_expired_keys_and_old_runs(
    bench: Bench, worker: Callable[..., WorkerProcess], on: bool
) -> None:
    """When it starts, and every hour. Runs only when a retention is set; the young ones stay all the same."""
    (old,) = start_run.start(bench.ledger, [StartRequest("chain", '{"n": 1}', key="k")])
    young = bench.start("chain", publish=False, n=2)
    first = worker()
    for run_id in (old.run_id, young):
        bench.ended(run_id)
    first.term()
    assert first.wait() == 0
    with bench.ledger.auto() as tx:
        tx.exec_driver_sql(A_MONTH_LATER)
        tx.exec_driver_sql(
            "UPDATE flow_runs SET ended_at = ended_at + interval '30 days' WHERE id = %(young)s", {"young": young}
        )
    settings = bench.settings.model_copy(update={"retention": timedelta(days=30)} if on else {})
    second = worker(settings=settings)
    eventually(lambda: f"ledger.tidied keys=1 runs={int(on)}" in second.log())
    with bench.ledger.auto() as tx:
        left = {row.id for row in tx.exec_driver_sql("SELECT id FROM flow_runs")}
        assert left == ({young} if on else {young, old.run_id})
        assert tx.exec_driver_sql("SELECT count(*) FROM flow_idempotency_keys").scalar_one() == 0
