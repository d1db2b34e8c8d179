"""Whoever sends a signal dies on the way, and sends it again: it is delivered once."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest

from orchestrator.core.signals import Signal
from orchestrator.core.states import RunStatus
from orchestrator.engine.signals import deliver
from orchestrator.ledger import reads
from tests.faults.arena import Arena
from tests.faults.conftest import Make
from tests.support.eventually import eventually
from tests.support.nursery import alive
from tests.support.worker_process import env_of


@pytest.fixture(scope="module")
def field(make_arena: Make) -> Iterator[Arena]:
    with make_arena(lease=timedelta(seconds=3)) as made:
        made.worker()
        yield made
        made.judge_all_again()


@pytest.mark.parametrize(
    ("point", "taken"),
    [("signal.before", 0), ("signal.taken", 0), ("signal.committed", 1), ("publish.before", 1), ("publish.after", 1)],
)
def test_a_client_dies_while_it_sends_a_signal(field: Arena, point: str, taken: int) -> None:
    """The signal and what follows from it are one commit; what was not published, a keeper does."""
    field.keep(1)
    run_id = field.start("paying")
    field.order(point, "kill", "any")
    log = field.folder / f"signal-{point}.log"
    log.write_text("")
    env = env_of(field.settings, **field.env)
    pid = field.nursery.fork("tests.faults.client:signal", str(run_id), env=env, log=log, folder=field.folder)
    eventually(lambda: not alive(pid), timeout=60)
    field.struck(point)
    outcome = deliver.deliver(field.ledger, run_id, "evt-1", Signal("paid", "5"))
    assert outcome.delivery().duplicate is bool(taken)
    field.publisher.publish(outcome.dispatches)
    assert field.ended(run_id) is RunStatus.SUCCEEDED, field.log()
    assert reads.runs.result(field.ledger, run_id) == 5
    (events,) = field.rows(
        "SELECT count(*) AS n FROM flow_events WHERE run_id = %s AND type = 'signal.delivered'", run_id
    )
    assert events["n"] == 1


@pytest.mark.parametrize(("point", "early"), [("wait.parked", False), ("signal.taken", True)])
def test_a_worker_dies_while_it_opens_a_wait(field: Arena, point: str, early: bool) -> None:
    """The wait opens in the commit that ends the step before, which is done again; a signal that was kept for it is
    taken once."""
    field.keep(1)
    run_id = field.start("billing", publish=False, plan={"lone": f"{point}=kill"})  # a keeper publishes it
    signal = Signal("paid", "5")
    if early:
        assert deliver.deliver(field.ledger, run_id, "evt-1", signal).delivery().kept
    field.struck(point)
    if not early:
        eventually(lambda: reads.steps.get(field.ledger, run_id, "paid").status == "waiting", timeout=60)
        outcome = deliver.deliver(field.ledger, run_id, "evt-1", signal)
        assert outcome.delivery().delivered
        field.publisher.publish(outcome.dispatches)
    assert field.ended(run_id) is RunStatus.SUCCEEDED, field.log()
    assert reads.runs.result(field.ledger, run_id) == 5
    attempts = [one.status for one in reads.steps.attempts(field.ledger, run_id, "lone")]
    assert sorted(attempts) == ["crashed", "succeeded"], field.log()
    events = Counter(event.type for event in reads.events.of_run(field.ledger, run_id))
    assert (events["step.parked"], events["signal.kept"], events["signal.delivered"]) == (not early, early, 1)


@pytest.mark.parametrize(("point", "early"), [("wait.parked", False), ("signal.taken", True)])
def test_a_worker_dies_while_it_opens_the_wait_of_an_item(field: Arena, point: str, early: bool) -> None:
    """One that was kept for the item is taken by it once; the other item has its own."""
    field.keep(1)
    run_id = field.start("bills", publish=False, plan={"bill.1.picked": f"{point}=kill"})
    sent = [(key, Signal("paid", amount, key)) for key, amount in (("2", "5"), ("1", "3"))]
    if early:
        for key, signal in sent:
            assert deliver.deliver(field.ledger, run_id, key, signal).delivery().kept
    field.struck(point)
    for n, (key, signal) in zip((1, 0), sent, strict=True):
        if not early:
            step = f"bill.{n}.paid"
            eventually(lambda step=step: field.rows(_STATUS, run_id, step)[:1] == [{"status": "waiting"}], timeout=60)
            outcome = deliver.deliver(field.ledger, run_id, key, signal)
            assert outcome.delivery().step == step
            field.publisher.publish(outcome.dispatches)
    assert field.ended(run_id) is RunStatus.SUCCEEDED, field.log()
    assert reads.runs.result(field.ledger, run_id) == 8
    events = Counter((event.type, event.step_key) for event in reads.events.of_run(field.ledger, run_id))
    assert [events["signal.delivered", f"bill.{n}.paid"] for n in (0, 1)] == [1, 1]
    attempts = [one.status for one in reads.steps.attempts(field.ledger, run_id, "bill.1.picked")]
    assert sorted(attempts) == ["crashed", "succeeded"], field.log()


_STATUS = "SELECT status FROM flow_steps WHERE run_id = %s AND step_key = %s"
