"""The switch back to Celery's emulated acknowledgements: the same losses, and the ledger decides as ever."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from orchestrator.core.states import RunStatus
from orchestrator.settings import Settings
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess
from tests.workers.conftest import Bench

Start = Callable[..., WorkerProcess]
MINUTE = timedelta(seconds=60)


def emulated(bench: Bench, visible_s: float = 60, **changes: Any) -> Settings:
    """Acknowledgements are emulated, and what is not acknowledged comes back after `visible_s`."""
    options = {
        "visibility_timeout": visible_s,
        "unacked_restore_interval": 0.3,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 1,  # whoever is killed while it holds the lock of restoring keeps it for that long
    }
    return bench.settings.model_copy(
        update={"ack_emulation": True, "broker_transport_options": options, "prefetch_multiplier": 4, **changes}
    )


def unacked(bench: Bench) -> int:
    with redis.Redis.from_url(bench.settings.require_broker_url()) as client:
        return int(client.hlen(f"{bench.settings.key_prefix}unacked"))  # type: ignore[arg-type]


def suppressed(bench: Bench) -> int:
    """Messages that found nothing to claim."""
    with bench.ledger.engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT sum(suppressed) FROM flow_step_dispatches").scalar() or 0)


def test_a_killed_worker_loses_nothing_of_what_it_had_not_acknowledged(
    bench: Bench, worker: Start, tmp_path: Path
) -> None:
    """The emulation sends it again, and so does the ledger, for what died between the pop and its note in Redis."""
    settings = emulated(bench, visible_s=2)
    first = worker(pool="prefork", concurrency=2, settings=settings)
    gate = tmp_path / "gate"
    run_ids = bench.start_many("gated", [{"gate": str(gate)}] * 12)
    eventually(lambda: len(bench.effects("start")) == 2 and unacked(bench) >= 4, message="two run, others are held")
    first.kill()
    assert unacked(bench) >= 4
    gate.touch()
    worker(pool="prefork", concurrency=2, settings=settings)
    bench.ran_once_per_attempt(run_ids, lost=2)
    eventually(lambda: unacked(bench) == 0, message="what the dead one held is sent again, or was")


@pytest.mark.slow
def test_a_message_that_comes_back_while_its_step_runs_is_suppressed(bench: Bench, worker: Start) -> None:
    """Celery's default of an hour, and any step of more than that."""
    settings = emulated(bench, visible_s=0.5, redispatch_after=MINUTE)
    for _ in range(2):
        worker(pool="prefork", concurrency=1, settings=settings)
    run_id = bench.start("slow", seconds=3)
    bench.ran_once_per_attempt([run_id])
    assert suppressed(bench) > 0


@pytest.mark.slow
def test_a_flush_takes_queues_and_unacknowledged_messages_and_nothing_is_lost(bench: Bench, worker: Start) -> None:
    settings = emulated(bench)
    process = worker(pool="prefork", concurrency=2, settings=settings)
    run_ids = bench.start_many("slow", [{"seconds": 0.2}] * 24)
    eventually(lambda: len(bench.effects("end")) >= 3)
    with redis.Redis.from_url(settings.require_broker_url()) as client:
        client.flushall()
    bench.ran_once_per_attempt(run_ids)
    process.says("dispatch.again")
    assert "Traceback" not in process.log()


@pytest.mark.slow
def test_a_dead_child_leaves_its_message_acknowledged(bench: Bench, worker: Start) -> None:
    """The ledger re-dispatches with a bound; a message that came back by itself would know none."""
    settings = emulated(bench, visible_s=1, crash_limit=1)
    worker(pool="prefork", concurrency=1, settings=settings)
    run_id = bench.start("suicide", times=100)
    assert bench.ended(run_id) is RunStatus.FAILED
    assert len(bench.effects("start", run_id)) == 2
    eventually(lambda: unacked(bench) == 0)


@pytest.mark.slow
def test_a_warm_shutdown_gives_back_what_it_took_ahead(bench: Bench, worker: Start) -> None:
    """The next worker need not wait for a visibility timeout, nor for the keeper."""
    settings = emulated(bench, redispatch_after=MINUTE)
    first = worker(pool="prefork", concurrency=2, settings=settings)
    run_ids = bench.start_many("slow", [{"seconds": 0.3}] * 16)
    eventually(lambda: len(bench.effects("end")) >= 2)
    first.term()
    assert first.wait() == 0
    assert len(bench.effects("start")) == len(bench.effects("end")) < 16
    assert unacked(bench) == 0
    assert "Traceback" not in first.log()
    worker(pool="prefork", concurrency=4, settings=settings)
    bench.ran_once_per_attempt(run_ids)
    assert len(bench.effects("start")) == 16
