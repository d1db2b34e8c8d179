"""Processes die, messages vanish, workers stop: nothing accepted is lost, and everybody is told."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import redis

from orchestrator.core.facts import Dispatch
from orchestrator.core.states import RunStatus
from orchestrator.ledger import reads
from orchestrator.workers.app import celery_app
from orchestrator.workers.shared import Shared
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess
from tests.workers.conftest import Bench

Start = Callable[..., WorkerProcess]


def list_length(bench: Bench, queue: str = "default") -> int:
    with redis.Redis.from_url(bench.settings.require_broker_url()) as client:
        return sum(
            int(client.llen(f"{bench.settings.key_prefix}{queue}{suffix}"))  # type: ignore[arg-type]
            for suffix in ("", "\x06\x163", "\x06\x166", "\x06\x169")
        )


def test_a_dead_pool_child_is_noticed_at_once(bench: Bench, worker: Start) -> None:
    """Its claim ends long before its lease does."""
    settings = bench.settings.model_copy(update={"lease": timedelta(minutes=10), "heartbeat": timedelta(seconds=2)})
    worker(pool="prefork", concurrency=1, settings=settings)
    run_id = bench.start("suicide", times=2)
    assert bench.ended(run_id) is RunStatus.SUCCEEDED
    assert [one.status for one in bench.attempts(run_id, "suicide")] == ["crashed", "crashed", "succeeded"]


def test_the_log_names_the_step_that_was_lost_with_its_process(bench: Bench, worker: Start) -> None:
    """Which need not be the step of the message that the process had taken."""
    process = worker(pool="prefork", concurrency=1)
    run_id = bench.start("later_suicide", times=1)
    assert bench.ended(run_id) is RunStatus.SUCCEEDED

    def lines(event: str) -> list[str]:
        return [line for line in process.log().splitlines() if f" {event} " in line]

    eventually(lambda: lines("child.lost"))
    (lost,) = eventually(lambda: lines("step.lost"))
    for fact in (f"run_id={run_id}", "flow=later_suicide", "step_key=suicide", "attempt=1", "status=crashed"):
        assert f" {fact} " in lost
    assert "count" not in lines("child.lost")[0]


def test_a_poison_step_ends_after_a_bounded_number_of_crashes(bench: Bench, worker: Start) -> None:
    settings = bench.settings.model_copy(update={"crash_limit": 1})
    worker(pool="prefork", concurrency=1, settings=settings)
    run_id = bench.start("suicide", times=100)
    assert bench.ended(run_id) is RunStatus.FAILED
    assert len(bench.effects("start", run_id)) == 2


def test_a_dead_worker_costs_one_lease(bench: Bench, worker: Start, tmp_path: Path) -> None:
    first = worker(pool="prefork", concurrency=1)
    gate = tmp_path / "gate"
    run_id = bench.start("gated", gate=str(gate))
    eventually(lambda: bench.effects("start", run_id))
    first.kill()
    gate.touch()
    worker(pool="prefork", concurrency=1)
    assert bench.ended(run_id) is RunStatus.SUCCEEDED
    assert len(bench.effects("start", run_id)) == 2
    assert len(bench.effects("end", run_id)) == 1


def test_a_worker_that_slept_past_its_lease_has_its_result_refused(bench: Bench, worker: Start, tmp_path: Path) -> None:
    first = worker(pool="prefork", concurrency=1)
    gate = tmp_path / "gate"
    run_id = bench.start("gated", gate=str(gate))
    eventually(lambda: bench.effects("start", run_id))
    first.stop()
    gate.touch()
    worker(pool="prefork", concurrency=1)
    assert bench.ended(run_id) is RunStatus.SUCCEEDED
    first.cont()
    eventually(lambda: "code=3002" in first.log(), message="the stale result is refused")
    assert [one.status for one in bench.attempts(run_id, "gated")] == ["crashed", "succeeded"]


def test_a_worker_paused_before_the_handler_does_not_start_it(bench: Bench, worker: Start) -> None:
    """Its own monotonic clock says that the lease is over; the ledger says who has it."""
    first = worker(pool="prefork", concurrency=1, faults={"handler.before": "stop"})
    run_id = bench.start("chain", n=1)

    def stopped() -> bool:
        return any(psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in first.children())

    eventually(stopped)
    worker(pool="prefork", concurrency=1)
    assert bench.result(run_id) == 20
    first.cont()
    eventually(lambda: "step.not_started" in first.log())
    assert len(bench.effects("start", run_id)) == 5


def test_wiped_messages_are_sent_again(bench: Bench, worker: Start) -> None:
    run_ids = bench.start_many("chain", [{"n": 1}] * 20)
    with redis.Redis.from_url(bench.settings.require_broker_url()) as client:
        client.flushall()
    process = worker(pool="threads", concurrency=4)
    for run_id in run_ids:
        assert bench.result(run_id) == 20
    process.says("dispatch.again")


def test_a_backlog_is_not_sent_again(bench: Bench, worker: Start) -> None:
    """The list is as long as the ledger expects, but for what the worker took ahead."""
    bench.start_many("slow", [{"seconds": 0.4}] * 60)
    eventually(lambda: list_length(bench) == 60)
    worker(pool="threads", concurrency=2)
    eventually(lambda: len(bench.effects("end")) >= 14)
    starts = [line[1] for line in bench.effects("start")]
    assert len(starts) == len(set(starts))
    with bench.ledger.engine.connect() as connection:
        again = connection.exec_driver_sql("SELECT count(*) FROM flow_step_dispatches WHERE publish_count > 1").scalar()
    assert again is not None
    assert again <= 10


def test_committed_but_unpublished_steps_are_published_by_a_keeper(bench: Bench, worker: Start) -> None:
    run_id = bench.start("chain", publish=False, n=1)
    worker(pool="threads")
    assert bench.result(run_id) == 20


def test_duplicates_are_suppressed(bench: Bench, worker: Start) -> None:
    run_id = bench.start("chain", publish=False, n=1)
    step = reads.steps.page(bench.ledger, run_id)[0]
    task = "chain.add"
    dispatch = Dispatch(run_id, step.key, 1, task, "default", 5)
    bench.publisher.publish([dispatch] * 5)
    worker(pool="threads", concurrency=5)
    assert bench.result(run_id) == 20
    assert len(bench.effects("start", run_id)) == 5


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_warm_shutdown_finishes_what_runs_and_gives_back_the_rest(bench: Bench, worker: Start, pool: str) -> None:
    """No attempt is charged for what was not started, and the next worker need not wait for any lease."""
    settings = bench.settings.model_copy(update={"redispatch_after": timedelta(seconds=60)})
    first = worker(pool=pool, concurrency=2, settings=settings)
    run_id = bench.start("slows", items=list(range(30)), seconds=0.3)
    eventually(lambda: len(bench.effects("end")) >= 3)
    first.term()
    assert first.wait() == 0
    started, ended = bench.effects("start"), bench.effects("end")
    assert len(started) == len(ended) < 30
    assert "Traceback" not in first.log()
    worker(pool=pool, concurrency=4, settings=settings)
    assert bench.result(run_id) == list(range(30))
    assert len(bench.effects("start")) == 30
    attempts = {one.attempts for one in reads.steps.page(bench.ledger, run_id, fold=10_000) if one.loop_key}
    assert attempts == {1}


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_shutdown_under_a_load_of_short_steps_loses_nothing_and_is_quick(
    bench: Bench, worker: Start, pool: str
) -> None:
    settings = bench.settings.model_copy(update={"redispatch_after": timedelta(seconds=60)})
    run_ids = bench.start_many("chain", [{"n": 1}] * 300)
    for _ in range(3):
        process = worker(pool=pool, concurrency=2, settings=settings)
        done = len(bench.effects("start"))
        eventually(lambda before=done: len(bench.effects("start")) > before + 60, interval=0.005)  # type: ignore[misc]
        process.term()
        assert process.wait() == 0, process.tail()
    worker(pool=pool, concurrency=2, settings=settings)
    for run_id in run_ids:
        assert bench.result(run_id) == 20
    assert len(bench.effects("start")) == 1500


def test_what_was_taken_ahead_comes_back_while_a_long_step_still_runs(
    bench: Bench, worker: Start, tmp_path: Path
) -> None:
    settings = bench.settings.model_copy(update={"redispatch_after": timedelta(seconds=60)})
    first = worker(pool="prefork", concurrency=1, settings=settings)
    long_run = bench.start("gated", gate=str(tmp_path / "gate"))
    eventually(lambda: bench.effects("start", long_run))
    others = bench.start_many("chain", [{"n": 1}] * 3)
    eventually(lambda: list_length(bench) == 0, message="they were taken ahead")
    first.term()
    worker(pool="threads", settings=settings)
    for run_id in others:
        assert bench.result(run_id) == 20
    assert not bench.effects("end", long_run)
    (tmp_path / "gate").touch()
    assert bench.ended(long_run) is RunStatus.SUCCEEDED
    assert first.wait() == 0
    assert len(bench.effects("start", long_run)) == 1


def test_a_worker_without_the_handler_costs_nothing(
    bench: Bench, worker: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It says so, and hands the message on to a worker that has the flow."""
    other = tmp_path_factory.mktemp("other") / "other_flows.py"
    other.write_text(
        "from orchestrator import flow, step\n@step\ndef one() -> int:\n    return 1\n\n\n"
        "@flow(name='other')\ndef other() -> int:\n    return one()\n"
    )
    old = worker(pool="threads", flows=str(other))
    run_id = bench.start("chain", n=1)
    eventually(lambda: "has no such handler" in old.log())
    worker(pool="threads")
    assert bench.result(run_id) == 20
    assert len(bench.effects("start", run_id)) == 5
    run_ids = bench.start_many("chain", [{"n": 1}] * 50)
    for run_id in run_ids:
        assert bench.result(run_id) == 20
    assert len(bench.effects("start")) == 255


