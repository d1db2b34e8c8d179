"""A real worker beside a full page of rows that nothing can be done about now."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from orchestrator.core.facts import Claimant, StartRequest
from orchestrator.core.manifest import Manifest
from orchestrator.engine.flows import register
from orchestrator.engine.runs import start_run
from orchestrator.engine.runs.cancel_run import cancel
from orchestrator.engine.steps import claim_step
from orchestrator.engine.sweeps.walk import PAGE
from orchestrator.ledger.tx import Ledger
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess
from tests.workers.conftest import Bench

LONG = timedelta(minutes=10)


def claimed(ledger: Ledger, flow: str, count: int, lease: timedelta, **fields: object) -> list[UUID]:
    """Runs with one step each, claimed by a worker that is dead."""
    register.register(ledger, Manifest(name=flow, steps={"a": {"type": "w"}}, **fields))  # type: ignore[arg-type]
    run_ids = [run.run_id for run in start_run.start(ledger, [StartRequest(flow, "{}") for _ in range(count)])]
    for run_id in run_ids:
        assert claim_step.claim(ledger, run_id, "a", 1, Claimant("dead/1/x/t1", lease))
    return run_ids


def test_a_page_of_cancelled_runs_past_their_deadline(bench: Bench, worker: Callable[..., WorkerProcess]) -> None:
    """Every keeper spun over them for ever: no other deadline came, and no lost step in the whole cluster was ready
    again. Their own claims are far from over here."""
    for run_id in claimed(bench.ledger, "cancelled", PAGE, LONG, deadline=timedelta(milliseconds=1)):
        cancel(bench.ledger, run_id, by="me", reason="r", grace=LONG)
    (late,) = claimed(bench.ledger, "late", 1, LONG, deadline=timedelta(milliseconds=1))
    (lost,) = claimed(bench.ledger, "lost", 1, timedelta(seconds=1))
    worker(pool="threads", concurrency=1)
    eventually(lambda: _halt(bench, late) == "timed_out", message="a deadline comes")
    eventually(
        lambda: [one.status for one in bench.attempts(lost, "a")] == ["crashed"],
        timeout=60,
        message="a lost step is ready again",
    )


def _halt(bench: Bench, run_id: UUID) -> str | None:
    with bench.ledger.auto() as tx:
        found: str | None = tx.exec_driver_sql("SELECT halt FROM flow_runs WHERE id = %(id)s", {"id": run_id}).scalar()
    return found
