"""A signal, the end of its time, a cancel and a retry meet at one wait: whoever holds the run first decides."""

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.signals import Delivery
from orchestrator.core.states import RunStatus
from orchestrator.engine.steps import retry_step
from orchestrator.engine.sweeps.wake import wake
from orchestrator.errors import OrchestratorError, SignalTaken, SignalTooLate
from tests.engine.test_races import waits
from tests.engine.test_signals import FLOW, cancel, output, parked, send, sent, timed_out, wait
from tests.support.factories import Lab, after, call

HOLD = "SELECT 1 FROM flow_runs WHERE id = %s FOR UPDATE"
OTHER = {**FLOW, "other": wait(name="other")}
"""Goes on when `paid` is over."""


def answer(lab: Lab, run_id: UUID, **fields: Any) -> Delivery | OrchestratorError:
    return send(lab, run_id, **fields).answer


def test_of_two_signals_one_is_taken_and_the_other_is_told_so(lab: Lab) -> None:
    for _ in range(6):
        run_id = parked(lab, OTHER)
        found = lab.race(*(partial(answer, lab, run_id, payload=f'{{"amount": {n}}}') for n in range(3)))
        (winner,) = [n for n, one in enumerate(found) if isinstance(one, Delivery)]
        assert found[winner].delivered
        assert output(lab, run_id) == {"amount": winner}
        assert sum(isinstance(one, SignalTaken) for one in found) == 2


def test_one_id_sent_twice_at_once_is_delivered_once(lab: Lab) -> None:
    for _ in range(6):
        run_id = parked(lab, OTHER)
        found = lab.race(*(partial(answer, lab, run_id, id="evt-1") for _ in range(2)))
        assert sorted(one.duplicate for one in found) == [False, True]
        assert all(one.delivered and one.step == "paid" for one in found)
        assert lab.events(run_id).count("signal.delivered paid") == 1


def test_a_signal_meets_the_step_that_opens_its_wait(lab: Lab) -> None:
    """Kept or delivered, it is not lost."""
    for _ in range(6):
        run_id = lab.run(FLOW)
        order = lab.take(run_id, "order")
        finished, found = lab.race(partial(lab.done, order), partial(answer, lab, run_id))
        assert found.delivered != found.kept, finished
        assert lab.statuses(run_id)["paid"] == "succeeded"


def test_the_keeper_wins_over_a_late_signal_however_they_meet(lab: Lab) -> None:
    for _ in range(6):
        run_id = parked(lab, OTHER)
        lab.forward(timedelta(days=3))
        found, _ = lab.race(partial(answer, lab, run_id), partial(wake, lab.ledger))
        assert isinstance(found, SignalTooLate)
        assert lab.statuses(run_id)["paid"] == "failed"
        assert lab.events(run_id).count("signal.timed_out paid") == 1
        lab.forward(timedelta(days=-3))


@pytest.mark.parametrize("first", ["signal", "cancel"])
def test_a_signal_meets_a_cancel(lab: Lab, first: str) -> None:
    """Both wait for the run; PostgreSQL lets them in as they came."""
    run_id = parked(lab)
    calls = {"signal": lambda: answer(lab, run_id), "cancel": lambda: cancel(lab, run_id)}
    second = next(name for name in calls if name != first)
    with lab.holding(HOLD, run_id):
        one = lab.later(calls[first])
        waits(lab)
        other = lab.later(calls[second])
        waits(lab, 2)
    found = {first: one.result(), second: other.result()}
    assert found["cancel"] is RunStatus.CANCELLED
    assert lab.status(run_id) is RunStatus.CANCELLED
    if first == "signal":
        assert found["signal"].delivered
        assert lab.statuses(run_id) == {"order": "succeeded", "paid": "succeeded", "ship": "cancelled"}
    else:
        assert isinstance(found["signal"], SignalTooLate)
        assert lab.statuses(run_id)["paid"] == "cancelled"


def test_signal_timeout_and_cancel_at_once_leave_one_end(lab: Lab) -> None:
    """Whatever comes first, each is told what it found, and the audit finds every counter right."""
    for _ in range(6):
        run_id = parked(lab)
        lab.forward(timedelta(days=3))
        found, _, stopped = lab.race(
            partial(answer, lab, run_id), partial(wake, lab.ledger), partial(cancel, lab, run_id)
        )
        assert isinstance(found, SignalTooLate)
        ended = lab.status(run_id)
        assert (ended is RunStatus.CANCELLED) == (stopped is RunStatus.CANCELLED)
        assert lab.statuses(run_id)["paid"] == ("cancelled" if ended is RunStatus.CANCELLED else "failed")
        lab.forward(timedelta(days=-3))


def test_a_signal_meets_the_retry_of_its_wait(lab: Lab) -> None:
    """Before it: too late. After it: the wait that parked anew takes it."""
    for _ in range(6):
        run_id = timed_out(lab)
        found, _ = lab.race(
            partial(answer, lab, run_id), partial(retry_step.retry, lab.ledger, run_id, "paid", by="op")
        )
        taken = isinstance(found, Delivery)
        assert taken or isinstance(found, SignalTooLate)
        assert lab.statuses(run_id)["paid"] == ("succeeded" if taken else "waiting")
        lab.forward(timedelta(days=-3))


def test_a_kept_signal_that_expires_before_it_is_taken_is_not_taken(lab: Lab) -> None:
    """It is looked for and taken by two statements: the second looks at the clock again."""
    run_id = lab.run({"order": call(), "paid": wait("order"), "ship": after("paid")})
    sent(lab, run_id, ttl=timedelta(minutes=5))
    order = lab.take(run_id, "order")
    with lab.holding("SELECT 1 FROM flow_signals WHERE run_id = %s FOR UPDATE", run_id) as other:
        opening = lab.later(lambda: lab.done(order))
        waits(lab)
        other.execute("UPDATE flow_signals SET expires_at = flow_now()")
    opening.result()
    assert lab.statuses(run_id)["paid"] == "waiting"
    assert sent(lab, run_id).step == "paid"