def test_the_probe_comes_back_and_the_registry_says_so(bench: Bench, worker: Start) -> None:
    process = worker(pool="prefork", concurrency=1)
    row = eventually(lambda: next((one for one in reads.workers.every(bench.ledger) if one.consumed_at), None))
    assert row is not None
    assert "chain.add" in row.handlers
    process.term()
    assert process.wait() == 0
    assert reads.workers.every(bench.ledger) == []
    with redis.Redis.from_url(bench.settings.require_broker_url()) as client:
        assert list(client.scan_iter("*probe*")) == []


def test_redis_restarts_are_survived_with_work_in_flight(bench: Bench, worker: Start) -> None:
    process = worker(pool="prefork", concurrency=2)
    run_id = bench.start("slow", seconds=1.5)
    eventually(lambda: bench.effects("start", run_id))
    with redis.Redis.from_url(bench.settings.require_broker_url()) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal")
    assert bench.ended(run_id) is RunStatus.SUCCEEDED
    assert len(bench.effects("start", run_id)) == 1
    assert bench.result(bench.start("chain", n=1)) == 20
    assert process.alive


def test_a_paused_database_is_waited_for(bench: Bench, worker: Start) -> None:
    """Every connection is cut while a step runs: its finish is repeated on a new one."""
    worker(pool="threads", concurrency=2)
    run_id = bench.start("slow", seconds=1.0)
    eventually(lambda: bench.effects("start", run_id))
    with bench.ledger.auto() as tx:
        tx.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert bench.ended(run_id) is RunStatus.SUCCEEDED
    assert len(bench.effects("start", run_id)) == 1


