"""Failed attempts: back-off, crash budget, skip cascades, handlers of failures, time limits."""

from datetime import timedelta
from typing import Any

import pytest

from orchestrator.core.facts import Failure, StepError
from orchestrator.core.plan import WINDOW
from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import explain
from orchestrator.engine.steps import fail_step, release, retry_step
from orchestrator.engine.sweeps import sweep
from orchestrator.errors import Conflict, LeaseLost
from orchestrator.ledger import reads
from tests.support.factories import LEASE, Lab, after, call, keys, loop, retry

GRACE = timedelta(seconds=10)


# ---- retries ----


def test_back_off_is_a_row_that_is_never_due_early(lab: Lab) -> None:
    """Two failures of three attempts wait 10 s and 60 s by the ledger's clock; the third fails the step."""
    run_id = lab.run({"a": call(retry=retry(3, 10, 60))})
    for attempt, delay in ((1, 10), (2, 60)):
        assert lab.status(run_id) is (RunStatus.PENDING if attempt == 1 else RunStatus.RUNNING)
        before = lab.now()
        lab.fail(lab.take(run_id, "a"))
        step = lab.step(run_id, "a")
        assert step["status"] == "waiting"
        assert before + timedelta(seconds=delay) <= step["due_at"] <= lab.now() + timedelta(seconds=delay)
        assert lab.status(run_id) is RunStatus.WAITING
        assert 0 < (sweep.due(lab.ledger).next_s or 0) <= delay
        lab.forward(delay - 5)
        assert sweep.due(lab.ledger).changed == 0
        assert lab.try_take(run_id, "a") is None
        lab.forward(6)
        assert keys(sweep.due(lab.ledger).dispatches) == ["a"]
        assert sweep.due(lab.ledger).changed == 0
    lease = lab.take(run_id, "a")
    assert lease.attempt == 3
    assert lab.status(run_id) is RunStatus.RUNNING
    assert lab.fail(lease).run_status is RunStatus.FAILED
    assert lab.attempts(run_id, "a") == [(1, "failed"), (2, "failed"), (3, "failed")]
    assert reads.runs.get(lab.ledger, run_id).error == {"step": "a", "type": "ValueError", "message": "boom"}


