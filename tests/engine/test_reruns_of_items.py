"""Runs of runs whose loops wait inside of their items: what is kept is kept by its list, and nothing waits for it; what
runs again waits anew, and takes nothing that was sent to the run before."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import cancel_run
from orchestrator.engine.sweeps.wake import wake
from orchestrator.errors import SignalNotFound, SignalTooLate, UsageError
from orchestrator.ledger import reads
from tests.engine.test_reruns import again, foreseen
from tests.engine.test_signals_in_loops import open_waits, parked, pay, say, sent, wait
from tests.support.factories import Lab, after, call

ASK = {"approval": {"title": "@item().id", "to": "ada"}, "run_after": {"paid": ["succeeded"]}}
STEPS: dict[str, Any] = {
    "order": call(),
    "paid": {**wait(timeout="2d"), "run_after": {"order": ["succeeded"]}},
    "ask": ASK,
    "nap": {"sleep": "P1D", "run_after": {"ask": ["succeeded"]}},
    "ship": after("nap"),
}


def done(lab: Lab) -> UUID:
    """Two items waited for all that they wait for; then the step behind the loop failed."""
    run_id = parked(lab, 2, STEPS, output="@steps('paid').output")
    whole(lab, run_id)
    lab.do_fail(run_id, "join")
    assert lab.status(run_id) is RunStatus.FAILED
    return run_id


def whole(lab: Lab, run_id: UUID) -> None:
    """Everybody comes, and the time passes."""
    pay(lab, run_id, 0, 1)
    for n in range(2):
        say(lab, run_id, f"each.{n}.ask")
    lab.forward(timedelta(days=1, hours=1))
    wake(lab.ledger)
    lab.do(run_id, "each.0.ship", "each.1.ship")


def test_a_loop_that_waited_is_kept_by_its_list(lab: Lab) -> None:
    run_id = done(lab)
    assert foreseen(lab, run_id, "join").kept == ("each",)
    made = again(lab, run_id, "join").run_id
    lab.audit()
    assert lab.statuses(made) == {"each": "succeeded", "join": "ready"}
    assert reads.steps.output(lab.ledger, made, "each") == [{"amount": 0}, {"amount": 1}]
    assert open_waits(lab, made) == []
    assert lab.rows("SELECT FROM flow_signals WHERE run_id = %s", made) == []
    with pytest.raises(SignalTooLate, match="step each went on without one"):
        sent(lab, made, key="o0")
    lab.do(made, "join")
    assert lab.status(made) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("step", ["each", None])
def test_a_loop_that_runs_again_waits_anew(lab: Lab, step: str | None) -> None:
    """It has its own signals and answers, and its own time."""
    run_id = done(lab)
    made = again(lab, run_id, step).run_id
    lab.do(made, "each.0.order", "each.1.order")
    lab.audit()
    assert open_waits(lab, made) == ["each.0.paid", "each.1.paid"]
    assert lab.rows("SELECT FROM flow_signals WHERE run_id = %s", made) == []
    lab.forward(timedelta(days=1, hours=20))
    assert wake(lab.ledger).changed == 0, "the whole time again"
    whole(lab, made)
    lab.do(made, "join")
    assert lab.status(made) is RunStatus.SUCCEEDED


def test_a_run_whose_items_wait_is_run_again_when_it_is_over(lab: Lab) -> None:
    """What they waited for in the one before stays there."""
    run_id = lab.run(
        {"first": call(), "each": {"for_each": "@triggerBody().orders", "steps": STEPS, **after_first()}},
        {"orders": [{"id": "o0"}, {"id": "o1"}]},
    )
    lab.drain(run_id)
    pay(lab, run_id, 0)
    cancel_run.cancel(lab.ledger, run_id, by="ada", reason="enough", grace=timedelta(seconds=5))
    assert lab.status(run_id) is RunStatus.CANCELLED
    made = again(lab, run_id, "each").run_id
    assert lab.statuses(made)["first"] == "succeeded"
    lab.drain(made)
    assert open_waits(lab, made) == ["each.0.paid", "each.1.paid"]
    assert open_waits(lab, run_id) == []
    whole(lab, made)
    assert lab.status(made) is RunStatus.SUCCEEDED


def after_first() -> dict[str, Any]:
    return {"run_after": {"first": ["succeeded"]}}


@pytest.mark.parametrize("step", ["each.0", "each.1.paid", "each.1.ship"])
def test_nothing_is_run_again_from_inside_of_an_item(lab: Lab, step: str) -> None:
    with pytest.raises(UsageError, match=r"is inside the loop each.*again from each"):
        again(lab, done(lab), step)


def test_a_signal_of_the_run_before_is_none_of_the_new_one(lab: Lab) -> None:
    made = again(lab, done(lab), "each").run_id
    with pytest.raises(SignalNotFound, match="without a key"):
        sent(lab, made)
    assert sent(lab, made, key="o1").kept
