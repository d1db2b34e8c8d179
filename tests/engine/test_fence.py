"""Leases and fences: what is stale writes nothing, and a commit of unknown outcome is read again by key."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.core.facts import Chain, Claimant, Finished, Lease, LeaseBeat, Success
from orchestrator.core.states import RunStatus
from orchestrator.engine import faults
from orchestrator.engine.steps import claim_step, finish_step, release, renew
from orchestrator.engine.sweeps import sweep
from orchestrator.errors import LeaseLost
from orchestrator.ledger import reads, statements
from tests.support.eventually import eventually
from tests.support.factories import LEASE, Lab, after, call, keys, loop, mutate, retry

SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "mid": ({"a": call(), "b": after("a")}, "a"),
    "sink": ({"a": call()}, "a"),
    "child": ({"each": loop([1, 2, 3], concurrency=2)}, "each.0.do"),
    "last child": ({"each": loop([1])}, "each.0.do"),
    "last child, join": ({"each": loop([1]), "join": after("each")}, "each.0.do"),
    "open": ({"a": call(), "each": loop("@steps('a').output")}, "a"),
    "general": ({"a": call(), "b": after("a"), "c": after("a")}, "a"),
}
shapes = pytest.mark.parametrize("shape", SHAPES)


def lose(lab: Lab, lease: Lease) -> Lease:
    """The lease runs out and another worker takes the step over."""
    lab.forward(LEASE + timedelta(seconds=1))
    sweep.expired(lab.ledger, crash_limit=3)
    return lab.take(lease.run_id, lease.step_key, owner="w2")


@shapes
def test_what_is_stale_writes_nothing(lab: Lab, shape: str) -> None:
    """After a take-over the first worker's finish, failure, release and renewal are refused, and leave no trace."""
    steps, key = SHAPES[shape]
    run_id = lab.run(steps)
    first = lab.take(run_id, key)
    second = lose(lab, first)
    assert (first.fence, second.fence) == (1, 2)
    assert (first.attempt, second.attempt) == (1, 2)
    before = lab.snapshot()
    with pytest.raises(LeaseLost, match=r"Fix: .*\[lease_lost\]"):
        lab.done(first, "late", chain=True)
    with pytest.raises(LeaseLost):
        lab.fail(first)
    assert release.release(lab.ledger, first) == ()
    (renewal,) = renew.renew(lab.ledger, [LeaseBeat(run_id, key, first.fence)], LEASE)
    assert not renewal.alive
    with pytest.raises(LeaseLost):
        finish_step.settled(lab.ledger, first)
    assert lab.snapshot() == before
    lab.done(second, "mine")
    assert reads.steps.output(lab.ledger, run_id, key) == "mine"
    lab.drain(run_id)


@shapes
def test_a_result_is_recorded_once(lab: Lab, shape: str) -> None:
    """A second report of the same attempt is refused like any stale one."""
    steps, key = SHAPES[shape]
    run_id = lab.run(steps)
    lease = lab.take(run_id, key)
    lab.done(lease, 1)
    before = lab.snapshot()
    with pytest.raises(LeaseLost):
        lab.done(lease, 2)
    with pytest.raises(LeaseLost):
        lab.fail(lease)
    assert lab.snapshot() == before
    lab.drain(run_id)


@shapes
def test_another_owner_may_not_quote_the_version(lab: Lab, shape: str) -> None:
    """The fence is version and owner."""
    steps, key = SHAPES[shape]
    run_id = lab.run(steps)
    lease = lab.take(run_id, key)
    with pytest.raises(LeaseLost):
        lab.done(replace(lease, owner="other"))
    lab.done(lease)
    lab.drain(run_id)


