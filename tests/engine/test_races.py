"""Two at once. Where the order matters, one side is held at a lock until the other waits for it."""

import functools
import itertools
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.core.facts import Claimant, Lease, StartRequest
from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import cancel_run, start_run
from orchestrator.engine.steps import claim_step, release, retry_step
from orchestrator.engine.sweeps import redispatch, sweep
from orchestrator.ledger import statements
from orchestrator.ledger.dispatches import Search
from tests.engine.test_redispatch import AFTER, hello
from tests.support.eventually import eventually
from tests.support.factories import LEASE, Lab, after, call, keys, loop, mutate, retry

GRACE = timedelta(seconds=10)


def cancel(lab: Lab, run_id: Any, by: str = "op") -> RunStatus:
    return cancel_run.cancel(lab.ledger, run_id, by=by, reason="enough", grace=GRACE)


def expire(lab: Lab, crash_limit: int = 3) -> Any:
    return sweep.expired(lab.ledger, crash_limit=crash_limit)


def waits(lab: Lab, sessions: int = 1) -> None:
    eventually(lambda: lab.waiting_sessions() >= sessions, message="nobody waits for the lock")


# ---- joins ----

TWO_PARENTS = {"a": call(), "b": call(), "join": after("a", "b")}


@pytest.mark.parametrize("chain", [False, True], ids=["dispatched", "chained"])
def test_join_is_queued_once_when_both_parents_finish_together(lab: Lab, chain: bool) -> None:
    """The counter on the join's row goes down twice whatever the order, and one of the two sees zero."""
    lab.flow(TWO_PARENTS)
    for _ in range(30):
        run_id = lab.start()
        a, b = lab.take(run_id, "a"), lab.take(run_id, "b", owner="w2")
        done = lab.race(lambda a=a: lab.done(a, chain=chain), lambda b=b: lab.done(b, chain=chain))
        assert sum(len(finished.dispatches) for finished in done) == (0 if chain else 1)
        assert sum(finished.next is not None for finished in done) == (1 if chain else 0)
        lease = next((finished.next for finished in done if finished.next), None) or lab.take(run_id, "join")
        assert lab.done(lease).run_status is RunStatus.SUCCEEDED


def test_join_survives_success_and_failure_together(lab: Lab) -> None:
    """The fast path meets the general path on the join's row: it is skipped once, and the run ends."""
    lab.flow(TWO_PARENTS)
    for _ in range(20):
        run_id = lab.start()
        a, b = lab.take(run_id, "a"), lab.take(run_id, "b")
        lab.race(lambda a=a: lab.done(a), lambda b=b: lab.fail(b, retryable=False))
        assert lab.statuses(run_id)["join"] == "skipped"
        assert lab.status(run_id) is RunStatus.FAILED


