"""Sweeps beside everything else: other sweeps, completions, renewals, cancels."""

from typing import Any

import pytest

from orchestrator.core.facts import LeaseBeat
from orchestrator.core.states import RunStatus
from orchestrator.engine import faults
from orchestrator.engine.steps import release, renew
from orchestrator.engine.sweeps import sweep
from orchestrator.engine.sweeps.walk import Walk
from orchestrator.errors import LeaseLost
from orchestrator.ledger import statements
from tests.engine.test_races import cancel, expire
from tests.support.factories import LEASE, Lab, call, keys, loop, mutate, retry

LOCK_RUN = "SELECT 1 FROM flow_runs WHERE id = %s FOR UPDATE"
LATE_RENEWAL = "UPDATE flow_step_claims SET expires_at = flow_now() + interval '30 s' WHERE run_id = %s"


def test_two_sweepers_take_each_lease_once(lab: Lab) -> None:
    """Each lost attempt costs one crash, however many keepers look."""
    run_id, steps = thirty_lost(lab)
    swept = lab.race(*(lambda: expire(lab) for _ in range(3)))
    assert sorted(key for each in swept for key in keys(each.dispatches)) == steps
    assert sum(each.changed for each in swept) == len(steps), "no keeper reads what another one writes"
    crashes = lab.rows("SELECT DISTINCT crashes FROM flow_steps WHERE run_id = %s AND loop_key IS NOT NULL", run_id)
    assert [row["crashes"] for row in crashes] == [1]


def thirty_lost(lab: Lab) -> tuple[Any, list[str]]:
    """A run whose thirty children were all lost."""
    lab.flow({"each": loop("@triggerBody().items")})
    run_id = lab.start(body={"items": list(range(30))})
    steps = sorted(lab.ready(run_id))
    for key in steps:
        lab.take(run_id, key)
    lab.forward(LEASE * 2)
    return run_id, steps


def test_a_sweeper_passes_by_what_another_one_holds(lab: Lab) -> None:
    """It waits for nobody, and its page is filled with what comes next."""
    _, steps = thirty_lost(lab)
    first_ten = "SELECT 1 FROM flow_step_claims ORDER BY expires_at LIMIT 10 FOR NO KEY UPDATE"
    with lab.holding(first_ten):
        assert [sweep.expired(lab.ledger, crash_limit=3, walk=Walk(15)).changed for _ in range(3)] == [15, 5, 0]
    assert len(expire(lab).dispatches) == 10
    assert len(steps) == 30


def test_finish_beside_sweep(lab: Lab) -> None:
    """Either the completion is recorded, or it is refused and the step is READY again."""
    lab.flow({"a": call()})
    for _ in range(20):
        run_id = lab.start()
        lease = lab.take(run_id, "a")
        lab.forward(LEASE * 2)
        finished, swept = lab.race(lambda lease=lease: lab.done(lease), lambda: expire(lab))
        if isinstance(finished, LeaseLost):
            assert keys(swept.dispatches) == ["a"]
            assert lab.rows("SELECT 1 FROM flow_outputs WHERE run_id = %s", run_id) == []
            lab.do(run_id, "a")
        else:
            assert swept.dispatches == ()
        assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_sweep_leaves_a_lease_alone_that_is_being_renewed(lab: Lab) -> None:
    """The worker came back at the last moment, and its commit is not yet there."""
    run_id = lab.run({"a": call()})
    lease = lab.take(run_id, "a")
    lab.forward(LEASE * 2)
    with lab.holding(LATE_RENEWAL, run_id):
        assert expire(lab).changed == 0
    assert lab.done(lease).run_status is RunStatus.SUCCEEDED


def test_a_late_renewal_wins_over_a_sweep_that_had_seen_it_expired(lab: Lab) -> None:
    """A step that was lost too often is read first and ended later; in between the worker came back."""
    run_id = lab.run({"a": call()})
    lease = lab.take(run_id, "a")
    lab.forward(LEASE * 2)
    faults.arm("sweep.selected", lambda: renew.renew(lab.ledger, [LeaseBeat(run_id, "a", lease.fence)], LEASE) and None)
    try:
        assert expire(lab, crash_limit=0).dispatches == ()
    finally:
        faults.disarm()
    assert lab.done(lease).run_status is RunStatus.SUCCEEDED


