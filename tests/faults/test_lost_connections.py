"""Nobody dies, but at every point Redis is emptied, every database connection is ended, or a commit seems to fail."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.faults.arena import Arena
from tests.faults.conftest import Make
from tests.support import nemesis
from tests.support.cases import thinned


@pytest.fixture(scope="module")
def field(make_arena: Make) -> Iterator[Arena]:
    with make_arena(lease=timedelta(seconds=30), heartbeat=timedelta(seconds=0.5)) as made:
        made.worker()
        yield made
        made.judge_all_again()


IN_A_STEP = [
    ("first", "finish.committed"),
    ("second", "handler.middle"),
    ("second", "handler.after"),
    ("second", "finish.before"),
    ("second", "finish.committed"),
    ("second", "renew.before"),
    ("second", "renew.committed"),
    ("flaky", "fail.before"),
    ("flaky", "fail.committed"),
    ("part.0.part", "finish.committed"),
    ("pay", "finish.committed"),
    ("last", "finish.committed"),
]
AT_ONCE = [
    ("claim.before", "child"),
    ("claim.committed", "child"),
    ("publish.before", "child"),
    ("publish.after", "child"),
    ("publish.before", "main"),
    ("publish.after", "main"),
]


def try_in(field: Arena, step: str, point: str, do: str, crashed: int = 0) -> None:
    run_id = field.start(plan={step: f"{point}={do}"}, seconds=0.8 if point.startswith("renew") else 0.0)
    field.check(run_id, crashed=crashed)
    field.struck(point)
    starts = [line for line in field.lines(run_id) if line.kind == "start"]
    assert len(starts) == 12 + crashed, "nothing is executed again without a reason"


def try_at(field: Arena, point: str, who: nemesis.Who, do: str) -> None:
    """A keeper strikes while the child may be in the transactional step, which then runs again."""
    at_most = int(who == "main" and do == "cut")
    field.order(point, do, who)
    run_id = field.start()
    field.check(run_id, crashed=range(at_most + 1))
    field.struck(point)
    starts = [line for line in field.lines(run_id) if line.kind == "start"]
    assert 12 <= len(starts) <= 12 + at_most


@pytest.mark.parametrize(("point", "who"), thinned(AT_ONCE, AT_ONCE[1], AT_ONCE[4]))
def test_redis_is_emptied_at(field: Arena, point: str, who: nemesis.Who) -> None:
    try_at(field, point, who, "flush")


@pytest.mark.parametrize(("step", "point"), [("first", "finish.committed"), ("flaky", "fail.committed")])
def test_redis_is_emptied_in(field: Arena, step: str, point: str) -> None:
    try_in(field, step, point, "flush")


@pytest.mark.parametrize(("point", "who"), thinned(AT_ONCE, AT_ONCE[1], AT_ONCE[4]))
def test_database_connections_end_at(field: Arena, point: str, who: nemesis.Who) -> None:
    try_at(field, point, who, "cut")


@pytest.mark.parametrize(("step", "point"), thinned(IN_A_STEP, IN_A_STEP[1], IN_A_STEP[4], IN_A_STEP[6]))
def test_database_connections_end_in(field: Arena, step: str, point: str) -> None:
    try_in(field, step, point, "cut")


@pytest.mark.parametrize("point", ["handler.middle", "handler.after"])
def test_database_connections_end_in_a_transactional_step(field: Arena, point: str) -> None:
    """Its transaction is gone, so it runs again."""
    try_in(field, "pay", point, "cut", crashed=1)


@pytest.mark.parametrize(
    ("step", "point"),
    thinned([pair for pair in IN_A_STEP if not pair[1].startswith("handler")], IN_A_STEP[0], IN_A_STEP[7]),
)
def test_a_commit_seems_to_fail_in(field: Arena, step: str, point: str) -> None:
    """Committed, and then the connection breaks: the worker reads what became of it, and goes on."""
    try_in(field, step, point, "raise")


@pytest.mark.parametrize("point", ["claim.before", "claim.committed", "expand.inserted"])
def test_a_commit_seems_to_fail_at(field: Arena, point: str) -> None:
    try_at(field, point, "child", "raise")


@pytest.mark.parametrize("point", ["sweep.selected", "sweep.committed"])
def test_a_keeper_loses_its_connection_while_it_recovers(field: Arena, point: str) -> None:
    field.order(point, "raise", "main")
    run_id = field.start(plan={"second": "handler.middle=kill"})
    field.check(run_id, crashed=1)
    field.struck(point)
