"""A worker that was told to stop and is killed before its step ends: released by a deploy, which is not a crash."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from orchestrator.core.access import Actor
from orchestrator.core.facts import LeaseBeat, WorkerInfo
from orchestrator.core.states import RunStatus
from orchestrator.engine import workers
from orchestrator.engine.runs import cancel_run
from orchestrator.engine.runs.explain import explain
from orchestrator.engine.steps import release, retry_step
from orchestrator.engine.sweeps import sweep
from orchestrator.errors import Conflict, LeaseLost, WorkerNotFound
from orchestrator.ledger import claims, reads
from orchestrator.ledger.workers import Target
from tests.support.eventually import eventually
from tests.support.factories import LEASE, Lab, after, call, keys

TTL = timedelta(seconds=30)


def worker(lab: Lab, name: str, *, stopping: bool = True) -> str:
    """A worker that said hello, and was told to stop; the owner of what a child of it claims."""
    workers.hello(lab.ledger, WorkerInfo(name, "h", 1, "prefork", 1, 1, ("default",), ("demo.work",), "1"))
    assert workers.seen(lab.ledger, name, consuming=True, stopping=stopping)
    return f"{name}/7"


def stopped_flags(lab: Lab) -> list[bool]:
    return [row["stopped"] for row in lab.rows("SELECT stopping_at IS NOT NULL AS stopped FROM flow_workers")]


def test_no_number_of_deploys_counts_as_a_crash(lab: Lab) -> None:
    """Ten in a row, and the step may still crash three times."""
    run_id = lab.run({"a": call()})
    for n in range(10):
        lab.take(run_id, "a", owner=worker(lab, f"h/1/{n}"))
        lab.forward(LEASE * 2)
        assert keys(sweep.expired(lab.ledger, crash_limit=0).dispatches) == ["a"]
    assert lab.attempts(run_id, "a") == [(n, "released") for n in range(1, 11)]
    assert (lab.step(run_id, "a")["crashes"], lab.step(run_id, "a")["deploys"]) == (0, 10)
    assert lab.events(run_id).count("step.released a") == 10
    sentence = explain(lab.ledger, run_id, "a", worker_ttl=TTL).sentence
    assert "released by a deploy 10 times: its worker was told to stop and ended before it" in sentence
    lab.do(run_id, "a")
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_crash_before_a_deploy_is_a_crash(lab: Lab) -> None:
    """Nobody told that worker to stop."""
    run_id = lab.run({"a": call()})
    lab.take(run_id, "a", owner=worker(lab, "h/1/x", stopping=False))
    lab.forward(LEASE * 2)
    sweep.expired(lab.ledger, crash_limit=3)
    assert lab.attempts(run_id, "a") == [(1, "crashed")]
    assert lab.events(run_id).count("step.lease_expired a") == 1


def test_deploys_have_a_limit_of_their_own(lab: Lab) -> None:
    """A step that never fits between two deploys would go on for ever."""
    run_id = lab.run({"a": call(), "b": after("a")})
    for n in range(3):
        lab.take(run_id, "a", owner=worker(lab, f"h/1/{n}"))
        lab.forward(LEASE * 2)
        sweep.expired(lab.ledger, crash_limit=0, deploy_limit=2)
    assert lab.statuses(run_id) == {"a": "failed", "b": "skipped"}
    reason = "its worker was told to stop, and ended before the step did, 3 times; the last was h/1/2/7"
    assert lab.step(run_id, "a")["reason"] == reason
    assert [status for _, status in lab.attempts(run_id, "a")] == ["released"] * 3
    error = reads.runs.get(lab.ledger, run_id).error
    assert error is not None
    assert error["type"] == "WorkerLost"


@pytest.mark.parametrize("told_by", ["the row", "the parent"])
def test_a_child_that_dies_with_its_stopping_parent_has_not_crashed(lab: Lab, told_by: str) -> None:
    """Its parent knows that it stops even when the ledger was away and has not heard of it."""
    run_id = lab.run({"a": call()})
    lab.take(run_id, "a", owner=worker(lab, "h/1/x", stopping=told_by == "the row"))
    found = release.end_owned(lab.ledger, "h/1/x/7", crash_limit=0, stopping=told_by == "the parent")
    assert keys(found) == ["a"]
    assert lab.attempts(run_id, "a") == [(1, "released")]


def test_a_worker_that_left_claims_is_remembered(lab: Lab) -> None:
    """A cold shutdown ends in order, and its handlers with it; a week may go by before anybody looks."""
    run_id = lab.run({"a": call()})
    lab.take(run_id, "a", owner=worker(lab, "h/1/x"))
    workers.gone(lab.ledger, "h/1/x")
    assert stopped_flags(lab) == [True]
    lab.forward(timedelta(days=7))
    worker(lab, "h/1/y", stopping=False)
    sweep.expired(lab.ledger, crash_limit=0)
    assert lab.attempts(run_id, "a") == [(1, "released")]
    workers.gone(lab.ledger, "h/1/y")
    lab.forward(timedelta(days=2))
    worker(lab, "h/1/z")
    assert stopped_flags(lab) == [True]


def test_a_row_that_is_gone_is_made_anew(lab: Lab) -> None:
    """After a restored backup, say: the next beat says hello, and then that it stops."""
    assert not workers.seen(lab.ledger, "h/1/x", consuming=True, stopping=True)
    worker(lab, "h/1/x")
    assert stopped_flags(lab) == [True]


def test_an_operators_retry_begins_to_count_anew(lab: Lab) -> None:
    run_id = lab.run({"a": call()})
    lab.take(run_id, "a", owner=worker(lab, "h/1/x"))
    lab.forward(LEASE * 2)
    sweep.expired(lab.ledger, crash_limit=0)
    lab.fail(lab.take(run_id, "a"))
    retry_step.retry(lab.ledger, run_id, None, by="me")
    assert lab.step(run_id, "a")["deploys"] == 0


def test_what_a_stopping_worker_hands_back_costs_nothing(lab: Lab) -> None:
    """However often: neither a crash nor a deploy nor a retry is counted."""
    run_id = lab.run({"a": call()})
    for n in range(10):
        lab.take(run_id, "a", owner=worker(lab, f"h/1/{n}"))
        assert keys(release.hand_back(lab.ledger, f"h/1/{n}")) == ["a"]
    assert lab.attempts(run_id, "a") == [(n, "released") for n in range(1, 11)]
    step = lab.step(run_id, "a")
    assert (step["crashes"], step["deploys"], step["failures"], step["status"]) == (0, 0, 0, "ready")
    sentence = explain(lab.ledger, run_id, "a", worker_ttl=TTL).sentence
    assert "handed back 10 times by a worker that stopped, uncharged" in sentence
    lab.do(run_id, "a")
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_who_was_handed_back_cannot_record_any_more(lab: Lab) -> None:
    run_id = lab.run({"a": call()})
    lease = lab.take(run_id, "a", owner=worker(lab, "h/1/x"))
    release.hand_back(lab.ledger, "h/1/x")
    with pytest.raises(LeaseLost):
        lab.done(lease)
    with pytest.raises(LeaseLost):
        release.hand_over(lab.ledger, lease)
    assert lab.attempts(run_id, "a") == [(1, "released")]


def test_only_the_claims_of_that_worker_are_handed_back(lab: Lab) -> None:
    run_id = lab.run({"a": call(), "b": call()})
    lab.take(run_id, "a", owner=worker(lab, "h/1/x"))
    lab.take(run_id, "b", owner=worker(lab, "h/1/xy"))
    assert keys(release.hand_back(lab.ledger, "h/1/x")) == ["a"]
    assert release.hand_back(lab.ledger, "h/1/x") == ()
    assert lab.statuses(run_id) == {"a": "ready", "b": "running"}


@pytest.mark.parametrize("how", ["hand_back", "hand_over"])
def test_a_step_of_a_cancelled_run_is_not_begun_again(lab: Lab, how: str) -> None:
    run_id = lab.run({"a": call()})
    lease = lab.take(run_id, "a", owner=worker(lab, "h/1/x"))
    cancel_run.cancel(lab.ledger, run_id, by="me", reason="enough", grace=TTL)
    if how == "hand_back":
        assert release.hand_back(lab.ledger, "h/1/x") == ()
    else:
        assert release.hand_over(lab.ledger, lease).dispatches == ()
    assert lab.status(run_id) is RunStatus.CANCELLED
    assert lab.statuses(run_id) == {"a": "cancelled"}


def test_a_step_that_hands_over_is_ready_at_once(lab: Lab) -> None:
    run_id = lab.run({"a": call()})
    done = release.hand_over(lab.ledger, lab.take(run_id, "a", owner=worker(lab, "h/1/x")))
    assert keys(done.dispatches) == ["a"]
    assert done.attempt == "released"
    assert lab.events(run_id).count("step.released a") == 1
    lab.do(run_id, "a")
    assert lab.attempts(run_id, "a") == [(1, "released"), (2, "succeeded")]


ADA = Actor("ada")


def drained(lab: Lab) -> dict[str, tuple[bool, bool]]:
    """By worker: whether it was told to stop, and whether it has begun."""
    columns = "id, drain_at IS NOT NULL AS told, stopping_at IS NOT NULL AS begun"
    return {row["id"]: (row["told"], row["begun"]) for row in lab.rows(f"SELECT {columns} FROM flow_workers")}


@pytest.mark.parametrize("target", ["h/1/x", "h"])
def test_a_worker_that_is_drained_begins_when_it_next_says_that_it_is_there(lab: Lab, target: str) -> None:
    worker(lab, "h/1/x", stopping=False)
    assert workers.drain(lab.ledger, Target(target), ADA, TTL) == ("h/1/x",)
    assert drained(lab) == {"h/1/x": (True, False)}
    heard = workers.seen(lab.ledger, "h/1/x", consuming=True)
    assert heard is not None
    assert heard.draining
    assert drained(lab) == {"h/1/x": (True, True)}


def test_a_drain_that_has_not_begun_is_undone(lab: Lab) -> None:
    """Whether it has is decided by the row, so that nobody is told wrongly."""
    worker(lab, "h/1/x", stopping=False)
    worker(lab, "h/1/y", stopping=False)
    workers.drain(lab.ledger, Target("h"), ADA, TTL)
    workers.seen(lab.ledger, "h/1/x", consuming=True)
    assert workers.undrain(lab.ledger, Target("h"), ADA, TTL) == ("h/1/y",)
    assert drained(lab) == {"h/1/x": (True, True), "h/1/y": (False, False)}
    with pytest.raises(Conflict, match="is stopping already"):
        workers.undrain(lab.ledger, Target("h/1/x"), ADA, TTL)


def test_a_group_is_drained_that_takes_from_its_queues_alone(lab: Lab) -> None:
    worker(lab, "h/1/x", stopping=False)
    assert workers.drain(lab.ledger, Target("group", ("default", "other")), ADA, TTL) == ("h/1/x",)
    with pytest.raises(WorkerNotFound):
        workers.drain(lab.ledger, Target("group", ("other",)), ADA, TTL)


def test_only_live_workers_are_drained(lab: Lab) -> None:
    worker(lab, "h/1/x", stopping=False)
    lab.forward(TTL * 2)
    with pytest.raises(WorkerNotFound, match="No live worker is called"):
        workers.drain(lab.ledger, Target("h/1/x"), ADA, TTL)


def test_what_is_renewed_at_that_moment_is_handed_back_too(lab: Lab) -> None:
    """Whoever hands back waits for it: nobody would come a second time."""
    run_id = lab.run({"a": call()})
    lease = lab.take(run_id, "a", owner=worker(lab, "h/1/x"))
    with lab.ledger.tx() as tx:
        claims.renew(tx, [LeaseBeat(run_id, "a", lease.fence, None)], LEASE)
        with ThreadPoolExecutor(1) as pool:
            handed = pool.submit(release.hand_back, lab.ledger, "h/1/x")
            eventually(lab.waiting_sessions, message="it waits")
            tx.commit()
            assert keys(handed.result(20)) == ["a"]
    assert lab.step(run_id, "a")["status"] == "ready"
