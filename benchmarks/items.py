"""Loops of items beside the loop of one step: what a step costs, and whether a worker's memory and `run watch` stay."""

import time
from statistics import median
from typing import Any, Final

from benchmarks import flows, item_flows
from benchmarks.alone import Ground, resident
from benchmarks.contenders import Ours, succeeded
from benchmarks.figures import number
from benchmarks.report import Result
from benchmarks.workloads import Say, Sizes

_STEPS: Final = 3
_PATIENCE_S: Final = 600.0
_REST_S: Final = 0.6


def items(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """As many steps each, in turn: a third of the items where each has three."""
    count, ratios, notes = sizes.items, [], []
    with ground.ours(ground.database("items"), 12, "items", flows="benchmarks.item_flows") as ours:
        for flow in (flows.fan, item_flows.items):
            _spent(ours, flow, 30)
        memory = resident(ours.pid)[1]
        for turn in range(sizes.rounds):
            plain = _spent(ours, flows.fan, count)
            three = _spent(ours, item_flows.items, count // _STEPS)
            totals = [sum(one.values()) for one in (plain, three)]
            ratios.append(totals[1] / totals[0])
            for name, one, total in zip(("one step", "three steps"), (plain, three), totals, strict=True):
                parts = ", ".join(f"{role} {number(ms)}" for role, ms in one.items())
                notes.append(f"round {turn + 1}, items of {name}: CPU {number(total)} ms per step ({parts})")
                say(f"items: {notes[-1]}")
            say(f"items: three to one, per step: {ratios[-1]:.2f}")
        after = resident(ours.pid)[1]
    notes.append(f"a step of an item of three to one of an item of one, CPU: **{number(median(ratios))} times**")
    notes.append(f"memory of the pool children: {number(memory)} MB before, {number(after)} after")
    return Result(f"Loops of {count:,} steps, of one and of three for each item", notes=notes)


def _spent(ours: Ours, flow: Any, count: int) -> dict[str, float]:
    """CPU in ms per step, by role."""
    before = ours.cpu()
    succeeded(ours.client.start(flow, count=count), _PATIENCE_S)
    time.sleep(_REST_S)
    steps = count * (_STEPS if flow is item_flows.items else 1)
    return (ours.cpu() - before).ms_per(steps)
