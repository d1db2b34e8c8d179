"""Steps that poll: one clock for each epoch, retries for errors in a row, rows and events that do not grow."""

from datetime import timedelta
from typing import Any

import pytest

from orchestrator.core.facts import Lease, NotReady, StepError
from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import cancel_run, explain
from orchestrator.engine.steps import polls, release, retry_step
from orchestrator.engine.sweeps import sweep
from orchestrator.errors import LeaseLost
from orchestrator.ledger.polls import KEPT
from tests.support.factories import Lab, after, call, keys, loop, retry

GRACE = timedelta(seconds=10)


def poll(every: float = 10, timeout: float = 60, **fields: Any) -> dict[str, Any]:
    """A step's `poll`."""
    return {"every": f"PT{every}S", "timeout": f"PT{timeout}S", **fields}


def not_yet(lab: Lab, lease: Lease, why: str = "in customs", **fields: Any) -> Any:
    """What a worker records for `raise NotYet(why)`."""
    return polls.not_yet(lab.ledger, lease, NotReady(why, **fields))


def ask(lab: Lab, run_id: Any, key: str = "a", **fields: Any) -> Any:
    """Let the timer go off, claim, and be told that it is not ready."""
    sweep.due(lab.ledger)
    return not_yet(lab, lab.take(run_id, key), **fields)


