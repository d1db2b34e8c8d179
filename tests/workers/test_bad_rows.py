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


NEWER = """
UPDATE flow_definition_versions SET manifest = (manifest::jsonb || '{"newer": 1}')::json WHERE flow = 'newer';
UPDATE flow_steps SET crashes = 99 WHERE task = 'newer.w';
"""


def test_a_page_of_expired_leases_that_nobody_can_end(bench: Bench, worker: Callable[..., WorkerProcess]) -> None:
    """Their manifest is of a release that is not here, and their steps were lost too often to be run again. Each cost a
    transaction that was rolled back, at every new leader, before the next lost step was looked for."""
    claimed(bench.ledger, "newer", PAGE, timedelta(seconds=0.1))
    with bench.ledger.auto() as tx:
        tx.exec_driver_sql(NEWER)
    made = worker(pool="threads", concurrency=1)
    eventually(lambda: "manifest.unreadable" in made.log(), timeout=60, message="the keeper has met them")
    before = _rolled_back(bench)
    for _ in range(2):  # whoever leads by then
        (lost,) = claimed(bench.ledger, "lost", 1, timedelta(seconds=1))
        eventually(
            lambda run_id=lost: [one.status for one in bench.attempts(run_id, "a")] == ["crashed"],  # type: ignore[misc]
            timeout=60,
            message="a lost step is ready again",
        )
    assert _rolled_back(bench) - before < 50, "none for each of them"
    assert made.log().count("manifest.unreadable") == 1


def _rolled_back(bench: Bench) -> int:
    """Transactions of this database; sessions report theirs within a second or, at the latest, at their end."""
    with bench.ledger.auto() as tx:
        found: int = tx.exec_driver_sql(
            "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        ).scalar_one()
    return found
