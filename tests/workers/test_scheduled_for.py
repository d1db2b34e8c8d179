"""A handler knows the time that its run is for."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.core.facts import StartRequest
from orchestrator.engine.flows import register
from orchestrator.engine.runs import start_run
from tests.support.worker_process import WorkerProcess
from tests.workers import flows_scheduled
from tests.workers.conftest import Bench


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_the_scheduled_time_is_told_to_every_kind_of_step(
    bench: Bench, worker: Callable[..., WorkerProcess], pool: str
) -> None:
    """And None to one of a run that no schedule started."""
    register.register(bench.ledger, flows_scheduled.times.manifest)
    worker(pool=pool, flows=str(Path(flows_scheduled.__file__)))
    at = datetime(2030, 1, 31, 7, tzinfo=UTC)
    requests = [StartRequest("times", scheduled_for=at), StartRequest("times")]
    scheduled, by_hand = start_run.start(bench.ledger, requests)
    bench.publisher.publish([*scheduled.dispatches, *by_hand.dispatches])
    assert bench.result(scheduled.run_id) == [at.isoformat()] * 3
    assert bench.result(by_hand.run_id) == [None] * 3
