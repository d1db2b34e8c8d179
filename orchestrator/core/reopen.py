"""What an operator's retry resets, decided from the graph and the states alone."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter

from orchestrator.core.planner import Plan
from orchestrator.core.states import FINAL_STEP, StepStatus

FOLLOWS = frozenset({StepStatus.SKIPPED, StepStatus.CANCELLED, StepStatus.BLOCKED})
"""States of a step that a retry upstream takes along."""
_EFFECTIVE = frozenset({StepStatus.SUCCEEDED, StepStatus.READY, StepStatus.RUNNING, StepStatus.WAITING})
"""States of a step whose effects are there, or may come."""


@dataclass(frozen=True, slots=True)
class Reset:
    """`waits[key]` is (predecessors not ended, predecessors that ended otherwise than asked); (0, 0) may go at once."""

    waits: Mapping[str, tuple[int, int]]
    impossible: frozenset[str]
    sinks_open: int
    failed: tuple[str, ...]
    """Steps that stay failed, with nothing that handles it: the run fails whatever comes of the others."""


def reopen(
    plan: Plan, states: Mapping[str, StepStatus], seeds: Collection[str], opened: Collection[str] = frozenset()
) -> Reset:
    """Reset `seeds`, and everything after them that never ran because of them.

    A seed whose predecessors ended otherwise than asked cannot run: it is in `impossible` and stays as it is.
    `opened` are loops that have their children: their predecessors were asked once and for all.
    """
    waits: dict[str, tuple[int, int]] = {}
    impossible = set()
    for key in TopologicalSorter({key: node.definition.run_after for key, node in plan.nodes.items()}).static_order():
        before = plan.nodes[key].definition.run_after
        follows = states[key] in FOLLOWS and any(predecessor in waits for predecessor in before)
        if key in opened:
            if key in seeds:
                waits[key] = (0, 0)
            continue
        if key not in seeds and not follows:
            continue
        open_ = sum(predecessor in waits or states[predecessor] not in FINAL_STEP for predecessor in before)
        unmet = sum(
            predecessor not in waits and states[predecessor] in FINAL_STEP and states[predecessor] not in accepted
            for predecessor, accepted in before.items()
        )
        if unmet and not open_:
            impossible.add(key)
        else:
            waits[key] = (open_, unmet)
    after = {**states, **dict.fromkeys(waits, StepStatus.BLOCKED)}
    free = dict.fromkeys((key for key, wait in waits.items() if wait == (0, 0)), StepStatus.READY)
    return Reset(
        waits=waits,
        impossible=frozenset(impossible & set(seeds)),
        sinks_open=sinks_open(plan, {**after, **free}),
        failed=tuple(key for key in states if plan.unhandled(key, after)),
    )


def sinks_open(plan: Plan, states: Mapping[str, StepStatus]) -> int:
    """How many open steps nothing waits for: the run ends when they have."""
    blocked = {key for key, status in states.items() if status is StepStatus.BLOCKED}
    return sum(_ends_loose(plan, key, blocked) for key, status in states.items() if status not in FINAL_STEP)


def compensated(plan: Plan, states: Mapping[str, StepStatus], again: Collection[str]) -> dict[str, StepStatus]:
    """Steps that run only when one of `again` has failed, and succeeded or may still: what they do (a refund, say) is
    done, or on its way."""
    return {
        key: status
        for key, status in states.items()
        if status in _EFFECTIVE
        and any(
            before in again and StepStatus.FAILED in accepted and StepStatus.SUCCEEDED not in accepted
            for before, accepted in plan.nodes[key].definition.run_after.items()
        )
    }


def _ends_loose(plan: Plan, key: str, blocked: Collection[str]) -> bool:
    """Nothing waits for the step: it is a sink, or its successors ran already, after its failure."""
    return not any(edge.target in blocked for edge in plan.nodes[key].edges)
