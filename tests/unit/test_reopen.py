"""What an operator's retry resets, in time that grows with the graph and no faster."""

from collections.abc import Callable, Iterator
from time import process_time
from typing import Any

import pytest

from orchestrator.core.manifest import Manifest
from orchestrator.core.plan import Plan
from orchestrator.core.reopen import reopen
from orchestrator.core.states import StepStatus
from tests.support.factories import after, call


class Counted(dict[str, StepStatus]):
    """States that count how often all of them are read."""

    copies = 0

    def keys(self) -> Any:
        self.copies += 1
        return super().keys()

    def __iter__(self) -> Iterator[str]:
        self.copies += 1
        return super().__iter__()


def chain(n: int) -> dict[str, Any]:
    return {"s0": call(), **{f"s{i}": after(f"s{i - 1}") for i in range(1, n)}}


def star(n: int) -> dict[str, Any]:
    return {"s0": call(), **{f"s{i}": after("s0") for i in range(1, n)}}


@pytest.mark.parametrize("shape", [chain, star])
def test_a_large_graph_is_reopened_in_linear_time(shape: Callable[[int], dict[str, Any]]) -> None:
    """The run is locked meanwhile. Four times the steps took sixteen times as long."""
    took = {}
    for n in (1000, 4000):
        plan = Plan.of(Manifest(name="big", steps=shape(n)))
        states = Counted(dict.fromkeys(plan.nodes, StepStatus.SKIPPED) | {"s0": StepStatus.FAILED})
        times = []
        for _ in range(3):
            began = process_time()
            reset = reopen(plan, states, {"s0"})
            times.append(process_time() - began)
        took[n] = min(times)
        assert len(reset.waits) == n
        assert states.copies <= 15
    assert took[4000] < took[1000] * 10, took
