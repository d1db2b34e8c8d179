"""An operator's retry: what runs again, what is taken along, what is refused."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.facts import StepError
from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import cancel_run
from orchestrator.engine.steps import retry_step
from orchestrator.engine.sweeps import sweep
from orchestrator.errors import Conflict, StepNotFound
from orchestrator.ledger import reads
from tests.support.factories import Lab, after, call, keys, loop, retry

GRACE = timedelta(seconds=10)


def cancel(lab: Lab, run_id: UUID) -> RunStatus:
    return cancel_run.cancel(lab.ledger, run_id, by="ann", reason="enough", grace=GRACE)


def again(lab: Lab, run_id: UUID, key: str | None = None) -> list[str]:
    return keys(retry_step.retry(lab.ledger, run_id, key, by="ann"))


@pytest.mark.parametrize("key", ["b", None])
def test_retry_of_a_failed_step_takes_along_what_was_skipped(lab: Lab, key: str | None) -> None:
    """What succeeded is not run again; attempts are counted on, retries from zero; the run is in its next epoch."""
    run_id = lab.run({"a": call(), "b": after("a", retry=retry(2)), "c": after("b"), "d": after("c"), "e": after("a")})
    lab.do(run_id, "a", "e")
    lab.fail(lab.take(run_id, "b"))
    lab.forward(2)
    sweep.due(lab.ledger)
    lab.fail(lab.take(run_id, "b"))
    assert lab.status(run_id) is RunStatus.FAILED
    assert again(lab, run_id, key) == ["b"]
    lab.audit()
    assert lab.statuses(run_id) == {"a": "succeeded", "b": "ready", "c": "blocked", "d": "blocked", "e": "succeeded"}
    assert lab.status(run_id) is RunStatus.RUNNING
    lab.fail(lab.take(run_id, "b"))  # retries begin anew
    assert lab.statuses(run_id)["b"] == "waiting"
    lab.forward(2)
    sweep.due(lab.ledger)
    assert lab.drain(run_id) == ["b", "c", "d"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert [attempt for attempt, _ in lab.attempts(run_id, "b")] == [1, 2, 3, 4]
    row = reads.runs.get(lab.ledger, run_id)
    assert (row.epoch, row.error) == (2, None)
    (event,) = [event for event in reads.events.of_run(lab.ledger, run_id) if event.type == "run.retried"]
    assert event.facts == {"by": "ann", "epoch": 2, "steps": ["b"]}


def test_retry_while_other_steps_still_run(lab: Lab) -> None:
    """The run never ended; its join is reset, and waits for both."""
    run_id = lab.run({"a": call(), "b": call(), "join": after("a", "b"), "last": after("join")})
    b = lab.take(run_id, "b")
    lab.do_fail(run_id, "a")
    assert again(lab, run_id, "a") == ["a"]
    lab.audit()
    lab.done(b)
    assert lab.drain(run_id) == ["a", "join", "last"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_failure_that_is_not_retried_stays_the_reason(lab: Lab) -> None:
    """Of two steps that failed one runs again: the run still fails, and still says why."""
    run_id = lab.run({"a": call(), "b": call(), "c": call()})
    lab.do(run_id, "c")
    for key in ("a", "b"):
        lab.do_fail(run_id, key, error=StepError("ValueError", f"{key} is wrong"))
    assert again(lab, run_id, "a") == ["a"]
    assert (reads.runs.get(lab.ledger, run_id).error or {})["message"] == "b is wrong"
    lab.do(run_id, "a")
    row = reads.runs.get(lab.ledger, run_id)
    assert (row.status, row.error) == (
        RunStatus.FAILED,
        {"step": "b", "type": "ValueError", "message": "b is wrong"},
    )
    assert again(lab, run_id) == ["b"]
    assert reads.runs.get(lab.ledger, run_id).error is None


@pytest.mark.parametrize("status", ["ready", "running", "waiting"])
def test_a_step_is_not_run_again_while_another_makes_up_for_its_failure(lab: Lab, status: str) -> None:
    """The refund is on its way: shipped now, the goods would be paid back."""
    run_id = lab.run({"ship": call(), "refund": call(run_after={"ship": ["failed"]}, retry=retry(2))})
    lab.do_fail(run_id, "ship")
    lease = lab.take(run_id, "refund") if status != "ready" else None
    if lease is not None and status == "waiting":
        lab.fail(lease)
    assert lab.statuses(run_id)["refund"] == status
    with pytest.raises(Conflict, match=rf"refund makes up for the failure and is {status}.*Fix: .*--force"):
        again(lab, run_id, "ship")
    assert keys(retry_step.retry(lab.ledger, run_id, "ship", by="op", force=True)) == ["ship"]


@pytest.mark.parametrize("key", ["each.1.do", "each", None])
@pytest.mark.parametrize("window", [None, 1, 2, 9])
def test_retry_of_failed_children(lab: Lab, key: str | None, window: int | None) -> None:
    """Only they run again; the loop then collects old and new outputs in order."""
    lab.flow(
        {"each": loop("@triggerBody().items", concurrency=window), "join": call(inputs={"x": "@steps('each').output"})}
    )
    run_id = lab.start(body={"items": [0, 1, 2, 3]})
    while ready := lab.ready(run_id):
        lab.do_fail(run_id, ready[0]) if ready[0] in {"each.1.do", "each.3.do"} else lab.do(run_id, ready[0])
    assert lab.status(run_id) is RunStatus.FAILED
    expected = [key] if key == "each.1.do" else ["each.1.do", "each.3.do"]
    assert again(lab, run_id, key) == expected[: window or 9]
    lab.audit()
    ran = []
    while ready := lab.ready(run_id):
        lab.do(run_id, ready[0], output="new")
        ran.append(ready[0])
        lab.audit()
    if key == "each.1.do":
        assert ran == ["each.1.do"]
        assert lab.step(run_id, "each")["reason"] == "1 of its items failed; the first, each.3.do: boom"
        assert again(lab, run_id) == ["each.3.do"]
        lab.do(run_id, "each.3.do", output="new")
        lab.do(run_id, "join")
    else:
        assert [*sorted(ran[:-1]), ran[-1]] == [*expected, "join"]  # ready in one statement, so in any order
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert reads.steps.output(lab.ledger, run_id, "each") == ["each.0.do", "new", "each.2.do", "new"]


def test_the_search_for_the_next_retried_child_goes_on_where_it_was(lab: Lab) -> None:
    """So that a retry of thousands of children looks at each of them once."""
    lab.flow({"each": loop("@triggerBody().items", concurrency=1)})
    run_id = lab.start(body={"items": list(range(6))})
    while ready := lab.ready(run_id):
        lab.do(run_id, *ready) if ready[0] in {"each.0.do", "each.4.do"} else lab.do_fail(run_id, ready[0])
    assert again(lab, run_id) == ["each.1.do"]
    behind = []
    while ready := lab.ready(run_id):
        behind.append((ready[0], -1 - lab.step(run_id, "each")["children_next"]))
        lab.do(run_id, *ready)
    assert behind == [("each.1.do", 2), ("each.2.do", 3), ("each.3.do", 4), ("each.5.do", 6)]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("window", [None, 2])
def test_retry_of_a_child_of_a_loop_that_still_runs(lab: Lab, window: int | None) -> None:
    """It goes back into the window when there is room, and the loop's counters are right."""
    lab.flow({"each": loop("@triggerBody().items", concurrency=window)})
    run_id = lab.start(body={"items": [0, 1, 2, 3]})
    lab.do_fail(run_id, "each.0.do")
    retried = again(lab, run_id, "each.0.do")
    assert retried == (["each.0.do"] if window is None else [])
    lab.audit()
    while ready := lab.ready(run_id):
        lab.do(run_id, ready[-1])
        lab.audit()
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert reads.steps.output(lab.ledger, run_id, "each") == [f"each.{n}.do" for n in range(4)]


