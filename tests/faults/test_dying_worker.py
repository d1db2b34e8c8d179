"""A whole worker dies, main process and all. Another one takes over, a lease later at most."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.faults.arena import Arena
from tests.faults.conftest import Make
from tests.support import nemesis
from tests.support.cases import thinned


@pytest.fixture(scope="module")
def field(make_arena: Make) -> Iterator[Arena]:
    with make_arena(lease=timedelta(seconds=2), heartbeat=timedelta(seconds=0.5)) as made:
        yield made
        made.judge_all_again()


# The victim works on one step at a time, so it takes one attempt with it at most.
AT_ONCE = [
    ("claim.before", "child", 0),
    ("claim.committed", "child", 1),
    ("handler.before", "child", 1),
    ("publish.before", "child", 0),
    ("publish.after", "child", 0),
    ("publish.before", "main", 0),  # a keeper, with the timer of `flaky`
    ("publish.after", "main", 0),
    ("expand.inserted", "child", 1),
]
IN_A_STEP = [
    ("second", "handler.middle", 1),
    ("second", "handler.after", 1),
    ("second", "finish.before", 1),
    ("second", "finish.committed", 1),
    ("second", "renew.before", 1),
    ("second", "renew.committed", 1),
    ("flaky", "fail.before", 1),
    ("flaky", "fail.committed", 0),
    ("part.0.part", "handler.middle", 1),
    ("pay", "handler.after", 1),
    ("pay", "finish.committed", 1),
]


@pytest.mark.parametrize(("point", "who", "crashed"), thinned(AT_ONCE, AT_ONCE[1], AT_ONCE[5], AT_ONCE[7]))
def test_killed_at(field: Arena, point: str, who: nemesis.Who, crashed: int) -> None:
    """With a keeper's death, the pool's child dies at whatever it does at that moment."""
    field.keep(2)  # whoever died is replaced, while the next test begins
    field.order(point, "killpg", who)
    run_id = field.start()
    field.check(run_id, crashed=range(2) if who == "main" else crashed)
    field.struck(point)


@pytest.mark.parametrize(("step", "point", "crashed"), thinned(IN_A_STEP, IN_A_STEP[0], IN_A_STEP[3], IN_A_STEP[10]))
def test_killed_in(field: Arena, step: str, point: str, crashed: int) -> None:
    field.keep(2)
    run_id = field.start(plan={step: f"{point}=killpg"}, seconds=1.2 if point.startswith("renew") else 0.0)
    field.check(run_id, crashed=crashed)
    field.struck(point)


@pytest.mark.parametrize("point", thinned(["sweep.selected", "sweep.committed"], "sweep.selected"))
def test_a_keeper_killed_while_it_recovers(field: Arena, point: str) -> None:
    """First a child, then the worker that puts the child's step back: the step was put back wholly or not at all."""
    field.keep(2)
    field.order(point, "killpg", "main")
    run_id = field.start(plan={"second": "handler.middle=kill"})
    field.check(run_id, crashed=range(1, 3))
    field.struck(point)


@pytest.fixture(scope="module")
def threaded(make_arena: Make) -> Iterator[Arena]:
    """Steps, keeper and heartbeat share one process."""
    with make_arena(lease=timedelta(seconds=2), heartbeat=timedelta(seconds=0.5)) as made:
        yield made
        made.judge_all_again()


OF_THREADS = [
    ("second", "handler.middle"),
    ("second", "finish.committed"),
    ("flaky", "fail.before"),
    ("pay", "handler.after"),
]


@pytest.mark.parametrize(("step", "point"), thinned(OF_THREADS, OF_THREADS[0]))
def test_a_worker_of_threads_killed_in(threaded: Arena, step: str, point: str) -> None:
    """Every thread's attempt goes with it."""
    threaded.keep(2, pool="threads", concurrency=2)
    run_id = threaded.start(plan={step: f"{point}=kill"})
    threaded.check(run_id, crashed=range(1, 3))
    threaded.struck(point)
