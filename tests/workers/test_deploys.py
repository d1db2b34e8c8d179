"""Workers that are told to stop and killed before their step ends, as Kubernetes, systemd and docker do it."""

import os
import signal
from collections.abc import Callable

import pytest

from orchestrator.core.states import RunStatus
from tests.support.cases import thinned
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess
from tests.workers.conftest import Bench


def told(bench: Bench) -> int:
    """How many workers the ledger knows to stop."""
    with bench.ledger.auto() as tx:
        query = "SELECT count(*) FROM flow_workers WHERE stopping_at IS NOT NULL"
        return int(tx.exec_driver_sql(query).scalar_one())


@pytest.mark.parametrize("pool", thinned(["prefork", "threads"], "prefork"))
def test_deploys_during_one_long_step(bench: Bench, worker: Callable[..., WorkerProcess], pool: str) -> None:
    """Each was charged as a crash: the fourth failed the run as WorkerLost. Here not a single crash is allowed."""
    strict = bench.settings.model_copy(update={"crash_limit": 0})
    gate = bench.folder / "gate"
    run_id = bench.start("gated", gate=str(gate))
    for deploy in (1, 2):
        made = worker(pool=pool, concurrency=1, settings=strict)
        eventually(lambda n=deploy: len(bench.effects("start")) == n, message="the step starts")
        made.term()
        eventually(lambda n=deploy: told(bench) == n, message="the ledger knows that it stops")
        assert made.alive, "it waits for the step"
        made.kill()
    gate.touch()
    worker(pool="threads", concurrency=1, settings=strict)
    assert bench.ended(run_id) is RunStatus.SUCCEEDED
    assert [one.status for one in bench.attempts(run_id, "gated")] == ["released", "released", "succeeded"]


def test_a_pool_child_killed_in_a_shutdown(bench: Bench, worker: Callable[..., WorkerProcess]) -> None:
    """Its parent is stopping, and buries it at once."""
    strict = bench.settings.model_copy(update={"crash_limit": 0})
    gate = bench.folder / "gate"
    run_id = bench.start("gated", gate=str(gate))
    made = worker(pool="prefork", concurrency=1, settings=strict)
    eventually(lambda: bench.effects("start"), message="the step starts")
    children = made.children()
    made.term()
    eventually(lambda: told(bench), message="the ledger knows that it stops")
    for child in children:
        os.kill(child, signal.SIGKILL)
    eventually(
        lambda: [one.status for one in bench.attempts(run_id, "gated")] == ["released"],
        timeout=60,
        message="the attempt is released",
    )
    gate.touch()
    worker(pool="threads", concurrency=1, settings=strict)
    assert bench.ended(run_id) is RunStatus.SUCCEEDED
