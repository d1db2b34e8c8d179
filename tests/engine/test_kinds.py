"""A step's kind: what a release before wrote has none, and is read right."""

import pytest

from orchestrator.core.states import RunStatus, StepKind
from orchestrator.engine.runs import cancel_run
from orchestrator.ledger import reads
from tests.support.factories import LEASE, Lab, after, call, loop, retry

FORGET = "UPDATE flow_steps SET kind = NULL"
"""As a release before inserts steps, which may go on beside this one for a while."""
written_by = pytest.mark.parametrize("before", [False, True], ids=["this release", "the release before"])


@written_by
def test_steps_tell_their_kind(lab: Lab, before: bool) -> None:
    run_id = lab.run({"a": call(), "each": loop([1, 2]), "b": after("each")})
    if before:
        lab.execute(FORGET)
    kinds = {step.key: step.kind for step in reads.steps.page(lab.ledger, run_id)}
    assert kinds.pop("each") is StepKind.LOOP
    assert set(kinds.values()) == {StepKind.TASK}
    assert len(kinds) == 4


@written_by
def test_a_halt_ends_loops_and_waits_for_handlers(lab: Lab, before: bool) -> None:
    """A loop that runs has nobody who would report."""
    run_id = lab.run({"a": call(), "each": loop([1, 2])})
    lease = lab.take(run_id, "a")
    if before:
        lab.execute(FORGET)
    status = cancel_run.cancel(lab.ledger, run_id, by="me", reason="r", grace=LEASE)
    assert status is RunStatus.RUNNING
    assert lab.statuses(run_id) == {**dict.fromkeys(("each", "each.0.do", "each.1.do"), "cancelled"), "a": "running"}
    lab.done(lease)
    assert lab.status(run_id) is RunStatus.CANCELLED


@written_by
def test_an_open_loop_does_not_hide_that_a_run_waits(lab: Lab, before: bool) -> None:
    """Only a handler that runs does."""
    run_id = lab.run({"each": loop([1], body={"retry": retry(2)})})
    if before:
        lab.execute(FORGET)
    lab.fail(lab.take(run_id, "each.0.do"))
    assert lab.status(run_id) is RunStatus.WAITING
    lab.forward(5)
