"""A pool child dies while items of a loop begin, go on and end: each of their steps is done once, and none is lost."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from orchestrator.core.states import RunStatus
from orchestrator.ledger import reads
from tests.faults.arena import Arena
from tests.faults.conftest import Make

WIDTH = 5
STEPS = ("picked", "packed", "sealed")


@pytest.fixture(scope="module")
def field(make_arena: Make) -> Iterator[Arena]:
    with make_arena(lease=timedelta(seconds=60), heartbeat=timedelta(seconds=0.4)) as made:
        made.worker()
        yield made
        made.judge_all_again()


def judge(field: Arena, run_id: UUID, crashed: int | range) -> None:
    """Every step has one success, every item one end, and the list is whole and in order."""
    assert field.ended(run_id) is RunStatus.SUCCEEDED, field.log()
    assert reads.runs.result(field.ledger, run_id) == sum(n * n for n in range(WIDTH))
    assert reads.steps.output(field.ledger, run_id, "parcel") == [n * n for n in range(WIDTH)]
    keys = ["first", *(f"parcel.{n}.{key}" for n in range(WIDTH) for key in STEPS), "loaded"]
    found = [Counter(one.status for one in reads.steps.attempts(field.ledger, run_id, key)) for key in keys]
    assert all(one["succeeded"] == 1 for one in found)
    lost = sum(one["crashed"] for one in found)
    assert lost in (crashed if isinstance(crashed, range) else (crashed,)), field.log()
    events = Counter((event.type, event.step_key) for event in reads.events.of_run(field.ledger, run_id))
    ended = [*keys, "parcel", *(f"parcel.{n}" for n in range(WIDTH))]
    assert all(events["step.succeeded", key] == 1 for key in ended), events
    assert events["step.expanded", "parcel"] == events["run.succeeded", None] == 1


@pytest.mark.parametrize("point", ["items.entered", "item.ended"])
def test_killed_at(field: Arena, point: str) -> None:
    """In the transaction that lets the first items in, and in the one that ends the last."""
    field.order(point, "kill")
    run_id = field.start("packing", width=WIDTH)
    judge(field, run_id, 1)
    field.struck(point)


@pytest.mark.parametrize(
    ("step", "point", "crashed"),
    [
        ("parcel.1.packed", "handler.middle", 1),
        ("parcel.0.sealed", "finish.before", 1),
        ("parcel.0.sealed", "finish.committed", 1),  # with the claim of the first step of the next item
        ("parcel.4.sealed", "finish.before", 1),
        ("parcel.4.sealed", "finish.committed", range(2)),  # if it is the last item, with the claim of `loaded`
    ],
)
def test_killed_in(field: Arena, step: str, point: str, crashed: int | range) -> None:
    run_id = field.start("packing", width=WIDTH, plan={step: f"{point}=kill"})
    judge(field, run_id, crashed)
    field.struck(point)
