"""Keepers work an operation off, whoever of them is killed."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

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
