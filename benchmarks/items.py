"""Loops of items beside the loop of one step: what a step costs, and whether a worker's memory and `run watch` stay."""

import time
from statistics import median
from typing import Any, Final
from uuid import UUID

from benchmarks import flows, item_flows
from benchmarks.alone import Ground, resident
from benchmarks.contenders import Ours, succeeded
from benchmarks.figures import number
from benchmarks.report import Result
from benchmarks.workloads import Say, Sizes

_STEPS: Final = 3
_PATIENCE_S: Final = 3600.0
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


def item_memory(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """Resident memory of a worker over loops that grow, and how long it takes to look at their runs."""
    notes, samples, done = [], [], 0
    with ground.ours(ground.database("item_memory"), 12, "item_memory", flows="benchmarks.item_flows") as ours:
        _run_of(ours, sizes.item_counts[0])
        samples.append((0, *resident(ours.pid)))
        for count in sizes.item_counts:
            run_id = _run_of(ours, count)
            done += count
            samples.append((done, *resident(ours.pid)))
            main, children = samples[-1][1:]
            notes.append(
                f"{count:,} items of three steps: main {number(main)} MB, children {number(children)} MB; "
                f"`run show` {number(_looked(ours, run_id, 'page'))} ms, "
                f"`run explain` {number(_looked(ours, run_id, 'explain'))} ms"
            )
            say(f"item-memory: {notes[-1]}")
    (begun, *first), (total, *last) = samples[1], samples[-1]  # the first loop warms up
    for role, before, after in zip(("main process", "pool children"), first, last, strict=True):
        slope = (after - before) / (total - begun) * 10_000
        notes.append(
            f"{role}: {number(before)} MB after {begun:,} items, {number(after)} after {total:,}: "
            f"**{slope:+.2f} MB per 10,000 items**"
        )
    return Result("Memory of one worker over loops of items of three steps", notes=notes)


def calls(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """Loops that call a flow for each item: what a call costs, and whether that grows with the loop."""
    notes = []
    with ground.ours(ground.database("calls"), 12, "calls", flows="benchmarks.item_flows") as ours:
        _run_of(ours, 20, item_flows.calls)
        for count in sizes.call_counts:
            before, began = ours.cpu(), time.perf_counter()
            run_id = _run_of(ours, count, item_flows.calls)
            took = time.perf_counter() - began - _REST_S
            parts = (ours.cpu() - before).ms_per(count)
            main, children = resident(ours.pid)
            notes.append(
                f"{count:,} calls: {number(count / took)} per second, "
                f"CPU **{number(sum(parts.values()))} ms per call** "
                f"({', '.join(f'{role} {number(ms)}' for role, ms in parts.items())}); "
                f"main {number(main)} MB, children {number(children)} MB; "
                f"`run show` {number(_looked(ours, run_id, 'page'))} ms, "
                f"`run explain` {number(_looked(ours, run_id, 'explain'))} ms, "
                f"`run tree` {number(_looked(ours, run_id, 'tree'))} ms"
            )
            say(f"calls: {notes[-1]}")
    return Result("Loops that call a flow of one step for each item", notes=notes)


def _run_of(ours: Ours, count: int, flow: Any = item_flows.items) -> UUID:
    handle = ours.client.start(flow, count=count)
    succeeded(handle, _PATIENCE_S)
    time.sleep(_REST_S)
    return handle.id


def _looked(ours: Ours, run_id: UUID, how: str) -> float:
    """The shortest of a few times, in ms."""
    took = []
    for _ in range(5):
        began = time.perf_counter()
        handle = ours.client.run(run_id)
        match how:
            case "page":
                handle.steps()
            case "tree":
                handle.tree()
            case _:
                handle.explain()
        took.append((time.perf_counter() - began) * 1000)
    return min(took)
