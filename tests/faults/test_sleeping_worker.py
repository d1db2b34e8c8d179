"""A pool child, or a keeper, sleeps past its lease while others go on, and then wakes up with stale hands."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import pytest

from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import cancel_run
from orchestrator.ledger import reads
from tests.faults.arena import Arena, go_on
from tests.faults.conftest import Make
from tests.support import nemesis
from tests.support.cases import thinned
from tests.support.eventually import eventually
from tests.support.nursery import stopped


@pytest.fixture(scope="module")
def field(make_arena: Make) -> Iterator[Arena]:
    """Two workers: one sleeps, the other takes over. A transaction that sleeps is ended after the statement timeout."""
    times = {"lease": 2.0, "heartbeat": 0.5, "statement_timeout": 1.0}
    with make_arena(**{name: timedelta(seconds=value) for name, value in times.items()}) as made:
        made.worker()
        made.worker()
        yield made
        made.judge_all_again()


AT_ONCE = [
    # The point, attempts lost, what the sleeper says when it wakes up.
    ("claim.before", 0, "step.duplicate"),
    ("claim.committed", 1, "step.not_started"),
    ("handler.before", 1, "step.not_started"),
    ("publish.after", 0, ""),
]
IN_A_STEP = [
    ("second", "handler.middle", 1, "step.stale"),
    ("second", "handler.after", 1, "step.stale"),
    ("second", "finish.before", 1, "step.stale"),
    ("second", "finish.committed", 1, "step.not_started"),  # it held the chained claim of `flaky`
    ("second", "renew.before", 1, "step.stale"),
    ("second", "renew.committed", 1, "step.stale"),
    ("flaky", "fail.before", 1, "step.stale"),
    ("flaky", "fail.committed", 0, ""),
    ("part.0.part", "handler.middle", 1, "step.stale"),
    ("part.0.part", "finish.committed", 1, "step.not_started"),
    ("pay", "handler.middle", 1, "step.stale"),
    ("pay", "handler.after", 1, "step.stale"),
    ("pay", "finish.committed", 1, "step.not_started"),
    ("last", "finish.before", 1, "step.stale"),
    ("first", "expand.inserted", 1, "step.stale"),
]


def wake(field: Arena, pid: int, says: str) -> None:
    """Let it go on, and wait until it has seen what happened."""
    assert stopped(pid), "it slept all the time"
    before = count(field, pid, says)
    go_on(pid)
    if says:
        eventually(lambda: count(field, pid, says) > before, timeout=60, message=f"{pid} says {says}")


def count(field: Arena, pid: int, says: str) -> int:
    return sum(worker.log().count(f"[{pid}] {says}") for worker in field.workers)


@pytest.mark.parametrize(("point", "crashed", "says"), thinned(AT_ONCE, AT_ONCE[1], AT_ONCE[-1]))
def test_asleep_at(field: Arena, point: str, crashed: int, says: str) -> None:
    field.order(point, "stop")
    run_id = field.start()
    pid = field.struck(point)
    field.check(run_id, crashed=crashed, paused=True)
    wake(field, pid, says)
    field.judge(run_id, crashed=crashed, paused=True)


@pytest.mark.slow
def test_asleep_before_it_sends(field: Arena) -> None:
    """A keeper sent for it meanwhile. What it sends at last is suppressed, whichever worker takes it."""

    def suppressed() -> int:
        (row,) = field.rows("SELECT sum(suppressed) AS n FROM flow_step_dispatches WHERE run_id = %s", run_id)
        return int(row["n"])

    field.order("publish.before", "stop")
    run_id = field.start()
    pid = field.struck("publish.before")
    field.check(run_id, paused=True)
    assert stopped(pid), "it slept all the time"
    before = suppressed()
    go_on(pid)
    eventually(lambda: suppressed() > before, timeout=60, message="the late message is suppressed")
    field.judge(run_id, paused=True)


@dataclass
class Sleeper:
    """A run whose step fell asleep, and what went wrong when it was woken."""

    run_id: UUID
    problem: AssertionError | None = None


@pytest.fixture(scope="module")
def sleepers(field: Arena) -> dict[tuple[str, str], Sleeper]:
    """Each step and point on a run of its own. Five sleep at a time, in a worker with more children than that."""
    field.worker(concurrency=7)
    found: dict[tuple[str, str], Sleeper] = {}
    for first in range(0, len(IN_A_STEP), 5):
        nemesis.clear(field.faults)
        group = IN_A_STEP[first : first + 5]
        for step, point, *_ in group:
            seconds = 1.2 if point.startswith("renew") else 0.0
            plan = {"part.1.part": "nap=0.5", step: f"{point}=stop"}  # so that a child is left to chain to `part.0`
            found[step, point] = Sleeper(field.start(plan=plan, seconds=seconds))
        for step, point, _, says in group:
            sleeper = found[step, point]
            try:
                field.ended(sleeper.run_id)
                wake(field, field.pid_of(sleeper.run_id, step), says)
            except AssertionError as exc:
                sleeper.problem = exc
    return found


@pytest.mark.parametrize(("step", "point", "crashed", "says"), IN_A_STEP)
def test_asleep_in(
    field: Arena, sleepers: dict[tuple[str, str], Sleeper], step: str, point: str, crashed: int, says: str
) -> None:
    """It is woken after its run has ended without it; `sleepers` has heard what it said."""
    sleeper = sleepers[step, point]
    if sleeper.problem is not None:
        raise sleeper.problem
    field.check(sleeper.run_id, crashed=crashed, paused=True)


@pytest.mark.parametrize("point", ["sweep.selected", "sweep.committed"])
def test_a_keeper_asleep_while_it_recovers(field: Arena, point: str) -> None:
    """What it read before it slept is old when it wakes up: each of its writes quotes the version."""
    field.order(point, "stop", "main")
    run_id = field.start(plan={"second": "handler.middle=kill"})
    pid = field.struck(point)
    field.check(run_id, crashed=range(1, 3), paused=True)
    assert stopped(pid)
    go_on(pid)
    field.check(field.start())
    field.judge(run_id, crashed=range(1, 3), paused=True)


def test_a_transactional_step_may_think_for_longer_than_a_statement(field: Arena) -> None:
    """It sleeps in a transaction too, but holds nothing that the ledger needs."""
    field.check(field.start(plan={"pay": "nap=1.5"}))


def test_a_worker_that_cannot_renew_stops_by_its_own_clock(field: Arena) -> None:
    """Cut off from the ledger it tells the handler before the lease is over; the other worker runs the step again."""
    field.order("renew.before", "always-raise")
    run_id = field.start("heedful", seconds=60.0)
    eventually(lambda: [line for line in field.lines(run_id) if line.kind == "cancelled"], timeout=60)
    nemesis.clear(field.faults)
    eventually(lambda: any("lease.fenced" in worker.log() for worker in field.workers))
    eventually(lambda: len(reads.steps.attempts(field.ledger, run_id, "heeding")) == 2, timeout=60)
    first, second = reads.steps.attempts(field.ledger, run_id, "heeding")
    assert (first.status, second.status) == ("crashed", "running")
    cancel_run.cancel(field.ledger, run_id, by="test", reason="seen enough", grace=timedelta(seconds=5))
    assert field.ended(run_id) is RunStatus.CANCELLED


def test_a_sleeping_transaction_does_not_stand_in_the_way_of_the_next_attempt(field: Arena) -> None:
    """Both write the same unique key; the sleeper's uncommitted row is taken from it with its lease."""
    run_id = field.start("unique", plan={"pay_once": "handler.middle=stop"})
    pid = field.struck("handler.middle")
    assert field.ended(run_id) is RunStatus.SUCCEEDED
    assert [one.status for one in reads.steps.attempts(field.ledger, run_id, "pay_once")] == ["crashed", "succeeded"]
    wake(field, pid, "step.stale")
    rows = field.rows("SELECT attempt FROM test_unique_payments WHERE key = %s", f"{run_id}:pay_once")
    assert [row["attempt"] for row in rows] == [2]