@pytest.mark.parametrize("shape", ["mid", "sink", "child", "general"])
def test_the_fence_is_what_refuses(unaudited_lab: Lab, monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    """Without the version in the statement, the stale result is taken: the tests above would see it."""
    lab = unaudited_lab
    names = {"mid": "finish_mid", "sink": "finish_sink", "child": "finish_child", "general": "finish_general"}
    text = statements.sql(names[shape])
    unfenced = re.sub(r"\sAND (c\.)?version = %\(version\)s", "", text)
    unfenced = re.sub(r"\sAND (c\.)?owner = (%\(owner\)s|COALESCE\(%\(owner\)s, c.owner\))", "", unfenced)
    mutate(monkeypatch, **{names[shape]: unfenced})
    steps, key = SHAPES[shape]
    run_id = lab.run(steps)
    first = lab.take(run_id, key)
    lose(lab, first)
    lab.done(first, "late")
    assert reads.steps.output(lab.ledger, run_id, key) == "late"


def test_versions_rise_whatever_ends_a_claim(lab: Lab) -> None:
    """Crash, release, failure: the next claim has the next version."""
    run_id = lab.run({"a": call(retry=retry(9))})
    versions = [lab.take(run_id, "a").fence]
    lab.forward(LEASE * 2)
    sweep.expired(lab.ledger, crash_limit=3)
    lease = lab.take(run_id, "a")
    versions.append(lease.fence)
    release.release(lab.ledger, lease)
    lease = lab.take(run_id, "a")
    versions.append(lease.fence)
    lab.fail(lease)
    lab.forward(2)
    sweep.due(lab.ledger)
    lease = lab.take(run_id, "a")
    versions.append(lease.fence)
    lab.done(lease)
    assert versions == [1, 2, 3, 4]


def test_an_expired_lease_that_nobody_took_still_counts(lab: Lab) -> None:
    """Expiry allows others to take over; until one does, the result is the only one and is accepted."""
    run_id = lab.run({"a": call(), "b": call()})
    a, b = lab.take(run_id, "a"), lab.take(run_id, "b")
    lab.forward(LEASE * 5)
    (renewal,) = renew.renew(lab.ledger, [LeaseBeat(run_id, "a", a.fence)], LEASE)
    assert renewal.alive
    assert sweep.expired(lab.ledger, crash_limit=3).changed == 1
    lab.done(a)
    with pytest.raises(LeaseLost):
        lab.done(b)
    lab.do(run_id, "b")


def test_renewals_prolong_and_carry_progress(lab: Lab) -> None:
    """One statement for all claims of a process; each learns whether its run was halted."""
    run_id = lab.run({"a": call(), "b": call()})
    a, b = lab.take(run_id, "a"), lab.take(run_id, "b")
    lab.forward(20)
    beats = [LeaseBeat(run_id, "b", b.fence), LeaseBeat(run_id, "a", a.fence, '{"done": 1, "total": 9}')]
    renewals = renew.renew(lab.ledger, beats, LEASE)
    assert {(each.step_key, each.alive, each.cancel) for each in renewals} == {("a", True, False), ("b", True, False)}
    renew.renew(lab.ledger, [LeaseBeat(run_id, "a", a.fence)], LEASE)
    progress = {step.key: step.progress for step in reads.steps.page(lab.ledger, run_id)}
    assert progress == {"a": {"done": 1, "total": 9}, "b": None}
    lab.forward(20)
    assert sweep.expired(lab.ledger, crash_limit=3).changed == 0
    assert renew.renew(lab.ledger, [], LEASE) == []
    lab.done(a)
    lab.done(b)


def test_duplicate_and_stale_messages_are_suppressed_and_counted(lab: Lab) -> None:
    """Each message names its dispatch; an older number finds nothing, even while the step is READY again."""
    run_id = lab.run({"a": call()})
    lease = lab.take(run_id, "a")
    assert claim_step.claim(lab.ledger, run_id, "a", 1, Claimant("w2", LEASE)) is None
    release.release(lab.ledger, lease)
    assert claim_step.claim(lab.ledger, run_id, "a", 1, Claimant("w2", LEASE)) is None
    assert claim_step.claim(lab.ledger, run_id, "nowhere", 1, Claimant("w2", LEASE)) is None
    lab.do(run_id, "a")
    assert claim_step.claim(lab.ledger, run_id, "a", 2, Claimant("w2", LEASE)) is None
    found = lab.rows("SELECT dispatch_no, suppressed FROM flow_step_dispatches ORDER BY 1")
    assert [row["suppressed"] for row in found] == [2, 1]


# ---- time ----


@pytest.mark.parametrize("clock", ["flow_now()", "now()"])
def test_a_lease_is_counted_from_the_moment_of_the_write(lab: Lab, monkeypatch: pytest.MonkeyPatch, clock: str) -> None:
    """Behind a lock `now()` is as old as the statement; a lease taken with it is born short, or dead."""
    if clock == "now()":
        mutate(monkeypatch, claim=statements.sql("claim").replace("flow_now()", "now()"))
    run_id = lab.run({"a": call()})
    lease_for = timedelta(seconds=1)
    with lab.holding("SELECT 1 FROM flow_steps WHERE run_id = %s FOR UPDATE", run_id) as other:
        claiming = lab.later(lambda: lab.take(run_id, "a", lease=lease_for))
        eventually(lambda: lab.waiting_sessions() == 1)
        other.execute("SELECT pg_sleep(0.3)")
        held_until = lab.now()
    lease = claiming.result()
    assert (lease.expires_at >= held_until + lease_for) is (clock == "flow_now()")
    lab.done(lease)


def test_take_over_waits_for_the_end_of_the_lease(lab: Lab) -> None:
    """By the ledger's clock, whatever the hosts' clocks say."""
    run_id = lab.run({"a": call()})
    first = lab.take(run_id, "a")
    lab.forward(LEASE - timedelta(seconds=3))
    assert sweep.expired(lab.ledger, crash_limit=3).changed == 0
    lab.forward(4)
    assert keys(sweep.expired(lab.ledger, crash_limit=3).dispatches) == ["a"]
    lab.do(run_id, "a")
    assert first.expires_at - timedelta(seconds=LEASE.total_seconds() + 5) < lab.now()


# ---- unknown outcomes ----


class Lost(Exception):
    """The connection went away after the commit."""


def lose_reply(call: Callable[[], Any], point: str = "finish.committed") -> None:
    """The commit happens, the answer does not arrive."""

    def cut() -> None:
        raise Lost

    faults.arm(point, cut)
    with pytest.raises(Lost):
        call()
    faults.disarm()


def facts(finished: Finished | None) -> tuple[Any, ...]:
    assert finished is not None
    lease = finished.next
    return (
        lease and (lease.step_key, lease.fence, lease.index, lease.item),
        finished.dispatches,
        finished.run_status,
    )


@shapes
@pytest.mark.parametrize("chain", [False, True], ids=["dispatched", "chained"])
def test_settled_tells_what_the_lost_answer_said(lab: Lab, shape: str, chain: bool) -> None:
    """Also with other steps of the run under claims of the same owner, as a worker with threads has them."""
    steps, key = SHAPES[shape]
    lab.flow({**steps, "other": call(), "ready": call()})
    answers = []
    for lost in (False, True):
        run_id = lab.start()
        other = lab.take(run_id, "other")
        for sibling in [name for name in lab.ready(run_id) if name.startswith("each.") and name != key]:
            lab.take(run_id, sibling)
        lease = lab.take(run_id, key)
        assert finish_step.settled(lab.ledger, lease) is None
        if lost:
            lose_reply(lambda lease=lease: lab.done(lease, "out", chain=chain))
            answer = finish_step.settled(lab.ledger, lease)
            assert answer is not None
        else:
            answer = lab.done(lease, "out", chain=chain)
        assert reads.steps.output(lab.ledger, run_id, key) == "out"
        answers.append((facts(answer)[0], keys(answer.dispatches), answer.run_status))
        lab.done(other)
    assert answers[0] == answers[1]


def test_settled_knows_that_the_run_ended(lab: Lab) -> None:
    """The last step's worker learns it, as it would have from the answer."""
    run_id = lab.run({"a": call()})
    lease = lab.take(run_id, "a")
    lose_reply(lambda: lab.done(lease))
    found = finish_step.settled(lab.ledger, lease)
    assert found is not None
    assert found.run_took is not None
    assert replace(found, run_took=None) == Finished(run_status=RunStatus.SUCCEEDED)


def test_a_claim_whose_answer_was_lost_is_found(lab: Lab) -> None:
    """The worker re-reads, sees that it owns the claim, and goes on with the same lease."""
    run_id = lab.run(
        {"a": call(inputs={"x": "@triggerBody().x"}), "b": call(inputs={"y": "@steps('a').output"})}, {"x": 1}
    )
    assert claim_step.owned(lab.ledger, run_id, "a", "w1") is None
    lose_reply(lambda: lab.take(run_id, "a"), "claim.committed")
    lease = claim_step.owned(lab.ledger, run_id, "a", "w1")
    assert lease is not None
    assert lab.inputs(lease) == {"x": 1}
    assert claim_step.owned(lab.ledger, run_id, "a", "w2") is None
    lab.done(lease, 5)
    assert claim_step.owned(lab.ledger, run_id, "a", "w1") is None
    lose_reply(lambda: lab.take(run_id, "b"), "claim.committed")
    lease = claim_step.owned(lab.ledger, run_id, "b", "w1")
    assert lease is not None
    assert lab.inputs(lease) == {"y": 5}
    lab.done(lease)


def test_a_step_lost_before_its_commit_is_not_settled(lab: Lab) -> None:
    """None means: repeat the finish."""
    run_id = lab.run({"a": call()})
    lease = lab.take(run_id, "a")
    lose_reply(lambda: lab.done(lease), "finish.before")
    assert finish_step.settled(lab.ledger, lease) is None
    lab.done(lease)


# ---- transactional steps ----


@shapes
def test_the_effect_and_the_completion_commit_together(lab: Lab, shape: str) -> None:
    """One connection for both; a rollback takes back both, and a refused fast path leaves the caller's writes alone."""
    steps, key = SHAPES[shape]
    lab.execute("CREATE TABLE IF NOT EXISTS effects (run_id uuid)")
    run_id = lab.run(steps)
    lease = lab.take(run_id, key)

    def work(commit: bool) -> None:
        with lab.ledger.tx() as tx:
            tx.exec_driver_sql("INSERT INTO effects VALUES (%s)", (run_id,))
            offer = Chain(LEASE, frozenset({lease.task}))
            finish_step.finish(lab.ledger, lease, Success("1", chain=offer), tx)
            if not commit:
                raise Lost

    before = lab.snapshot()
    with pytest.raises(Lost):
        work(commit=False)
    assert lab.snapshot() == before
    work(commit=True)
    with pytest.raises(LeaseLost):
        work(commit=True)
    assert len(lab.rows("SELECT 1 FROM effects WHERE run_id = %s", run_id)) == 1
    chained = finish_step.settled(lab.ledger, lease)
    assert chained is not None
    assert (chained.next is not None) is (shape in {"mid", "child", "last child, join"})
    if chained.next is not None:
        lab.done(chained.next)
    lab.drain(run_id)
    lab.execute("DELETE FROM effects")