@pytest.mark.parametrize("point", ["claim.committed", "handler.before", "handler.after", "finish.before"])
def test_a_run_ends_the_same_when_a_child_dies_at(bench: Bench, worker: Start, point: str) -> None:
    worker(pool="prefork", concurrency=1, faults={point: "kill"})
    run_id = bench.start("chain", n=1)
    second = bench.start("chain", n=2)
    assert bench.result(run_id) == 20
    assert bench.result(second) == 28
    assert (bench.folder / point).exists()
    for step in reads.steps.page(bench.ledger, run_id, fold=10_000):
        statuses = [one.status for one in bench.attempts(run_id, step.key)]
        assert statuses.count("succeeded") == 1


def test_more_terms_do_not_hurt(bench: Bench, worker: Start) -> None:
    process = worker(pool="prefork", concurrency=1)
    run_id = bench.start("slow", seconds=1.0)
    eventually(lambda: bench.effects("start", run_id))
    for _ in range(300):  # each may come while the one before is handled
        process.term()
    assert process.wait() == 0, process.tail()
    assert bench.status(run_id) is RunStatus.SUCCEEDED


def test_a_signal_inside_the_handling_of_another_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of an event is not one that its holder may take again."""
    lock = threading.Lock()
    nested: list[bool] = []

    class WorkerState:
        shared = Shared()
        keeper: "WorkerState"

        def shut_down(self) -> None:
            taken = lock.acquire(timeout=5)
            nested.append(taken)
            celery_app._shutting_down(sig="SIGINT", how="Warm")
            lock.release()

    state = WorkerState()
    state.keeper = state
    monkeypatch.setattr(celery_app, "_active", state)
    celery_app._shutting_down(sig="SIGINT", how="Warm")
    assert nested == [True]
    assert state.shared.stopping
