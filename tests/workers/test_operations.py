"""Keepers work an operation off, whoever of them is killed."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from uuid import UUID

import psutil
import pytest
from uuid_utils.compat import uuid7

from orchestrator.core.facts import StartRequest
from orchestrator.core.operations import Action
from orchestrator.core.runfilter import RunFilter
from orchestrator.core.states import RunStatus
from orchestrator.engine.operations import operate
from orchestrator.engine.runs import start_run
from orchestrator.ledger.operations import Job, OperationRow, Which
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess
from tests.workers.conftest import Bench

LATER = timedelta(hours=1)


def begun(bench: Bench, runs: int) -> list[UUID]:
    """Runs that nobody runs meanwhile."""
    requests = [StartRequest("chain", '{"n": 1}', tags=("bulk",), begins=LATER) for _ in range(runs)]
    return [one.run_id for one in start_run.start(bench.ledger, requests)]


def operated(bench: Bench, action: Action) -> UUID:
    job = Job(uuid7(), action, "a bad deploy", "ann", {})
    return operate.create(bench.ledger, job, Which(RunFilter.of(flow="chain", tag="bulk"))).id


def asked(bench: Bench, type: str) -> Counter[UUID]:
    """How often each run has such an event."""
    query = "SELECT run_id FROM flow_events WHERE type = %(type)s"
    with bench.ledger.auto() as tx:
        return Counter(row.run_id for row in tx.exec_driver_sql(query, {"type": type}))


def test_each_run_is_done_once_although_keepers_are_killed(bench: Bench, worker: Callable[..., WorkerProcess]) -> None:
    made = begun(bench, 600)
    operation = operated(bench, Action.CANCEL)
    row = operate.get(bench.ledger, operation)
    assert row.total == 600

    def reached(done: int) -> OperationRow:
        def check() -> OperationRow | None:
            row = operate.get(bench.ledger, operation)
            return row if row.counts.get("done", 0) >= done else None

        return eventually(check, interval=0.005) or row

    first = worker()
    reached(50)
    first.kill()
    half = operate.get(bench.ledger, operation)
    assert half.state == "running"
    assert half.pending > 0
    second = worker()
    reached(half.counts["done"] + 50)
    second.kill()
    worker()
    end = reached(600)
    eventually(lambda: operate.get(bench.ledger, operation).is_over)
    assert end.counts == {"done": 600}
    assert asked(bench, "run.cancel_requested") == dict.fromkeys(made, 1)
    assert {bench.status(run_id) for run_id in made} == {RunStatus.CANCELLED}


def test_what_is_retried_runs(bench: Bench, worker: Callable[..., WorkerProcess]) -> None:
    """Their messages are sent by the keeper that opened them again."""
    made = begun(bench, 20)
    worker()
    for action in (Action.CANCEL, Action.RETRY):
        operation = operated(bench, action)
        eventually(lambda: operate.get(bench.ledger, operation).is_over)  # noqa: B023
        assert operate.get(bench.ledger, operation).counts == {"done": 20}
    assert [bench.result(run_id) for run_id in made] == [20] * 20
    deleted = operated(bench, Action.DELETE)
    eventually(lambda: operate.get(bench.ledger, deleted).is_over)
    with bench.ledger.auto() as tx:
        assert tx.exec_driver_sql("SELECT count(*) FROM flow_runs").scalar_one() == 0


MANY = 10_000
FLAT_MB = 48
"""What a keeper may grow by, from its first runs to its last: what it keeps of each would be seen."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_runs_of_two_people_although_a_keeper_is_killed(
    bench: Bench, worker: Callable[..., WorkerProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    """Cancelled by both at once, partly the same runs, then retried. Nobody takes the steps from their queue."""
    for first in range(0, MANY, 500):
        tags = ("bulk", "left" if first < MANY // 2 else "right")
        requests = [StartRequest("chain", '{"n": 1}', tags=tags, begins=LATER) for _ in range(500)]
        start_run.start(bench.ledger, requests)
    told: list[str] = []

    def both(action: Action, *tags: str) -> None:
        jobs = [
            (Job(uuid7(), action, "a bad deploy", by, {}), tag) for by, tag in zip(("ann", "bob"), tags, strict=True)
        ]
        ids = [operate.create(bench.ledger, job, Which(RunFilter.of(tag=tag))).id for job, tag in jobs]

        def done() -> int:
            rows = [operate.get(bench.ledger, one) for one in ids]
            return sum(row.total - row.pending for row in rows)

        whole = sum(operate.get(bench.ledger, one).total for one in ids)
        began = monotonic()
        killed = worker(queues=("nobody",))
        eventually(lambda: done() >= whole // 5, timeout=900)
        small = memory_mb(killed)
        eventually(lambda: done() >= whole // 2, timeout=900)
        grown = memory_mb(killed) - small
        killed.kill()
        assert done() < whole, "it was killed in the middle"
        last = worker(queues=("nobody",))
        eventually(lambda: all(operate.get(bench.ledger, one).is_over for one in ids), timeout=1800)
        took_s = monotonic() - began
        last.kill()
        counts = [operate.get(bench.ledger, one).counts for one in ids]
        told.append(f"{action}: {whole} in {took_s:.0f} s, {whole / took_s:.0f}/s, keeper +{grown:.1f} MB, {counts}")
        assert grown < FLAT_MB, told
        assert sum(sum(one.values()) for one in counts) == whole
        assert all(set(one) <= {"done", "left_out"} for one in counts), counts

    both(Action.CANCEL, "bulk", "right")
    assert set(asked(bench, "run.cancel_requested").values()) == {1}
    assert states(bench) == {("cancelled", 1): MANY}
    both(Action.RETRY, "left", "right")
    assert sum(states(bench).values()) == MANY
    assert {epoch for _, epoch in states(bench)} == {2}, "each was opened once"
    with capsys.disabled():
        print("", *told, sep="\n")


def memory_mb(process: WorkerProcess) -> float:
    """Of its main process, in which the keeper is."""
    return float(psutil.Process(process.pid).memory_info().rss) / 1e6


def states(bench: Bench) -> dict[tuple[str, int], int]:
    with bench.ledger.auto() as tx:
        rows = tx.exec_driver_sql("SELECT status, epoch, count(*) AS n FROM flow_runs GROUP BY status, epoch")
        return {(row.status, row.epoch): row.n for row in rows}
