"""What holds on every pool, with real servers and a real worker."""

import os
from collections.abc import Callable

import psutil
import pytest
from sqlalchemy import text

from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import cancel_run
from orchestrator.ledger import reads
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess
from tests.workers.conftest import Bench

Start = Callable[..., WorkerProcess]
pools = pytest.mark.parametrize("pool", ["prefork", "threads"])


@pools
def test_a_chain_runs_in_one_worker_without_a_trip_through_redis(bench: Bench, worker: Start, pool: str) -> None:
    """Each finish claims the only successor, so one message carries the whole chain."""
    worker(pool=pool)
    run_id = bench.start("chain", n=1)
    assert bench.result(run_id) == 20
    keys = [line[2] for line in bench.effects("start", run_id)]
    assert len(keys) == 5 == len(set(keys))
    assert len(reads.steps.attempts(bench.ledger, run_id, keys[0])) == 1
    assert bench.effects("start", run_id)[0][4] == bench.effects("start", run_id)[-1][4]


@pools
def test_a_failing_step_backs_off_and_is_tried_again(bench: Bench, worker: Start, pool: str) -> None:
    worker(pool=pool)
    run_id = bench.start("flaky", fail_times=2)
    assert bench.result(run_id) == 3
    attempts = bench.attempts(run_id, "flaky")
    assert [one.status for one in attempts] == ["failed", "failed", "succeeded"]
    assert attempts[0].error_type == "ConnectionError"
    assert "attempt.py" not in str(attempts[0].error_traceback)
    assert "not yet" in str(attempts[0].error_traceback)


def test_an_error_of_never_retry_fails_the_run_at_once(bench: Bench, worker: Start) -> None:
    worker(pool="threads")
    run_id = bench.start("stubborn")
    assert bench.ended(run_id) is RunStatus.FAILED
    assert len(bench.effects("start", run_id)) == 1


def test_async_steps_overlap_under_threads(bench: Bench, worker: Start) -> None:
    """Ten steps on ten threads and one loop, each of which waits for the other nine."""
    worker(pool="threads", concurrency=10)
    run_id = bench.start("meeting", guests=list(range(10)), count=10)
    assert bench.result(run_id) == list(range(10))


def test_a_hung_sync_step_is_ended_and_its_slot_is_free_again(bench: Bench, worker: Start) -> None:
    """Only killing the pool child ends it; the next run uses the new child."""
    process = worker(pool="prefork", concurrency=1)
    run_id = bench.start("hang", seconds=600)
    assert bench.ended(run_id) is RunStatus.FAILED
    assert [one.status for one in bench.attempts(run_id, "hang")] == ["timed_out"]
    eventually(lambda: "child.killed" in process.log(), message="the ledger's end comes first")
    assert bench.result(bench.start("chain", n=1)) == 20
    assert bench.effects("end") == []


@pools
def test_a_hung_async_step_is_cancelled_in_its_process(bench: Bench, worker: Start, pool: str) -> None:
    process = worker(pool=pool, concurrency=1)
    run_id = bench.start("hang_async", seconds=60)
    assert bench.ended(run_id) is RunStatus.FAILED
    assert [one.status for one in bench.attempts(run_id, "hang_async")] == ["timed_out"]
    assert bench.result(bench.start("chain", n=1)) == 20
    if "child.killed" not in process.log():
        assert bench.effects("cancelled", run_id)


def test_a_thread_that_overruns_is_reported_as_abandoned(bench: Bench, worker: Start) -> None:
    """Threads cannot be ended: the claim is, and the log says so."""
    process = worker(pool="threads", concurrency=2)
    run_id = bench.start("hang", seconds=3)
    assert bench.ended(run_id) is RunStatus.FAILED
    eventually(lambda: "step.abandoned" in process.log())
    eventually(lambda: "step.stale" in process.log(), message="its late result is refused")
    assert bench.status(run_id) is RunStatus.FAILED


@pools
def test_a_running_step_learns_of_a_cancel(bench: Bench, worker: Start, pool: str) -> None:
    worker(pool=pool)
    run_id = bench.start("patient")
    eventually(lambda: bench.effects("start", run_id))
    eventually(lambda: reads.steps.page(bench.ledger, run_id)[0].progress, message="progress arrives")
    cancel_run.cancel(bench.ledger, run_id, by="test", reason="enough", grace=bench.settings.cancel_grace)
    eventually(lambda: bench.effects("cancelled", run_id))
    assert bench.ended(run_id) is RunStatus.CANCELLED


@pools
def test_a_transactional_step_writes_with_its_completion_or_not_at_all(bench: Bench, worker: Start, pool: str) -> None:
    with bench.ledger.tx() as tx:
        tx.execute(text("CREATE TABLE test_payments (key text, amount int)"))
    worker(pool=pool)
    run_id = bench.start("payment", amount=21, fail_first=True)
    assert bench.result(run_id) == 42
    with bench.ledger.tx() as tx:
        rows = tx.execute(text("SELECT key, amount FROM test_payments")).all()
    assert rows == [(f"{run_id}:pay", 21)]
    assert [one.status for one in bench.attempts(run_id, "pay")] == ["failed", "succeeded"]


def test_several_processes_work_under_one_parent_that_restarts_them(bench: Bench, worker: Start) -> None:
    process = worker(pool="threads", processes=2, concurrency=2)
    first = process.children()
    assert len(first) == 2
    os.kill(first[0], 9)
    eventually(lambda: len(process.children()) == 2 and set(process.children()) != set(first))
    assert bench.result(bench.start("chain", n=1)) == 20
    process.term()
    assert process.wait() == 0


def test_workers_die_with_their_killed_parent(bench: Bench, worker: Start) -> None:
    process = worker(pool="prefork", processes=2, concurrency=1)
    below = process.children()
    assert len(below) == 4
    process.kill_main()
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in below))


@pools
def test_a_worker_says_what_it_is_when_it_starts(bench: Bench, worker: Start, pool: str) -> None:
    log = worker(pool=pool, concurrency=2).log()
    (line,) = [line for line in log.splitlines() if "worker.starts" in line]
    assert f"pool={pool} concurrency=2" in line
    assert "chain" in line
    assert "Traceback" not in log


def test_a_worker_without_flows_says_that_it_has_none(bench: Bench, worker: Start) -> None:
    log = worker(flows="", pool="threads").log()
    assert "worker.without_flows" in log
    assert "Traceback" not in log
