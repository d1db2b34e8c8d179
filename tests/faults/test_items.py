"""A pool child dies while items of a loop begin, go on and end: each of their steps is done once, and none is lost."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
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


@pytest.mark.parametrize(
    "point",
    [
        "loop.stopped",
        pytest.param("fail.before", marks=pytest.mark.slow),
        pytest.param("fail.committed", marks=pytest.mark.slow),
    ],
)
def test_killed_while_a_loop_stops(field: Arena, point: str) -> None:
    """The failure, and what is over with it, are one commit: no item waits on, and the loop stops once."""
    run_id = field.start("stopping", plan={"order.2.checked": f"{point}=kill"})
    field.struck(point)
    assert field.ended(run_id) is RunStatus.FAILED, field.log()
    found = {step.key: (step.status, step.reason) for n in range(3) for step in _item(field, run_id, n)}
    why = "the loop stopped: order.2 failed"
    assert [found[f"order.{n}.paid"] for n in (0, 1)] == [("skipped", why)] * 2
    assert [found[f"order.{n}"] for n in (0, 1)] == [("skipped", why)] * 2
    assert found["order.2"] == ("failed", "checked failed: 2 is refused")
    events = Counter(event.type for event in reads.events.of_run(field.ledger, run_id))
    assert events["step.stopped"] == events["run.failed"] == 1
    assert field.rows("SELECT FROM flow_signal_waiters WHERE run_id = %s AND closed_at IS NULL", run_id) == []
    attempts = [one.status for one in reads.steps.attempts(field.ledger, run_id, "order.2.checked")]
    assert attempts == (["failed"] if point == "fail.committed" else ["crashed", "failed"]), field.log()


def _item(field: Arena, run_id: UUID, n: int) -> list[Any]:
    key = f"order.{n}"
    return [reads.steps.get(field.ledger, run_id, key), *reads.steps.children(field.ledger, run_id, key)]