def test_retry_of_everything_takes_failed_children_of_open_loops(lab: Lab) -> None:
    """Every failed step means those too."""
    lab.flow({"each": loop([1, 2, 3])})
    run_id = lab.start()
    lab.do_fail(run_id, "each.1.do")
    assert again(lab, run_id) == ["each.1.do"]
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_retry_of_a_stopped_run_goes_on_where_it_was(lab: Lab, how: str) -> None:
    """Cancelled steps and loops run on; the deadline that has passed is dropped."""
    steps = {
        "a": call(),
        "b": after("a"),
        "each": loop([1, 2, 3], concurrency=2),
        "later": loop("@steps('a').output"),
        "end": after("b", "each", "later"),
    }
    run_id = lab.run(steps, deadline="PT60S")
    lab.do(run_id, "each.0.do")
    a = lab.take(run_id, "a", lease=timedelta(hours=1))
    if how == "cancel":
        cancel(lab, run_id)
    lab.forward(61)
    if how == "deadline":
        sweep.deadlines(lab.ledger, GRACE)
    with pytest.raises(Conflict, match="being stopped"):
        again(lab, run_id)
    lab.done(a, [7, 8])
    assert lab.status(run_id) is (RunStatus.CANCELLED if how == "cancel" else RunStatus.TIMED_OUT)
    assert again(lab, run_id) == ["b", "each.1.do", "each.2.do", "later.0.do", "later.1.do"]
    lab.audit()
    assert sweep.deadlines(lab.ledger, GRACE).changed == 0
    lab.drain(run_id, chain=True)
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_deadline_that_lies_ahead_still_holds_after_a_retry(lab: Lab) -> None:
    """A new epoch does not bring a new deadline."""
    run_id = lab.run({"a": call()}, deadline="PT60S")
    lab.do_fail(run_id, "a")
    again(lab, run_id)
    lab.forward(61)
    assert sweep.deadlines(lab.ledger, GRACE).changed == 1
    assert lab.status(run_id) is RunStatus.TIMED_OUT


