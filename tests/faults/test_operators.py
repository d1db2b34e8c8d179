"""People act at the moment when a worker is about to report."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import cancel_run
from orchestrator.engine.steps import retry_step
from orchestrator.ledger import reads
from tests.faults.arena import Arena, go_on
from tests.faults.conftest import Make
from tests.support.eventually import eventually


@pytest.fixture(scope="module")
def field(make_arena: Make) -> Iterator[Arena]:
    """Two children, so that a run goes on while one sleeps; leases that outlast it."""
    with make_arena(lease=timedelta(seconds=60), heartbeat=timedelta(seconds=0.5)) as made:
        made.worker(concurrency=2)
        yield made
        made.judge_all_again()


def cancel(field: Arena, run_id: UUID, grace_s: float = 30.0) -> RunStatus:
    return cancel_run.cancel(field.ledger, run_id, by="op", reason="stop it", grace=timedelta(seconds=grace_s))


def statuses(field: Arena, run_id: UUID) -> dict[str, str]:
    return {step.key: str(step.status) for step in reads.steps.page(field.ledger, run_id)}


@pytest.mark.parametrize("point", ["handler.before", "handler.middle", "handler.after", "finish.before"])
def test_cancel_while_a_worker_is_about_to_report(field: Arena, point: str) -> None:
    """What it reports is recorded, and nothing comes after it."""
    run_id = field.start("single", plan={"lone": f"{point}=stop"}) if point != "handler.before" else None
    if run_id is None:
        field.order(point, "stop")
        run_id = field.start("single")
    pid = field.struck(point)
    assert cancel(field, run_id) is RunStatus.RUNNING
    go_on(pid)
    assert field.ended(run_id) is RunStatus.CANCELLED
    assert statuses(field, run_id)["lone"] in {"succeeded", "cancelled"}
    assert len(reads.steps.attempts(field.ledger, run_id, "lone")) == 1


def test_cancel_while_a_worker_holds_a_chained_claim(field: Arena) -> None:
    """The claim was committed before the cancel: that step may still run, nothing after it does."""
    run_id = field.start(plan={"second": "finish.committed=stop"})
    pid = field.struck("finish.committed")
    eventually(lambda: statuses(field, run_id)["total"] == "succeeded", timeout=60)
    cancel(field, run_id)
    go_on(pid)
    assert field.ended(run_id) is RunStatus.CANCELLED
    found = statuses(field, run_id)
    assert [found[key] for key in ("flaky", "pay", "last")] == ["cancelled"] * 3
    assert not [line for line in field.lines(run_id) if line.step_key in {"pay", "last"}]


def test_cancel_ends_a_sleeping_child_after_the_grace(field: Arena) -> None:
    """It cannot hear; the main process ends it, and its slot is free again."""
    run_id = field.start("single", plan={"lone": "handler.middle=stop"})
    field.struck("handler.middle")
    cancel(field, run_id, grace_s=0.2)
    assert field.ended(run_id) is RunStatus.CANCELLED
    field.check(field.start())


def test_retry_while_a_sibling_is_about_to_report(field: Arena) -> None:
    """The operator opens a new epoch of the failed branch; the other branch's result belongs to it too."""
    run_id = field.start("fork", plan={"left": "finish.before=stop"})
    pid = field.struck("finish.before")
    eventually(lambda: statuses(field, run_id)["right"] == "failed", timeout=60)
    field.publisher.publish(retry_step.retry(field.ledger, run_id, "right", by="op"))
    eventually(lambda: statuses(field, run_id)["right"] == "succeeded", timeout=60)
    go_on(pid)
    assert field.ended(run_id) is RunStatus.SUCCEEDED
    assert reads.runs.result(field.ledger, run_id) == [1, 2]
    assert len(field.lines(run_id)) == 6


def test_retry_after_a_cancel_beside_a_stale_worker(field: Arena) -> None:
    """The grace ended the sleeper's claim. It wakes up in a new epoch, where its result is not wanted."""
    run_id = field.start("single", plan={"lone": "finish.before=stop"})
    pid = field.struck("finish.before")
    cancel(field, run_id, grace_s=0.2)
    assert field.ended(run_id) is RunStatus.CANCELLED
    field.publisher.publish(retry_step.retry(field.ledger, run_id, "lone", by="op"))
    assert field.ended(run_id) is RunStatus.SUCCEEDED
    go_on(pid)
    field.check(field.start())
    outcomes = [one.status for one in reads.steps.attempts(field.ledger, run_id, "lone")]
    assert outcomes == ["cancelled", "succeeded"]