def test_a_join_is_lost_without_the_atomic_counter(unaudited_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that decides from a value it has read loses the join: this suite would see it."""
    lab = unaudited_lab
    read = "(SELECT b.deps_open FROM flow_steps b WHERE b.run_id = %(run_id)s AND b.step_key = %(next_key)s)"
    mutate(monkeypatch, finish_mid=statements.sql("finish_mid").replace("s.deps_open", read))
    run_id = lab.run(TWO_PARENTS)
    a, b = lab.take(run_id, "a"), lab.take(run_id, "b")
    with lab.holding("SELECT 1 FROM flow_steps WHERE run_id = %s AND step_key = 'join' FOR UPDATE", run_id):
        both = [lab.later(lambda: lab.done(a)), lab.later(lambda: lab.done(b))]
        waits(lab, 2)
    assert [later.result().dispatches for later in both] == [(), ()]
    assert lab.statuses(run_id) == {"a": "succeeded", "b": "succeeded", "join": "blocked"}
    with pytest.raises(AssertionError):
        lab.audit()


def test_last_two_children_finish_together(lab: Lab) -> None:
    """One is not the last, the other closes the loop on the general path."""
    lab.flow({"each": loop("@triggerBody().items"), "join": after("each")})
    for _ in range(20):
        run_id = lab.start(body={"items": [0, 1]})
        first, second = lab.take(run_id, "each.0.do"), lab.take(run_id, "each.1.do", owner="w2")
        done = lab.race(lambda lease=first: lab.done(lease, 0), lambda lease=second: lab.done(lease, 1))
        assert sorted(key for finished in done for key in keys(finished.dispatches)) == ["join"]
        assert lab.do(run_id, "join").run_status is RunStatus.SUCCEEDED


def test_many_children_finish_together_in_a_window(lab: Lab) -> None:
    """Four workers on a window of three: no child is lost, none runs twice."""
    lab.flow({"each": loop("@triggerBody().items", concurrency=3)})
    run_id = lab.start(body={"items": list(range(40))})
    ran: list[str] = []

    def worker(owner: str) -> None:
        lease: Lease | None = None
        while lab.status(run_id) is not RunStatus.SUCCEEDED:
            lease = lease or next((got for key in lab.ready(run_id) if (got := lab.try_take(run_id, key, owner))), None)
            if lease is not None:
                ran.append(lease.step_key)
                lease = lab.done(lease, lease.index, chain=True).next

    results = lab.race(*(lambda n=n: worker(f"w{n}") for n in range(4)))
    assert results == [None] * 4
    assert sorted(ran) == sorted(f"each.{n}.do" for n in range(40))


def test_last_two_sinks_finish_together(lab: Lab) -> None:
    """The run ends once."""
    lab.flow({"a": call(), "b": call()})
    for _ in range(20):
        run_id = lab.start()
        a, b = lab.take(run_id, "a"), lab.take(run_id, "b")
        done = lab.race(lambda a=a: lab.done(a), lambda b=b: lab.done(b))
        assert sorted(str(finished.run_status) for finished in done) == ["None", "succeeded"]
        assert lab.events(run_id).count("run.succeeded") == 1


def test_both_roots_are_claimed_together(lab: Lab) -> None:
    """The run starts once, and says so once."""
    lab.flow({"a": call(), "b": call()})
    for _ in range(15):
        run_id = lab.start()
        lab.race(lambda r=run_id: lab.take(r, "a"), lambda r=run_id: lab.take(r, "b"))
        assert lab.events(run_id).count("run.started") == 1


# ---- claims ----


def test_one_of_many_claims_wins(lab: Lab) -> None:
    """A message delivered to four workers is executed by one; the others are counted."""
    run_id = lab.run({"a": call()})
    calls = [lambda n=n: claim_step.claim(lab.ledger, run_id, "a", 1, Claimant(f"w{n}", LEASE)) for n in range(4)]
    won = [lease for lease in lab.race(*calls) if lease is not None]
    assert len(won) == 1
    (row,) = lab.rows("SELECT suppressed FROM flow_step_dispatches")
    assert row["suppressed"] == 3


@pytest.mark.parametrize("locking", [True, False])
def test_nothing_is_claimed_after_the_commit_of_a_cancel(
    unaudited_lab: Lab, monkeypatch: pytest.MonkeyPatch, locking: bool
) -> None:
    """The claim waits for a cancel under way, and then sees it. Without its lock on the run it would slip through."""
    lab = unaudited_lab
    run_id = lab.run({"a": call()})
    right = statements.sql("claim")
    if not locking:
        wrong = right.replace("FOR KEY SHARE", "")
        assert wrong != right
        mutate(monkeypatch, claim=wrong)
    with lab.holding("SELECT 1 FROM flow_runs WHERE id = %s FOR UPDATE", run_id) as cancelling:
        claiming = lab.later(lambda: lab.try_take(run_id, "a"))
        waits(lab)
        cancelling.execute("UPDATE flow_runs SET halt = 'cancelled' WHERE id = %s", [run_id])
    assert (claiming.result() is None) is locking


def test_a_claim_under_way_ends_before_the_cancel(lab: Lab) -> None:
    """The cancel waits for it, and then knows that a handler runs."""
    run_id = lab.run({"a": call(), "b": call()})
    with lab.holding("SELECT 1 FROM flow_steps WHERE run_id = %s AND step_key = 'a' FOR UPDATE", run_id):
        claiming = lab.later(lambda: lab.take(run_id, "a"))
        waits(lab)
        cancelling = lab.later(lambda: cancel(lab, run_id))
        waits(lab, 2)
    lease = claiming.result()
    assert cancelling.result() is RunStatus.RUNNING
    assert lab.statuses(run_id) == {"a": "running", "b": "cancelled"}
    assert lab.done(lease).run_status is RunStatus.CANCELLED


@pytest.mark.parametrize("act", ["finish", "fail", "retry", "release", "sweep", "claim", "child"])
def test_cancel_beside(lab: Lab, act: str) -> None:
    """Whatever meets a cancel, the run ends CANCELLED (or as it ended before), and nothing is left open."""
    lab.flow({"a": call(retry=retry(2 if act == "retry" else 1)), "b": after("a"), "each": loop([1, 2])})
    for _ in range(12):
        run_id = lab.start()
        key = "each.0.do" if act == "child" else "a"
        lease = None if act == "claim" else lab.take(run_id, key)
        acts: dict[str, Callable[[], Any]] = {
            "finish": lambda lease=lease: lab.done(lease, chain=True),
            "child": lambda lease=lease: lab.done(lease, chain=True),
            "fail": lambda lease=lease: lab.fail(lease, retryable=False),
            "retry": lambda lease=lease: lab.fail(lease),
            "release": lambda lease=lease: release.release(lab.ledger, lease),
            "sweep": lambda: expire(lab),
            "claim": lambda r=run_id: lab.try_take(r, "a"),
        }
        if act == "sweep":
            lab.forward(LEASE * 2)
        first, second = lab.race(acts[act], lambda r=run_id: cancel(lab, r))
        assert not isinstance(second, BaseException), second
        assert not isinstance(first, BaseException), first
        lab.audit()
        lab.forward(LEASE * 3)
        expire(lab)
        assert lab.status(run_id) is RunStatus.CANCELLED
        lab.audit()


def test_a_step_given_back_to_a_cancelled_run_is_cancelled(lab: Lab) -> None:
    """For the same reason; a worker that shuts down ends the run then."""
    run_id = lab.run({"a": call()})
    lease = lab.take(run_id, "a")
    cancel(lab, run_id)
    assert release.release(lab.ledger, lease) == ()
    assert lab.status(run_id) is RunStatus.CANCELLED
    assert lab.attempts(run_id, "a") == [(1, "cancelled")]


# ---- operators and starts ----


def test_of_two_operators_one_is_told_no(lab: Lab) -> None:
    """Both lock the run; the second finds the step on its way."""
    lab.flow({"a": call(), "b": after("a")})
    for one in ("a", None):
        run_id = lab.start()
        lab.do_fail(run_id, "a")
        operators = [functools.partial(retry_step.retry, lab.ledger, run_id, one, by=f"op{n}") for n in range(2)]
        results = lab.race(*operators)
        assert sorted(type(result).__name__ for result in results) == ["Conflict", "tuple"]
        lab.drain(run_id)
        assert lab.status(run_id) is RunStatus.SUCCEEDED
        assert lab.run_row(run_id)["epoch"] == 2


def test_two_cancels_agree(lab: Lab) -> None:
    """The second changes nothing, not even who asked."""
    run_id = lab.run({"a": call()})
    assert lab.race(*(lambda n=n: cancel(lab, run_id, f"op{n}") for n in range(3))) == [RunStatus.CANCELLED] * 3
    assert lab.events(run_id).count("run.cancel_requested") == 1


def test_the_same_key_from_many_threads_starts_one_run(lab: Lab) -> None:
    """Each caller gets the same id, one of them as the creator."""
    lab.flow({"a": call()})
    for n in range(5):
        request = StartRequest("demo", '{"x": 1}', key=f"k{n}")
        results = lab.race(*(lambda r=request: start_run.start(lab.ledger, [r])[0] for _ in range(6)))
        assert len({started.run_id for started in results}) == 1
        assert sum(started.created for started in results) == 1
    assert len(lab.rows("SELECT 1 FROM flow_runs")) == 5


def test_batches_with_the_same_keys_in_other_orders_do_not_deadlock(lab: Lab) -> None:
    """The statement takes the keys in their order, whatever the caller's."""
    lab.flow({"a": call()})
    for n in range(4):
        names = [f"{n}-{k}" for k in range(60)]
        orders = [names, names[::-1], names[30:] + names[:30]]
        requests = [[StartRequest("demo", key=key) for key in order] for order in orders]
        results = lab.race(*(lambda r=r: start_run.start(lab.ledger, r) for r in requests))
        for result in results:
            assert not isinstance(result, BaseException), result
    assert len(lab.rows("SELECT 1 FROM flow_runs")) == 240


def test_a_lost_deadlock_is_run_again(lab: Lab) -> None:
    """PostgreSQL ends one of two transactions that wait for each other; its work is repeated from the start."""
    run_ids = [lab.run({"a": call()}), lab.run({"a": call()})]
    turns = itertools.count()

    def lock(order: list[Any]) -> int:
        def work(tx: Any) -> int:
            turn = next(turns)
            for run_id in order:
                tx.exec_driver_sql("SELECT 1 FROM flow_runs WHERE id = %s FOR UPDATE", (run_id,))
                if turn < 2:
                    eventually(lambda: next(turns) > 4, interval=0.05)
            return turn

        return lab.ledger.retry(work)

    results = lab.race(lambda: lock(run_ids), lambda: lock(run_ids[::-1]))
    assert all(isinstance(result, int) for result in results), results


def test_two_keepers_publish_a_lost_message_once(lab: Lab) -> None:
    """Rows one keeper holds are skipped by the other."""
    lab.flow({"each": loop("@triggerBody().items")})
    lab.start(body={"items": list(range(50))})
    lab.forward(60)
    hello(lab, "demo.work")
    found = lab.race(*(lambda: redispatch.lost(lab.ledger, Search("default", [5], 50), AFTER) for _ in range(3)))
    numbers = [dispatch.step_key for each in found for dispatch in each.dispatches]
    assert sorted(numbers) == sorted(f"each.{n}.do" for n in range(50))


def test_json_of_a_start_is_not_touched(lab: Lab) -> None:
    """Numbers keep their last digit through the start statement."""
    body = '{"x": 1.10, "y": 1e22, "z": 12345678901234567890123}'
    lab.flow({"a": call()})
    start_run.start(lab.ledger, [StartRequest("demo", body)])
    (row,) = lab.rows("SELECT trigger_body::text AS body FROM flow_runs")
    assert json.loads(row["body"]) == json.loads(body)
    assert row["body"] == body