def test_without_asking_again_a_sweep_ends_a_renewed_lease(unaudited_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant fails a step whose worker was told that it is alive."""
    lab = unaudited_lab
    mutate(monkeypatch, end_claim=statements.sql("end_claim").replace("NOT %(expired)s", "%(expired)s"))
    run_id = lab.run({"a": call()})
    lease = lab.take(run_id, "a")
    lab.forward(LEASE * 2)
    faults.arm("sweep.selected", lambda: renew.renew(lab.ledger, [LeaseBeat(run_id, "a", lease.fence)], LEASE) and None)
    expire(lab, crash_limit=0)
    faults.disarm()
    with pytest.raises(LeaseLost):
        lab.done(lease)


def test_renew_beside_sweep(lab: Lab) -> None:
    """Alive means alive: after a renewal that said so, the finish is accepted."""
    lab.flow({"a": call()})
    for _ in range(20):
        run_id = lab.start()
        lease = lab.take(run_id, "a")
        lab.forward(LEASE * 2)
        (renewal,), swept = lab.race(
            lambda lease=lease: renew.renew(lab.ledger, [LeaseBeat(lease.run_id, "a", lease.fence)], LEASE),
            lambda: expire(lab),
        )
        assert renewal.alive is (swept.dispatches == ())
        lab.done(lease) if renewal.alive else lab.do(run_id, "a")


def test_queue_timeout_beside_claim(lab: Lab) -> None:
    """They never wait for each other crosswise; one of them has the step."""
    lab.flow({"a": call(queue_timeout="PT10S")})
    for _ in range(15):
        run_id = lab.start()
        lab.forward(11)
        lease, _ = lab.race(lambda r=run_id: lab.try_take(r, "a"), lambda: sweep.queue_timeouts(lab.ledger))
        assert not isinstance(lease, BaseException), lease
        if lease is not None:
            lab.done(lease)
        sweep.queue_timeouts(lab.ledger)
        assert lab.status(run_id) is (RunStatus.FAILED if lease is None else RunStatus.SUCCEEDED)


def test_due_beside_cancel(lab: Lab) -> None:
    """A step that becomes READY under a cancel is cancelled with the rest."""
    lab.flow({"a": call(retry=retry(2, 1))})
    for _ in range(10):
        run_id = lab.start()
        lab.fail(lab.take(run_id, "a"))
        lab.forward(2)
        lab.race(lambda: sweep.due(lab.ledger), lambda r=run_id: cancel(lab, r))
        assert lab.status(run_id) is RunStatus.CANCELLED


def test_a_sweep_does_not_wait_for_a_cancel_under_way(lab: Lab) -> None:
    """READY in a halted run would stay for ever: nobody may claim it. The next sweep ends it."""
    run_id = lab.run({"a": call()})
    lab.take(run_id, "a")
    lab.forward(LEASE * 2)
    with lab.holding(LOCK_RUN, run_id):
        assert expire(lab).dispatches == ()
    cancel(lab, run_id)
    assert lab.statuses(run_id) == {"a": "running"}
    assert expire(lab).dispatches == ()
    assert lab.status(run_id) is RunStatus.CANCELLED


def test_a_dead_workers_step_is_not_put_back_into_a_run_that_was_cancelled_meanwhile(lab: Lab) -> None:
    """Between the read and the write of what it held; the sweep ends the step when the lease is over."""
    run_id = lab.run({"a": call()})
    lab.take(run_id, "a")
    faults.arm("sweep.selected", lambda: cancel(lab, run_id) and None)
    try:
        assert release.end_owned(lab.ledger, "w1", crash_limit=3) == ()
    finally:
        faults.disarm()
    assert lab.statuses(run_id) == {"a": "running"}
    lab.forward(LEASE * 2)
    expire(lab)
    assert lab.status(run_id) is RunStatus.CANCELLED


@pytest.mark.parametrize("name", ["requeue_expired", "requeue_lost"])
def test_without_a_look_at_the_run_a_recovery_strands_it(
    unaudited_lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The mutants of the tests above leave a READY step that nobody may claim."""
    lab = unaudited_lab
    mutate(monkeypatch, **{name: statements.sql(name).replace("AND r.halt IS NULL", "")})
    run_id = lab.run({"a": call()})
    lab.take(run_id, "a")
    if name == "requeue_lost":
        faults.arm("sweep.selected", lambda: cancel(lab, run_id) and None)
        release.end_owned(lab.ledger, "w1", crash_limit=3)
        faults.disarm()
    else:
        cancel(lab, run_id)
    lab.forward(LEASE * 2)
    expire(lab)
    assert lab.statuses(run_id) == {"a": "ready"}
    assert lab.try_take(run_id, "a") is None
    assert lab.status(run_id) is RunStatus.RUNNING
