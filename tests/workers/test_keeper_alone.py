"""A keeper without a worker keeps the time: what is due is published when it is due, and waits for a worker."""

import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from orchestrator.core.facts import Claimant, Failure, StepError
from orchestrator.core.states import RunStatus
from orchestrator.engine.flows import register
from orchestrator.engine.steps import claim_step, fail_step
from orchestrator.ledger import health, reads
from orchestrator.servers.depths import depths
from tests.support import play
from tests.support.eventually import eventually
from tests.support.keeper_process import ForkedKeeper
from tests.support.nursery import Nursery
from tests.support.worker_process import WorkerProcess, running
from tests.workers import flows_idle
from tests.workers.conftest import Bench

FLOWS = str(Path(flows_idle.__file__))
LATE = timedelta(seconds=2)


@pytest.fixture
def keeper(bench: Bench, the_nursery: Nursery) -> Iterator[ForkedKeeper]:
    for one in (flows_idle.dozing, flows_idle.stumbling, flows_idle.ticking):
        register.register(bench.ledger, one.manifest)
    with running(ForkedKeeper(the_nursery, bench.settings, bench.folder)) as made:
        assert isinstance(made, ForkedKeeper)
        yield made


def stumble(bench: Bench, run_id: UUID) -> None:
    """The first attempt fails; the next one is due in two seconds."""
    lease = claim_step.claim(bench.ledger, run_id, "try_again", 1, Claimant("test/1/a", play.LEASE))
    assert lease is not None
    fail_step.fail(bench.ledger, lease, Failure(StepError("ConnectionError", "not yet", None), retryable=True))


def ready(bench: Bench) -> set[str]:
    """The flows that have steps ready whose message the broker took, not long after they were due."""
    query = (
        "SELECT r.flow, r.created_at, r.scheduled_for, s.ready_at FROM flow_steps s JOIN flow_runs r ON r.id = s.run_id"
        " JOIN flow_step_dispatches d USING (run_id, step_key, dispatch_no)"
        " WHERE s.queued AND d.published_at IS NOT NULL"
    )
    with bench.ledger.auto() as tx:
        rows = tx.exec_driver_sql(query).all()
    for row in rows:
        due = row.scheduled_for or row.created_at + timedelta(seconds=2)
        assert due - timedelta(seconds=0.1) <= row.ready_at <= due + LATE + bench.settings.tick_grace, row
    return {row.flow for row in rows}


def test_what_sleeps_ticks_and_is_tried_again_is_due_on_time_without_a_worker(
    bench: Bench, keeper: ForkedKeeper, worker_of: Callable[..., WorkerProcess]
) -> None:
    """And a worker that starts later takes it."""
    asleep = bench.start("dozing", n=1)
    stumbled = bench.start("stumbling", n=1)
    stumble(bench, stumbled)
    eventually(lambda: ready(bench) == {"dozing", "stumbling", "ticking"}, message="all three are due")
    with bench.ledger.auto() as tx:
        ticked = tx.exec_driver_sql("SELECT min(id::text)::uuid FROM flow_runs WHERE flow = 'ticking'").scalar_one()
    waiting = depths(bench.settings, ["default"])
    assert waiting is not None
    assert waiting["default"] >= 3
    worker_of(bench, flows=FLOWS)
    assert {bench.ended(one) for one in (asleep, stumbled, ticked)} == {RunStatus.SUCCEEDED}
    assert [one.status for one in bench.attempts(stumbled, "try_again")] == ["failed", "succeeded"]


def test_it_is_known_as_a_keeper_and_leaves_when_it_is_told_to(bench: Bench, keeper: ForkedKeeper) -> None:
    eventually(lambda: reads.workers.every(bench.ledger), message="it says hello")
    (row,) = reads.workers.every(bench.ledger)
    assert (row.is_keeper, row.live, row.concurrency, row.queues, row.handlers) == (True, True, 0, (), ())
    found = health.facts(bench.ledger, timedelta(seconds=30), timedelta(seconds=30))
    assert found is not None
    assert (found.workers, found.deaf, found.keepers) == (0, 0, 1)
    eventually(lambda: "keeper.leads" in keeper.log(), message="it leads")
    os.kill(keeper.pid, signal.SIGTERM)
    assert keeper.wait() == 0
    assert "keeper.stops signal=SIGTERM" in keeper.log()
    assert reads.workers.every(bench.ledger) == []
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    with bench.ledger.auto() as tx:
        assert (
            tx.exec_driver_sql(
                f"{locks} AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            ).scalar()
            == 0
        )


def test_it_outlives_its_servers_and_a_worker_beside_it(
    bench: Bench, keeper: ForkedKeeper, worker_of: Callable[..., WorkerProcess]
) -> None:
    """Whichever leads is killed, the other goes on."""
    worker = worker_of(bench, flows=FLOWS)
    with bench.ledger.auto() as tx:
        tx.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'orchestrator %%'"
            " AND datname = current_database() AND pid <> pg_backend_pid()"
        )
    asleep = bench.start("dozing", n=2)
    assert bench.ended(asleep) is RunStatus.SUCCEEDED
    worker.kill()
    stumbled = bench.start("stumbling", n=3)
    stumble(bench, stumbled)
    eventually(lambda: "stumbling" in ready(bench), message="it is tried again")
