"""A loop that stops at a failure: of its other items, what did not begin or only waits is skipped, and what runs goes
on to its end. The caller holds the run row.

An item, or a loop inside of one, in which nothing runs is over then; one in which something does is marked, and is over
with that: skipped, because it was not done, unless it failed.
"""

from collections.abc import Mapping

from orchestrator.core.plan import Node
from orchestrator.core.reopen import ItemGraph, sinks_open
from orchestrator.core.states import StepEvent, StepStatus
from orchestrator.core.wording import loop_stopped
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import failures, opening
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.wave import Tally, Wave
from orchestrator.ledger import controls, graph, stops

_Stopped = Mapping[str, StepStatus]
"""What was stopped, and where it stood."""


def stop(wave: Wave, loop: Node, failed: str) -> int:
    """This child failed. How many are open still: in these something runs, or is being claimed at this moment."""
    held = wave.held
    graph.take_time(held.tx)
    wave.write_skips()
    item = failed if loop.graph is not None else failed.rpartition(".")[0]
    reason = loop_stopped(item)
    skipped, open_ = stops.stop_loop(held.tx, held.id, loop.key, reason)
    if loop.graph is not None and open_:
        over = _stop_inside(wave, loop, reason)
        skipped, open_ = skipped + over, open_ - over
    graph.event(held.tx, held.id, "step.stopped", loop.key, facts={"failed": item, "skipped": skipped})
    fp("loop.stopped")
    return open_


def stopped(held: HeldRun, step_key: str) -> bool:
    """Whether the step runs for an item of a loop that stopped: then it is not tried again."""
    return _stopped_by(held, step_key) is not None


def leave(held: HeldRun, step_key: str) -> bool:
    """The step waits from now on; if a loop around it has stopped, it is skipped instead, like those that waited."""
    found = _stopped_by(held, step_key)
    if found is None:
        return False
    loop, item = found
    graph.skip(held.tx, held.id, {step_key: loop_stopped(item)}, StepEvent.SKIP)
    around = {key: 0 for key in _around(step_key) if key.startswith(f"{loop}.")}
    stops.count(held.tx, held.id, around, loop_stopped(item))
    return True


def _stopped_by(held: HeldRun, step_key: str) -> tuple[str, str] | None:
    loops = [key for key in _around(step_key)[::2] if held.plan.node(key).definition.stop_on_failure]
    return stops.stopped_by(held.tx, held.id, loops, retried=held.run.epoch > 1) if loops else None


def _around(step_key: str) -> list[str]:
    """The loops and items that a step stands in, by turns, the outermost first."""
    parts = step_key.split(".")[:-1]
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def _stop_inside(wave: Wave, loop: Node, reason: str) -> int:
    """Of the items that were let in. How many are over with that."""
    held = wave.held
    assert loop.graph is not None
    if any(node.is_loop for node in loop.graph.nodes.values()):
        stops.hold_loops(held.tx, held.id, loop.key)
    inside: dict[str, dict[str, StepStatus]] = {}
    for row in stops.stop_inside(held.tx, held.id, loop.key, reason):
        inside.setdefault(row.loop_key, {})[row.step_key] = StepStatus(row.status)
    going = wave.going
    wave.stop({key for found in inside.values() for key in found})
    # What would have taken up a failure does not any more; what the wave has yet to look at, it counts by itself.
    asked = failures.asked_for(wave, [key for found in inside.values() for key in found])
    failures.count(wave, dict.fromkeys(key for key in asked if key not in wave.uncounted))
    while deepest := max((key.count(".") for key in inside if key != loop.key), default=0):
        level = {key: inside.pop(key) for key in list(inside) if key.count(".") == deepest}
        over = _count(wave, level, going, reason)
        for key in level:
            around = inside.setdefault(key.rpartition(".")[0], {})  # marked too, even if nothing of its own was stopped
            around |= {key: StepStatus.RUNNING} if key in over else {}
    items = len(inside.get(loop.key, ()))
    stops.count(held.tx, held.id, {loop.key: items}, reason)
    return items


def _count(wave: Wave, level: Mapping[str, _Stopped], going: set[str], reason: str) -> list[str]:
    """What was stopped in these items, or in these loops, is taken off their counts; those that are over with it."""
    tx, run_id = wave.held.tx, wave.held.id
    over = []
    for row in stops.count(tx, run_id, _ended(wave, level, going), reason):
        node = wave.node(row.step_key)
        if row.children_open:
            continue
        if node.is_item and (row.children_failed or node.key in wave.tallies):
            wave.tallies.setdefault(node.key, Tally())
        elif node.is_loop and row.children_failed and not node.collects_errors:
            wave.end(opening.close(wave, node, row.children_failed))
        else:
            over.append(node.key)
    graph.skip(tx, run_id, dict.fromkeys(over, reason), StepEvent.LEAVE_OUT)
    return over


def _ended(wave: Wave, level: Mapping[str, _Stopped], going: set[str]) -> dict[str, int]:
    """By item, how many of its loose ends were stopped; by loop, how many of its children."""
    items = [key for key in level if wave.node(key).is_item]
    states = controls.states_in_items(wave.held.tx, wave.held.id, items) if items else {}
    return {
        key: _loose(wave, key, states[key], stopped, going) if key in states else len(stopped)
        for key, stopped in level.items()
    }


def _loose(wave: Wave, item: str, states: Mapping[str, StepStatus], stopped: _Stopped, going: set[str]) -> int:
    """As the item's count knows its steps: what was about to go was on its way, and what has ended is open as long as
    the wave has not looked at it."""
    plan = wave.held.plan
    within = ItemGraph.of(plan, plan.node(item.rpartition(".")[0]), item)
    after = {key: StepStatus.READY if key in wave.uncounted else status for key, status in states.items()}
    before = {**after, **stopped, **dict.fromkeys(going & after.keys(), StepStatus.READY)}
    return sinks_open(within, before) - sinks_open(within, after)