def test_retry_of_a_loop_whose_children_had_all_succeeded(lab: Lab) -> None:
    """Cancelled between its last child and its own end: nothing runs, the loop collects, the run goes on."""
    lab.flow({"each": loop([1]), "end": after("each")})
    run_id = lab.start()
    lease = lab.take(run_id, "each.0.do")
    cancel(lab, run_id)
    lab.done(lease, "out")
    assert lab.statuses(run_id) == {"each": "cancelled", "each.0.do": "succeeded", "end": "cancelled"}
    assert again(lab, run_id) == ["end"]
    assert reads.steps.output(lab.ledger, run_id, "each") == ["out"]
    lab.do(run_id, "end")
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("output", [[], {"no": "list"}])
def test_retry_opens_loops_over_nothing_too(lab: Lab, output: Any) -> None:
    """An empty list ends the loop at once, a wrong one fails it again: both are answers, not crashes."""
    lab.flow({"a": call(), "each": loop("@steps('a').output")})
    run_id = lab.start()
    lease = lab.take(run_id, "a")
    cancel(lab, run_id)
    lab.done(lease, output)
    assert again(lab, run_id) == []
    assert lab.status(run_id) is (RunStatus.FAILED if output else RunStatus.SUCCEEDED)


def test_retry_of_everything_takes_a_failed_handler_along(lab: Lab) -> None:
    """A handler of a failure that failed itself waits for what it handles, and is skipped when that succeeds."""
    run_id = lab.run({"a": call(), "rescue": call(run_after={"a": ["failed"]}), "ok": after("a")})
    lab.do_fail(run_id, "a")
    lab.do_fail(run_id, "rescue")
    assert again(lab, run_id) == ["a"]
    lab.audit()
    lab.do(run_id, "a", "ok")
    assert lab.statuses(run_id) == {"a": "succeeded", "ok": "succeeded", "rescue": "skipped"}
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_what_cannot_run_stays_as_it_is(lab: Lab) -> None:
    """A cancelled handler of a failure that did not come is left alone; asked for by name it is refused."""
    run_id = lab.run({"a": call(), "b": call(), "rescue": call(run_after={"a": ["failed"], "b": ["succeeded"]})})
    lab.do(run_id, "a")
    b = lab.take(run_id, "b")
    cancel(lab, run_id)
    lab.fail(b)
    with pytest.raises(Conflict, match="rescue cannot run"):
        again(lab, run_id, "rescue")
    assert again(lab, run_id) == ["b"]
    lab.do(run_id, "b")
    assert lab.statuses(run_id) == {"a": "succeeded", "b": "succeeded", "rescue": "skipped"}