def test_success_after_a_retry(lab: Lab) -> None:
    """What failed once succeeds, and the run with it."""
    run_id = lab.run({"a": call(retry=retry(2, 1)), "b": after("a")})
    lab.fail(lab.take(run_id, "a"))
    lab.forward(2)
    sweep.due(lab.ledger)
    assert lab.drain(run_id) == ["a", "b"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert lab.attempts(run_id, "a") == [(1, "failed"), (2, "succeeded")]


def test_an_error_that_is_not_retried_fails_at_once(lab: Lab) -> None:
    """`never_retry` reaches the engine as `retryable=False`."""
    run_id = lab.run({"a": call(retry=retry(5))})
    assert lab.fail(lab.take(run_id, "a"), retryable=False).run_status is RunStatus.FAILED
    assert lab.attempts(run_id, "a") == [(1, "failed")]


def test_jitter_spreads_the_back_off(lab: Lab) -> None:
    """Full jitter: the worker's random number scales the pause."""
    run_id = lab.run({"a": call(retry={"max_attempts": 3, "backoff": {"first": "PT100S", "cap": "PT500S"}})})
    before = lab.now()
    lab.fail(lab.take(run_id, "a"), jitter=0.25)
    pause = lab.step(run_id, "a")["due_at"] - before
    assert timedelta(seconds=25) <= pause <= timedelta(seconds=35)


def test_long_tracebacks_keep_their_end(lab: Lab) -> None:
    """The cause stands at the end."""
    run_id = lab.run({"a": call()})
    lab.do_fail(run_id, "a", error=StepError("E", "m", "x" * 50_000 + "CAUSE"))
    (attempt,) = reads.steps.attempts(lab.ledger, run_id, "a")
    assert attempt.error_traceback is not None
    assert len(attempt.error_traceback) < 20_000
    assert attempt.error_traceback.endswith("CAUSE")


# ---- crashes ----


def test_a_crash_charges_no_retry_but_has_its_own_budget(lab: Lab) -> None:
    """A poison step that kills its workers is re-run `crash_limit` times, then fails with the reason."""
    run_id = lab.run({"a": call(retry=retry(9)), "b": after("a")})
    for crash in range(4):
        lease = lab.take(run_id, "a", owner=f"w{crash}")
        lab.forward(LEASE + timedelta(seconds=1))
        swept = sweep.expired(lab.ledger, crash_limit=3)
        assert swept.changed == 1
        assert keys(swept.dispatches) == (["a"] if crash < 3 else [])
        with pytest.raises(LeaseLost):
            lab.done(lease)
    assert lab.statuses(run_id) == {"a": "failed", "b": "skipped"}
    assert lab.step(run_id, "a")["reason"] == "its worker was lost 4 times while it ran; the last was w3"
    assert lab.attempts(run_id, "a") == [(n, "crashed") for n in (1, 2, 3, 4)]
    error = reads.runs.get(lab.ledger, run_id).error
    assert error is not None
    assert error["type"] == "WorkerLost"
    assert lab.step(run_id, "a")["failures"] == 0


def test_a_dead_worker_gives_its_steps_back_at_once(lab: Lab) -> None:
    """A pool child that died is noticed long before its lease runs out; its siblings are not touched."""
    lab.flow({"each": loop("@triggerBody().items")})
    run_id = lab.start(body={"items": list(range(4))})
    owners = ["h/1/r/10", "h/1/r/11", "h/1/r", "h/1/r2"]
    for n, owner in enumerate(owners):
        lab.take(run_id, f"each.{n}.do", owner=owner)
    assert keys(release.end_owned(lab.ledger, "h/1/r/10", crash_limit=3)) == ["each.0.do"]
    assert keys(release.end_owned(lab.ledger, "h/1/r", crash_limit=3)) == ["each.1.do", "each.2.do"]
    assert release.end_owned(lab.ledger, "h/1/r", crash_limit=3) == ()
    assert lab.statuses(run_id)["each.3.do"] == "running"


def test_an_owner_is_no_pattern(lab: Lab) -> None:
    """`%` and `_` in a host name match themselves only."""
    run_id = lab.run({"a": call(), "b": call()})
    lab.take(run_id, "a", owner="h_st/1/r/1")
    lab.take(run_id, "b", owner="host/1/r/1")
    assert keys(release.end_owned(lab.ledger, "h_st/1/r", crash_limit=3)) == ["a"]


def test_more_claims_than_a_page_are_all_given_back(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that prefetched much dies as one that prefetched little."""
    monkeypatch.setattr(release, "PAGE", 3)
    lab.flow({"each": loop("@triggerBody().items")})
    run_id = lab.start(body={"items": list(range(8))})
    for key in lab.ready(run_id):
        lab.take(run_id, key, owner="w/1/x")
    assert len(release.end_owned(lab.ledger, "w/1/x", crash_limit=3)) == 8


def test_a_bad_row_does_not_stop_the_page(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step that cannot be ended is logged; the ones after it are ended."""
    run_id = lab.run({"a": call(), "b": call()})
    for key in ("a", "b"):
        lab.take(run_id, key)
    lab.forward(LEASE * 2)
    original = release.fail_step.failed

    def failing(held: Any, step_key: str, *rest: Any, **more: Any) -> Any:
        if step_key == "a":
            raise RuntimeError("bad row")
        return original(held, step_key, *rest, **more)

    monkeypatch.setattr(release.fail_step, "failed", failing)
    sweep.expired(lab.ledger, crash_limit=0)
    assert lab.statuses(run_id) == {"a": "running", "b": "failed"}


def test_released_claims_charge_nothing(lab: Lab) -> None:
    """A warm shutdown gives back what it had not started; the fence still rises."""
    run_id = lab.run({"a": call(retry=retry(1))})
    first = lab.take(run_id, "a")
    (dispatch,) = release.release(lab.ledger, first)
    assert (dispatch.step_key, dispatch.number) == ("a", 2)
    assert lab.attempts(run_id, "a") == []
    assert release.release(lab.ledger, first) == ()
    second = lab.take(run_id, "a")
    assert (second.attempt, second.fence) == (1, 2)
    with pytest.raises(LeaseLost):
        lab.done(first)
    with pytest.raises(LeaseLost):
        lab.fail(first)
    assert lab.done(second).run_status is RunStatus.SUCCEEDED


# ---- skips and handlers ----


def test_skips_travel_with_their_reasons(lab: Lab) -> None:
    """Each skipped step names the predecessor that did not end as asked."""
    run_id = lab.run({"a": call(), "b": after("a"), "c": after("b"), "d": call(), "e": after("c", "d")})
    lab.do_fail(run_id, "a")
    assert lab.status(run_id) is RunStatus.RUNNING
    assert lab.do(run_id, "d").run_status is RunStatus.FAILED
    reasons = {step.key: step.reason for step in reads.steps.page(lab.ledger, run_id) if step.status == "skipped"}
    assert reasons == {
        "b": "a failed, `run_after` asks for succeeded",
        "c": "b was skipped, `run_after` asks for succeeded",
        "e": "c was skipped, `run_after` asks for succeeded",
    }
    assert "step.skipped e" in lab.events(run_id)


def test_a_handled_failure_does_not_fail_the_run(lab: Lab) -> None:
    """`run_after: failed` is the flow's own answer to a failure."""
    run_id = lab.run({"a": call(), "b": after("a"), "rescue": call(run_after={"a": ["failed"]})})
    assert keys(lab.do_fail(run_id, "a").dispatches) == ["rescue"]
    assert lab.do(run_id, "rescue").run_status is RunStatus.SUCCEEDED
    assert lab.statuses(run_id) == {"a": "failed", "b": "skipped", "rescue": "succeeded"}
    assert reads.runs.get(lab.ledger, run_id).error is None


def test_a_failure_whose_handler_is_skipped_fails_the_run(lab: Lab) -> None:
    """The handler asks for two failures, and gets one."""
    run_id = lab.run({"a": call(), "b": call(), "rescue": call(run_after={"a": ["failed"], "b": ["failed"]})})
    lab.do_fail(run_id, "a")
    assert lab.do(run_id, "b").run_status is RunStatus.FAILED
    assert lab.statuses(run_id) == {"a": "failed", "b": "succeeded", "rescue": "skipped"}
    assert reads.runs.get(lab.ledger, run_id).error == {"step": "a", "type": "ValueError", "message": "boom"}


def test_one_handler_that_runs_is_enough(lab: Lab) -> None:
    """Of two that asked for the failure, one is skipped."""
    both = call(run_after={"a": ["failed"], "b": ["failed"]})
    run_id = lab.run({"a": call(), "b": call(), "both": both, "rescue": call(run_after={"a": ["failed"]})})
    lab.do_fail(run_id, "a")
    lab.do(run_id, "b")
    assert lab.do(run_id, "rescue").run_status is RunStatus.SUCCEEDED


def test_two_handlers_skipped_together_count_one_failure(lab: Lab) -> None:
    """And a retry that lets them run takes it back."""
    both = {f"r{n}": call(run_after={"a": ["failed"], "b": ["failed"]}) for n in range(2)}
    run_id = lab.run({"a": call(), "b": call(), **both})
    lab.do_fail(run_id, "a")
    lab.do(run_id, "b")
    assert lab.run_row(run_id)["failures"] == 1
    retry_step.retry(lab.ledger, run_id, "a", by="op")
    assert lab.run_row(run_id)["failures"] == 0
    assert lab.do(run_id, "a").run_status is RunStatus.SUCCEEDED


def test_a_loop_whose_handler_is_skipped_says_so(lab: Lab) -> None:
    """The run's error is the loop's."""
    rescue = call(run_after={"a": ["failed"], "b": ["failed"]})
    run_id = lab.run({"a": loop("@triggerBody()"), "b": call(), "rescue": rescue}, body={"no": "list"})
    assert lab.do(run_id, "b").run_status is RunStatus.FAILED
    error = reads.runs.get(lab.ledger, run_id).error
    assert error is not None
    assert (error["step"], error["type"]) == ("a", "LoopFailed")


def test_the_handler_is_skipped_when_nothing_failed(lab: Lab) -> None:
    """And the run succeeds."""
    run_id = lab.run({"a": call(), "b": after("a"), "rescue": call(run_after={"a": ["failed"]})})
    lab.do(run_id, "a")
    assert lab.step(run_id, "rescue")["reason"] == "a succeeded, `run_after` asks for failed"
    assert lab.do(run_id, "b").run_status is RunStatus.SUCCEEDED


def test_a_step_may_run_after_anything(lab: Lab) -> None:
    """A clean-up step accepts every end."""
    every = ["succeeded", "failed", "skipped", "cancelled"]
    run_id = lab.run({"a": call(), "b": after("a"), "tidy": call(run_after={"a": every, "b": every})})
    lab.do_fail(run_id, "a")
    assert lab.inputs(lab.take(run_id, "tidy")) == {}
    assert lab.statuses(run_id) == {"a": "failed", "b": "skipped", "tidy": "running"}
    lab.forward(LEASE * 2)
    sweep.expired(lab.ledger, crash_limit=3)
    assert lab.do(run_id, "tidy").run_status is RunStatus.SUCCEEDED


def test_the_output_of_a_failed_step_is_null(lab: Lab) -> None:
    """References to what never came give null."""
    run_id = lab.run(
        {"a": call(), "b": call(inputs={"x": "@steps('a').output.y"}, run_after={"a": ["failed", "succeeded"]})}
    )
    lab.do_fail(run_id, "a")
    assert lab.inputs(lab.take(run_id, "b")) == {"x": None}
    lab.forward(LEASE * 2)
    sweep.expired(lab.ledger, crash_limit=3)


def test_the_first_unhandled_failure_explains_the_run(lab: Lab) -> None:
    """A handled one before it does not, and later ones do not either."""
    run_id = lab.run({"a": call(), "rescue": call(run_after={"a": ["failed"]}), "b": call(), "c": call()})
    lab.do_fail(run_id, "a", error=StepError("E", "handled"))
    lab.do(run_id, "rescue")
    lab.do_fail(run_id, "b", error=StepError("E", "first"))
    lab.do_fail(run_id, "c", error=StepError("E", "second"))
    assert reads.runs.get(lab.ledger, run_id).error == {"step": "b", "type": "E", "message": "first"}


@pytest.mark.parametrize("last_fails", [False, True])
def test_a_loop_names_its_first_failed_item(lab: Lab, last_fails: bool) -> None:
    """By index, not by time, and whoever ends last."""
    lab.flow({"each": loop("@triggerBody().items"), "join": after("each")})
    run_id = lab.start(body={"items": [0, 1, 2]})
    lab.do_fail(run_id, "each.2.do", error=StepError("E", "two"))
    if last_fails:
        lab.do(run_id, "each.1.do")
        lab.do_fail(run_id, "each.0.do", error=StepError("E", "zero"))
    else:
        lab.do_fail(run_id, "each.0.do", error=StepError("E", "zero"))
        lab.do(run_id, "each.1.do")
    message = "2 of its items failed; the first, each.0.do: zero"
    assert lab.statuses(run_id) | {"each.1.do": ""} == {
        "each": "failed",
        "each.0.do": "failed",
        "each.1.do": "",
        "each.2.do": "failed",
        "join": "skipped",
    }
    assert lab.step(run_id, "each")["reason"] == message
    assert lab.status(run_id) is RunStatus.FAILED
    assert reads.runs.get(lab.ledger, run_id).error == {"step": "each.0.do", "type": "LoopFailed", "message": message}


def test_children_retry_inside_their_window(lab: Lab) -> None:
    """A child that waits for its back-off keeps its place in a window the user set."""
    lab.flow({"each": loop("@triggerBody().items", concurrency=1, body={"retry": retry(2, 5)})})
    run_id = lab.start(body={"items": [0, 1]})
    assert lab.fail(lab.take(run_id, "each.0.do")).dispatches == ()
    lab.audit()
    lab.forward(6)
    sweep.due(lab.ledger)
    assert lab.drain(run_id) == ["each.0.do", "each.1.do"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


# ---- limits ----


def test_queue_timeout_fails_what_nobody_claims(lab: Lab) -> None:
    """The limit counts from the moment the step became ready, by the ledger's clock."""
    run_id = lab.run({"a": call(queue_timeout="PT60S"), "b": call(run_after={"a": ["failed"]}, queue_timeout="PT60S")})
    lab.forward(55)
    assert sweep.queue_timeouts(lab.ledger).changed == 0
    lab.forward(6)
    assert keys(sweep.queue_timeouts(lab.ledger).dispatches) == ["b"]
    assert lab.step(run_id, "a")["reason"] == "no worker claimed it within its queue_timeout of 1m"
    assert lab.attempts(run_id, "a") == []
    lease = lab.take(run_id, "b")
    lab.forward(100)
    assert sweep.queue_timeouts(lab.ledger).changed == 0
    assert lab.done(lease).run_status is RunStatus.SUCCEEDED


def test_step_timeout_is_retried_then_fails(lab: Lab) -> None:
    """The worker ends the overrun in the ledger first; what the handler still reports is refused."""
    run_id = lab.run({"a": call(timeout="PT20S", retry=retry(2, 1)), "b": call()})
    first = lab.take(run_id, "a", owner="h/1/r/7", lease=timedelta(seconds=600))
    b = lab.take(run_id, "b", owner="h/1/r/8", lease=timedelta(seconds=600))
    assert first.stop_at is not None
    lab.forward(15)
    assert sweep.overruns(lab.ledger, "h/1/r") == []
    lab.forward(6)
    assert sweep.overruns(lab.ledger, "other/1/r") == []
    (overrun,) = sweep.overruns(lab.ledger, "h/1/r")
    assert (overrun.step_key, overrun.why, overrun.owner) == ("a", "timeout", "h/1/r/7")
    with pytest.raises(LeaseLost):
        lab.done(first)
    assert lab.statuses(run_id) == {"a": "waiting", "b": "running"}
    lab.forward(2)
    sweep.due(lab.ledger)
    lab.take(run_id, "a", owner="h/1/r/7", lease=timedelta(seconds=600))
    lab.forward(21)
    (overrun,) = sweep.overruns(lab.ledger, "h/1/r/7")
    assert lab.attempts(run_id, "a") == [(1, "timed_out"), (2, "timed_out")]
    assert lab.step(run_id, "a")["reason"] == "it ran longer than its timeout of 20s"
    assert lab.done(b).run_status is RunStatus.FAILED


def test_deadline_ends_the_run_timed_out(lab: Lab) -> None:
    """Like a cancel: nothing starts any more, running handlers get the grace."""
    run_id = lab.run({"a": call(), "b": after("a"), "c": call()}, deadline="PT60S")
    a = lab.take(run_id, "a", lease=timedelta(seconds=600))
    lab.forward(55)
    assert sweep.deadlines(lab.ledger, GRACE).changed == 0
    lab.forward(6)
    assert sweep.deadlines(lab.ledger, GRACE).changed == 1
    assert sweep.deadlines(lab.ledger, GRACE).changed == 0
    assert lab.statuses(run_id) == {"a": "running", "b": "cancelled", "c": "cancelled"}
    assert lab.done(a).run_status is RunStatus.TIMED_OUT
    row = reads.runs.get(lab.ledger, run_id)
    assert row.error == {"type": "timed_out", "message": "the run passed its deadline", "by": None}
    assert "run.deadline_passed" in lab.events(run_id)


def test_deadline_of_a_run_nobody_claimed(lab: Lab) -> None:
    """It ends at once."""
    run_id = lab.run({"a": call()}, deadline="PT60S")
    lab.forward(61)
    sweep.deadlines(lab.ledger, GRACE)
    assert lab.status(run_id) is RunStatus.TIMED_OUT


def test_deadlines_of_ended_runs_are_closed(lab: Lab) -> None:
    """Otherwise every sweep would look at every run there ever was."""
    done = lab.run({"a": call()}, deadline="PT60S")
    lab.do(done, "a")
    failed = lab.start()
    lab.do_fail(failed, "a")
    lab.forward(61)
    assert sweep.deadlines(lab.ledger, GRACE).changed == 0


def test_a_loop_without_a_window_lets_others_in_while_a_child_waits(lab: Lab) -> None:
    """The product's own window is for speed, not a limit: a child in its back-off does not use it up."""
    lab.flow({"each": loop("@triggerBody().items", body={"retry": retry(2, 5)})})
    run_id = lab.start(body={"items": list(range(WINDOW + 3))})
    assert len(lab.ready(run_id)) == WINDOW
    assert keys(lab.fail(lab.take(run_id, "each.0.do")).dispatches) == [f"each.{WINDOW}.do"]
    assert keys(lab.do(run_id, "each.1.do").dispatches) == [f"each.{WINDOW + 1}.do"]
    assert keys(lab.do_fail(run_id, "each.2.do").dispatches) == [f"each.{WINDOW + 2}.do"]
    assert lab.do(run_id, "each.3.do").dispatches == ()
    lab.forward(6)
    sweep.due(lab.ledger)
    assert len(lab.drain(run_id, chain=True)) == WINDOW
    assert lab.status(run_id) is RunStatus.FAILED
    assert retry_step.retry(lab.ledger, run_id, None, by="op")[0].step_key == "each.2.do"
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_all_steps_that_made_up_for_a_failure_are_named(lab: Lab) -> None:
    run_id = lab.run(
        {
            "pay": call(),
            "flight": call(run_after={"pay": ["failed"]}),
            "room": call(run_after={"pay": ["failed"]}),
            "end": after("flight", "room"),
        }
    )
    lab.do_fail(run_id, "pay")
    lab.do(run_id, "flight")
    lab.do(run_id, "room")
    lab.do_fail(run_id, "end")
    assert "Steps flight and room ran because of the failure" in explain.explain(lab.ledger, run_id).sentence
    with pytest.raises(Conflict, match="like this: steps flight and room ran because of the failure"):
        retry_step.retry(lab.ledger, run_id, None, by="op")


def test_a_retry_is_advised_only_where_it_helps(lab: Lab) -> None:
    """Who follows the hint must not ship what was refunded."""
    saga = {
        "charge": call(),
        "ship": after("charge"),
        "refund": call(run_after={"ship": ["failed"]}),
        "end": call(run_after={"refund": ["succeeded"]}),
    }
    run_id = lab.run(saga)
    lab.do(run_id, "charge")
    lab.do_fail(run_id, "ship")
    lab.do(run_id, "refund")
    lab.do_fail(run_id, "end")
    said = explain.explain(lab.ledger, run_id)
    assert "Step refund ran because of the failure, and a retry does not take that back" in said.sentence
    assert said.command == f"orchestrator run show {run_id}"
    for key in (None, "ship"):
        with pytest.raises(Conflict, match=r"refund ran because of the failure.*Fix: .*new run.*--force.*force=True"):
            retry_step.retry(lab.ledger, run_id, key, by="op")
    assert keys(retry_step.retry(lab.ledger, run_id, "ship", by="op", force=True)) == ["ship"]
    lab.do_fail(run_id, "ship")
    # What the refund answered stays as it is, so nothing is shipped here.
    assert keys(retry_step.retry(lab.ledger, run_id, "end", by="op")) == ["end"]
    wrong = lab.run({"a": call()})
    lab.do_fail(wrong, "a", error=StepError("orchestrator.errors.InputInvalid", "amount: no number"))
    said = explain.explain(lab.ledger, wrong)
    assert "does not change" in said.sentence
    assert said.command == f"orchestrator run show {wrong}/a"
    bad = lab.start()
    text = "The result does not fit: it is a set. Fix: change the result or the annotation at m.py:3. [output_invalid]"
    lab.do_fail(bad, "a", error=StepError("orchestrator.errors.OutputInvalid", text))
    said = explain.explain(lab.ledger, bad)
    assert said.sentence.endswith(
        "The result does not fit: it is a set. Fix: change the result or the annotation at m.py:3, then "
        f"`orchestrator run retry {bad}` runs it again."
    )
    plain = lab.start()
    lab.do_fail(plain, "a")
    assert explain.explain(lab.ledger, plain).command == f"orchestrator run retry {plain}"


def test_inputs_are_kept_up_to_one_length_however_the_attempt_ends(lab: Lab) -> None:
    """A large input and many retries would fill the table with copies; the references say where it came from."""
    run_id = lab.run({"a": call(inputs={"text": "@triggerBody().text"}, retry=retry(5, 1))}, {"text": "x" * 100_000})
    inputs = '{"text": "%s"}' % ("x" * 100_000)
    for kept in (inputs, '{"text": "short"}'):
        lease = lab.take(run_id, "a")
        fail_step.fail(lab.ledger, lease, Failure(StepError("E", "m"), inputs=kept))
        lab.forward(60)
        sweep.due(lab.ledger)
    lab.done(lab.take(run_id, "a"), inputs=inputs)
    rows = lab.rows("SELECT inputs FROM flow_step_attempts ORDER BY attempt")
    assert [row["inputs"] for row in rows] == [None, {"text": "short"}, None]


@pytest.mark.slow
def test_a_list_of_results_that_is_too_large_fails_its_loop_and_no_child(lab: Lab) -> None:
    """More than a value of PostgreSQL may hold. Compressed it is small, so this costs no memory."""
    run_id = lab.run(
        {"each": loop("@triggerBody().items"), "last": call(run_after={"each": ["succeeded"]})},
        {"items": list(range(40))},
    )
    *others, last = [lab.take(run_id, f"each.{n}.do") for n in range(40)]
    for lease in others:
        lab.done(lease)
    lab.execute(
        "UPDATE flow_outputs SET output = to_json(repeat('x', 27000000)) WHERE run_id = %s AND step_key LIKE 'each.%%'",
        run_id,
    )
    finished = lab.done(last)
    assert finished.run_status is RunStatus.FAILED
    (row,) = lab.rows("SELECT status, reason FROM flow_steps WHERE run_id = %s AND step_key = 'each'", run_id)
    assert row["status"] == "failed"
    assert "too large" in row["reason"]
    children = lab.rows("SELECT DISTINCT status FROM flow_steps WHERE run_id = %s AND loop_key = 'each'", run_id)
    assert [row["status"] for row in children] == ["succeeded"]


def test_an_undone_attempt_is_charged_as_a_crash_or_not_at_all(lab: Lab) -> None:
    run_id = lab.run({"a": call(transactional=True)})
    error = StepError("TransactionLost", "its transaction was lost")
    assert keys(release.undone(lab.ledger, lab.take(run_id, "a"), error, crash_limit=None).dispatches) == ["a"]
    assert keys(release.undone(lab.ledger, lab.take(run_id, "a"), error, crash_limit=1).dispatches) == ["a"]
    lease = lab.take(run_id, "a")
    assert release.undone(lab.ledger, lease, error, crash_limit=1).run_status is RunStatus.FAILED
    with pytest.raises(LeaseLost):
        release.undone(lab.ledger, lease, error, crash_limit=1)
    (row,) = lab.rows("SELECT crashes, failures FROM flow_steps WHERE run_id = %s", run_id)
    assert (row["crashes"], row["failures"]) == (2, 0)
