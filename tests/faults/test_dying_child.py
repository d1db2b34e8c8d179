"""A pool child dies at every point it passes. Its worker notices at once: nobody waits for the lease."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest

from orchestrator.core.states import RunStatus
from orchestrator.ledger import reads
from tests.faults.arena import Arena
from tests.faults.conftest import Make


@pytest.fixture(scope="module")
def field(make_arena: Make) -> Iterator[Arena]:
    """One worker with one child, and leases far longer than the tests."""
    with make_arena(lease=timedelta(seconds=60), heartbeat=timedelta(seconds=0.4)) as made:
        made.worker()
        yield made
        made.judge_all_again()


AT_ONCE = [
    # The first child that passes it; and how many attempts that costs.
    ("claim.before", 0),
    ("claim.committed", 1),
    ("handler.before", 1),
    ("publish.before", 0),
    ("publish.after", 0),
    ("expand.inserted", 1),
]
IN_A_STEP = [
    ("first", "handler.middle", 1),
    ("first", "finish.before", 1),
    ("first", "finish.committed", 0),
    ("second", "handler.after", 1),
    ("second", "finish.before", 1),
    ("second", "finish.committed", 1),  # the chained claim of `flaky`
    ("second", "renew.before", 1),
    ("second", "renew.committed", 1),
    ("flaky", "fail.before", 1),
    ("flaky", "fail.committed", 0),
    ("part.0.part", "handler.middle", 1),
    ("part.0.part", "finish.committed", 1),  # the chained claim of the next child
    ("part.1.part", "finish.committed", range(2)),  # if it is the last child, with the chained claim of `total`
    ("part.4.part", "finish.before", 1),
    ("pay", "handler.middle", 1),
    ("pay", "handler.after", 1),
    ("pay", "finish.committed", 1),  # the chained claim of `last`
    ("last", "finish.before", 1),
    ("last", "finish.committed", 0),
]


def test_without_a_fault(field: Arena) -> None:
    """What everything below is held against."""
    field.check(field.start())


@pytest.mark.parametrize(("point", "crashed"), AT_ONCE)
def test_killed_at(field: Arena, point: str, crashed: int) -> None:
    field.order(point, "kill")
    run_id = field.start()
    field.check(run_id, crashed=crashed)
    field.struck(point)


@pytest.mark.parametrize(("step", "point", "crashed"), IN_A_STEP)
def test_killed_in(field: Arena, step: str, point: str, crashed: int | range) -> None:
    seconds = 1.5 if point.startswith("renew") else 0.0
    run_id = field.start(plan={step: f"{point}=kill"}, seconds=seconds)
    field.check(run_id, crashed=crashed)
    field.struck(point)


def test_killed_while_a_fan_out_of_a_thousand_is_half_inserted(field: Arena) -> None:
    """All of the children or none: the second try inserts each of them once."""
    field.order("expand.inserted", "kill")
    run_id = field.start("wide", width=1000)
    field.struck("expand.inserted")
    assert field.ended(run_id) is RunStatus.SUCCEEDED
    assert reads.runs.result(field.ledger, run_id) == sum(n * n for n in range(1000))
    starts = Counter(line.step_key for line in field.lines(run_id) if line.kind == "start")
    assert len(starts) == 1002
    assert [key for key, count in starts.items() if count > 1] == ["first"]
