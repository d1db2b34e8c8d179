"""Calls of flows on real workers: told at once, and when whoever would tell was killed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.core.states import RunStatus
from orchestrator.engine.flows import register
from orchestrator.engine.steps import retry_step
from orchestrator.ledger import reads
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess
from tests.workers import flows_subflows
from tests.workers.conftest import Bench
from tests.workers.flows_subflows import delicate, every, highest, lowest, middle

FLOWS = str(Path(flows_subflows.__file__))


def registered(bench: Bench) -> None:
    for flow in (lowest, middle, highest, delicate, every):
        register.register(bench.ledger, flow.manifest)


@pytest.mark.timeout(300)
def test_calls_of_calls_run_to_their_end(bench: Bench, worker: Callable[..., WorkerProcess]) -> None:
    registered(bench)
    worker(pool="threads", flows=FLOWS)
    run_ids = bench.start_many("highest", [{"number": number} for number in range(5)])
    assert [bench.result(run_id) for run_id in run_ids] == [4, 5, 6, 7, 8]
    (called,) = reads.children.page(bench.ledger, run_ids[0])
    assert (called.flow, called.step, called.status) == ("middle", "middle", RunStatus.SUCCEEDED)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", ["call.accepted", "report.before", "report.committed"])
def test_a_worker_that_dies_around_a_call_costs_no_second_run(
    bench: Bench, worker: Callable[..., WorkerProcess], point: str
) -> None:
    registered(bench)
    worker(pool="threads", flows=FLOWS, faults={point: "kill"}, ready=False)
    run_id = bench.start("highest", number=1)
    worker(pool="threads", flows=FLOWS, ready=False)
    assert bench.result(run_id) == 5
    (called,) = reads.children.page(bench.ledger, run_id)
    assert len(reads.children.page(bench.ledger, called.id)) == 1


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("point", ["call.accepted", "items.entered", "item.ended", "report.committed", "call.adopted"])
def test_a_worker_that_dies_in_a_loop_of_runs_does_nothing_twice(
    bench: Bench, worker: Callable[..., WorkerProcess], point: str
) -> None:
    """Two of the five runs fail, and are gone on with by an operator's retry: the second when it has its place."""
    registered(bench)
    at_first = point != "call.adopted"
    numbers = [1, 2, 3, 4, 5]
    dying = worker(pool="threads", flows=FLOWS, faults={point: "kill"} if at_first else {}, ready=False)
    run_id = bench.start("every", numbers=numbers)
    if at_first:
        eventually(lambda: not dying.alive, timeout=60, message="the worker dies")
        worker(pool="threads", flows=FLOWS, ready=False)
    assert bench.ended(run_id) is RunStatus.FAILED
    bench.effects_file.with_name("mended").touch()
    if not at_first:
        dying.stop()
        worker(pool="threads", flows=FLOWS, faults={point: "kill"}, ready=False)
    before = reads.children.page(bench.ledger, run_id)
    bench.publisher.publish(retry_step.retry(bench.ledger, run_id, None, by="ada"))
    if not at_first:
        worker(pool="threads", flows=FLOWS, ready=False)
    assert bench.result(run_id) == numbers
    after = reads.children.page(bench.ledger, run_id)
    assert [one.id for one in after] == [one.id for one in before]
    assert len(after) == len(numbers)