def test_a_step_is_asked_again_until_it_is_ready(lab: Lab) -> None:
    """A poll is a row that waits, never before its time; its attempts are told apart from failed ones."""
    run_id = lab.run({"a": call(poll=poll()), "b": after("a")})
    for _ in range(2):
        before = lab.now()
        ask(lab, run_id)
        step = lab.step(run_id, "a")
        assert step["status"] == "waiting"
        assert before + timedelta(seconds=10) <= step["due_at"] <= lab.now() + timedelta(seconds=10)
        assert lab.status(run_id) is RunStatus.WAITING
        lab.forward(9)
        assert sweep.due(lab.ledger).changed == 0
        lab.forward(2)
    sweep.due(lab.ledger)
    assert lab.drain(run_id) == ["a", "b"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert lab.attempts(run_id, "a") == [(1, "polled"), (2, "polled"), (3, "succeeded")]
    assert lab.step(run_id, "a")["polls"] == 2


def test_the_clock_is_that_of_the_first_claim(lab: Lab) -> None:
    """Attempts that fail, are lost or released move neither the clock nor the count."""
    run_id = lab.run({"a": call(poll=poll(timeout=100), retry=retry(3, 10))})
    ask(lab, run_id)
    started = lab.step(run_id, "a")["started_at"]
    lab.forward(11)
    sweep.due(lab.ledger)
    lab.fail(lab.take(run_id, "a"))
    lab.forward(11)
    sweep.due(lab.ledger)
    release.release(lab.ledger, lab.take(run_id, "a"))
    lab.take(run_id, "a", owner="dead/1")
    release.end_owned(lab.ledger, "dead", crash_limit=3)
    step = lab.step(run_id, "a")
    assert (step["polls"], step["started_at"], step["status"]) == (1, started, "ready")
    lab.forward(100)
    assert not_yet(lab, lab.take(run_id, "a")).run_status is RunStatus.FAILED


def test_the_last_poll_is_at_the_deadline_and_then_it_is_over(lab: Lab) -> None:
    """No pause goes beyond the deadline; the step is asked there once more, and never retried."""
    run_id = lab.run({"a": call(poll=poll(every=40, timeout=60), retry=retry(5))})
    ask(lab, run_id)
    deadline = lab.step(run_id, "a")["started_at"] + timedelta(seconds=60)
    lab.forward(41)
    ask(lab, run_id)
    assert lab.step(run_id, "a")["due_at"] == deadline
    lab.forward(20)
    finished = ask(lab, run_id, why="still in customs")
    assert finished.run_status is RunStatus.FAILED
    message = "not ready after 1m, 3 polls; last: still in customs"
    assert lab.run_row(run_id)["error"] == {"step": "a", "type": "PollTimeout", "message": message}
    assert lab.attempts(run_id, "a") == [(1, "polled"), (2, "polled"), (3, "failed")]


def test_a_long_outage_times_no_step_out_unseen(lab: Lab) -> None:
    """Whatever the clock says, the step is asked once more: it may be ready."""
    run_id = lab.run({"a": call(poll=poll())})
    ask(lab, run_id)
    lab.forward(10_000)
    assert keys(sweep.due(lab.ledger).dispatches) == ["a"]
    lab.do(run_id, "a")
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_retries_are_for_errors_in_a_row(lab: Lab) -> None:
    """Two errors are allowed; a poll in between starts them anew, and a third in a row fails the step."""
    run_id = lab.run({"a": call(poll=poll(timeout=1000), retry=retry(3, 1))})
    for _ in range(3):
        for _ in range(2):
            sweep.due(lab.ledger)
            lab.fail(lab.take(run_id, "a"))
            lab.forward(2)
        ask(lab, run_id)
        assert lab.step(run_id, "a")["failures"] == 0
        lab.forward(11)
    for _ in range(3):
        sweep.due(lab.ledger)
        finished = lab.fail(lab.take(run_id, "a"))
        lab.forward(2)
    assert finished.run_status is RunStatus.FAILED
    assert lab.run_row(run_id)["error"]["type"] == "ValueError"


def test_rows_and_events_do_not_grow_with_the_polls(lab: Lab) -> None:
    """Whatever happens in between: the last polls are kept, and events of the first and the last."""
    run_id = lab.run({"a": call(poll=poll(every=1, timeout=10_000), retry=retry(2, 1))})

    def pass_by(times: int) -> None:
        for _ in range(times):
            ask(lab, run_id)
            lab.forward(2)
            sweep.due(lab.ledger)
            lab.fail(lab.take(run_id, "a"))
            lab.forward(2)

    def rows() -> list[int]:
        tables = ("flow_step_attempts", "flow_step_dispatches", "flow_events")
        return [lab.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in tables]

    pass_by(KEPT + 1)
    before = rows()
    pass_by(KEPT)
    assert rows() == before
    statuses = [status for _, status in lab.attempts(run_id, "a")]
    assert statuses.count("polled") == KEPT
    lab.forward(10_000)
    ask(lab, run_id)
    told = [event for event in lab.events(run_id) if event.endswith(" a")]
    begun = ["step.dispatched a", "step.started a", "step.polled a"]
    assert told == [*begun, "step.polled a", "step.failed a"]


def test_an_operator_starts_the_clock_and_the_count_anew(lab: Lab) -> None:
    """What the epoch before left is history, and is kept as such."""
    run_id = lab.run({"a": call(poll=poll(every=1, timeout=5))})
    ask(lab, run_id)
    lab.forward(6)
    ask(lab, run_id)
    retry_step.retry(lab.ledger, run_id, "a", by="ada")
    step = lab.step(run_id, "a")
    assert (step["polls"], step["started_at"]) == (0, None)
    ask(lab, run_id)
    step = lab.step(run_id, "a")
    assert (step["polls"], step["status"]) == (1, "waiting")
    assert lab.attempts(run_id, "a") == [(1, "polled"), (2, "failed"), (3, "polled")]


def test_the_step_may_say_when_it_wants_to_be_asked_again(lab: Lab) -> None:
    """Once, instead of `every`: not before a second, and not after the deadline."""
    run_id = lab.run({"a": call(poll=poll(every=10, timeout=60))})
    for after_s, waits_s in ((0, 1), (30, 30), (600, 60)):
        before = lab.now()
        ask(lab, run_id, after=timedelta(seconds=after_s))
        step = lab.step(run_id, "a")
        latest = min(lab.now() + timedelta(seconds=waits_s), step["started_at"] + timedelta(seconds=60))
        assert min(before + timedelta(seconds=waits_s), latest) <= step["due_at"] <= latest
        lab.forward(waits_s + 1)


def test_a_child_that_polls_gives_its_place_in_the_window_up_once(lab: Lab) -> None:
    """As in a back-off; but it does so once, however often it is asked."""
    run_id = lab.run({"each": loop(list(range(600)), body={"poll": poll(timeout=1000)})})
    (before,) = lab.rows("SELECT count(*) AS n FROM flow_steps WHERE status = 'ready'")
    found = ask(lab, run_id, "each.0.do")
    assert keys(found.dispatches) == ["each.256.do"]
    lab.forward(11)
    assert ask(lab, run_id, "each.0.do").dispatches == ()
    (now,) = lab.rows("SELECT count(*) AS n FROM flow_steps WHERE status = 'ready'")
    assert now == before


def test_a_window_that_was_asked_for_counts_who_polls(lab: Lab) -> None:
    """`concurrency` says how many are under way, whatever they do."""
    run_id = lab.run({"each": loop([1, 2, 3], concurrency=1, body={"poll": poll()})})
    assert ask(lab, run_id, "each.0.do").dispatches == ()
    assert lab.ready(run_id) == []
    lab.forward(11)
    sweep.due(lab.ledger)
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_cancel_ends_a_polling(lab: Lab) -> None:
    """Between two polls at once; during one, with it."""
    waits, runs = lab.run({"a": call(poll=poll())}), lab.run({"a": call(poll=poll())})
    ask(lab, waits)
    lease = lab.take(runs, "a")
    for run_id in (waits, runs):
        cancel_run.cancel(lab.ledger, run_id, by="ada", reason="enough", grace=GRACE)
    assert lab.status(waits) is RunStatus.CANCELLED
    assert not_yet(lab, lease).run_status is RunStatus.CANCELLED
    assert lab.attempts(runs, "a") == [(1, "cancelled")]


def test_a_poll_that_comes_too_late_changes_nothing(lab: Lab) -> None:
    """Another worker has the step."""
    run_id = lab.run({"a": call(poll=poll())})
    lease = lab.take(run_id, "a", owner="dead/1")
    release.end_owned(lab.ledger, "dead", crash_limit=3)
    before = lab.snapshot()
    with pytest.raises(LeaseLost):
        not_yet(lab, lease)
    assert lab.snapshot() == before


def test_explain_says_how_often_why_and_when(lab: Lab) -> None:
    """For who asks why it is not running."""
    run_id = lab.run({"a": call(poll=poll(every=50, timeout=600))})
    ask(lab, run_id, why="in customs")
    lab.forward(1)
    said = explain.explain(lab.ledger, run_id)
    assert said.sentence.startswith("Step a was asked once and is not ready (in customs); it is asked again in ")
    assert "and for the last time in 9 min" in said.sentence


def test_error_of_a_loop_names_the_timeout(lab: Lab) -> None:
    """What failed the child, not what its last poll said."""
    run_id = lab.run({"each": loop([1], body={"poll": poll(every=1, timeout=1)})})
    ask(lab, run_id, "each.0.do")
    lab.forward(2)
    ask(lab, run_id, "each.0.do")
    assert "do: not ready after 1s, 2 polls" in lab.run_row(run_id)["error"]["message"]


_ = StepError
