"""A run is run again from a step on: what is kept is not done once more, whoever dies."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import rerun
from orchestrator.engine.runs.rerun import Again
from orchestrator.ledger import reads
from tests.faults.arena import RESULT, Arena
from tests.faults.conftest import Make
from tests.support.eventually import eventually
from tests.support.nursery import alive
from tests.support.worker_process import env_of

DONE_AGAIN = {"pay", "last"}


@pytest.fixture(scope="module")
def field(make_arena: Make) -> Iterator[Arena]:
    with make_arena(lease=timedelta(seconds=3)) as made:
        yield made
        made.judge_all_again()


@pytest.fixture(scope="module")
def source(field: Arena) -> UUID:
    field.worker()
    run_id = field.start()
    field.check(run_id)
    return run_id


@pytest.fixture(autouse=True)
def _workers(field: Arena, source: UUID) -> None:
    field.keep(1)


def judge(field: Arena, made: UUID) -> None:
    """It ended like its source, and only what was to run again has left anything."""
    assert field.ended(made) is RunStatus.SUCCEEDED, field.log()
    assert reads.runs.result(field.ledger, made) == RESULT
    lines = field.lines(made)
    assert {line.step_key for line in lines} == DONE_AGAIN
    assert {line.key for line in lines} == {f"{made}:{key}" for key in DONE_AGAIN}
    assert len(field.rows("SELECT 1 FROM test_payments WHERE key = %s", f"{made}:pay")) == 1
    for step in reads.steps.page(field.ledger, made, fold=10_000):
        kept = step.key not in DONE_AGAIN
        assert (step.attempts == 0) is kept, step
        assert not kept or (step.reason or "").startswith("kept from run"), step


@pytest.mark.parametrize("point", ["claim.committed", "handler.after", "finish.before", "finish.committed"])
def test_a_worker_dies_in_a_rerun(field: Arena, source: UUID, point: str) -> None:
    field.order(point, "kill")
    started = rerun.start(field.ledger, Again(source, "pay"), by="ann")
    field.publisher.publish(started.dispatches)
    field.struck(point)
    judge(field, started.run_id)


@pytest.mark.parametrize(
    ("point", "accepted"),
    [("start.before", 0), ("rerun.kept", 0), ("start.committed", 1), ("publish.before", 1), ("publish.after", 1)],
)
def test_a_client_dies_while_it_asks_for_a_rerun(field: Arena, source: UUID, point: str, accepted: int) -> None:
    """Before the commit nothing is there; after it the run goes its way."""
    known = set(reads.runs.reruns(field.ledger, source, 1000))
    field.order(point, "kill", "any")
    log = field.folder / f"again-{point}.log"
    log.write_text("")
    env = env_of(field.settings, **field.env)
    pid = field.nursery.fork("tests.faults.client:again", str(source), env=env, log=log, folder=field.folder)
    eventually(lambda: not alive(pid), timeout=60)
    field.struck(point)
    made = set(reads.runs.reruns(field.ledger, source, 1000)) - known
    assert len(made) == accepted
    for run_id in made:
        judge(field, run_id)


def test_a_whole_rerun_is_a_run_like_any_other(field: Arena, source: UUID) -> None:
    started = rerun.start(field.ledger, Again(source), by="ann")
    field.publisher.publish(started.dispatches)
    field.check(started.run_id)


@pytest.mark.parametrize(("point", "settled"), [("settle.before", 0), ("settle.ended", 0), ("settle.committed", 1)])
def test_a_client_dies_while_it_marks_a_step_as_done(field: Arena, source: UUID, point: str, settled: int) -> None:
    """The step and the end of its run are one commit."""
    run_id = field.start("fork")
    assert field.ended(run_id) is RunStatus.FAILED
    field.order(point, "kill", "any")
    log = field.folder / f"mark-{point}.log"
    log.write_text("")
    env = env_of(field.settings, **field.env)
    pid = field.nursery.fork("tests.faults.client:mark", str(run_id), env=env, log=log, folder=field.folder)
    eventually(lambda: not alive(pid), timeout=60)
    field.struck(point)
    if not settled:
        assert field.ended(run_id) is RunStatus.FAILED
        return
    assert field.ended(run_id) is RunStatus.SUCCEEDED
    assert reads.runs.result(field.ledger, run_id) == [1, 7]