def test_what_cannot_be_retried(lab: Lab) -> None:
    """Nothing is written, and the reason is named."""
    run_id = lab.run({"a": call(), "b": after("a"), "each": loop([1])})
    for key, error, why in (
        (None, Conflict, "none of its steps failed"),
        ("a", Conflict, "step a is ready"),
        ("x", StepNotFound, "has no step 'x'"),
        ("a.1.b", StepNotFound, "has no step"),
        ("each.0.do", Conflict, "did not fail"),
        ("each.0", Conflict, "step each.0.do did not fail"),
        ("each.7.do", StepNotFound, "has no step 'each.7.do'"),
        ("each.7", StepNotFound, "has no step 'each.7.do'"),
        ("each.x", StepNotFound, "has no step 'each.x'"),
    ):
        with pytest.raises(error, match=why):
            again(lab, run_id, key)
    lab.do_fail(run_id, "a")
    with pytest.raises(Conflict, match="step b is skipped"):
        again(lab, run_id, "b")
    lab.do(run_id, "each.0.do")
    done = lab.start(flow="demo")
    lab.drain(done)
    before = lab.snapshot()
    with pytest.raises(Conflict, match=r"it succeeded\. Fix: `orchestrator run rerun .*` makes a new run of it"):
        again(lab, done)
    assert lab.snapshot() == before


def test_an_item_of_a_loop_of_one_step_is_that_step(lab: Lab) -> None:
    """Messages and pages call it `each.1`."""
    run_id = lab.run({"each": loop([1, 2])})
    lab.do(run_id, "each.0.do")
    lab.do_fail(run_id, "each.1.do")
    assert again(lab, run_id, "each.1") == ["each.1.do"]
    with pytest.raises(StepNotFound, match=r"has no step 'each\.1'\. Fix: did you mean `each\.1\.do`"):
        reads.steps.get(lab.ledger, run_id, "each.1")


def test_retry_after_a_queue_timeout(lab: Lab) -> None:
    """A run that nobody ever claimed anything of begins."""
    run_id = lab.run({"a": call(queue_timeout="PT10S")})
    lab.forward(11)
    sweep.queue_timeouts(lab.ledger)
    assert lab.status(run_id) is RunStatus.FAILED
    assert again(lab, run_id, "a") == ["a"]
    lab.do(run_id, "a")
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("handler", ["succeeded", "running", "failed"])
def test_retry_of_a_failure_that_was_handled(lab: Lab, handler: str) -> None:
    """What ran after the failure is not run again; the run waits for both all the same."""
    both = ["succeeded", "failed"]
    run_id = lab.run({"a": call(), "tidy": call(run_after={"a": both})})
    lab.do_fail(run_id, "a")
    held = lab.take(run_id, "tidy")
    if handler == "succeeded":
        lab.done(held)
        with pytest.raises(Conflict, match="it succeeded"):
            again(lab, run_id, "a")
        return
    if handler == "failed":
        lab.fail(held)
    assert again(lab, run_id, "a") == ["a"]
    lab.audit()
    retried = lab.take(run_id, "a")
    if handler == "running":
        assert lab.done(held).run_status is None
        assert lab.done(retried, chain=True).run_status is RunStatus.SUCCEEDED
    else:
        assert lab.done(retried, chain=True).run_status is RunStatus.FAILED
