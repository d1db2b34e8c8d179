"""Loops that stop at the failure of an item: a part of I6."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from tests.proof.history import Change, History, Place
from tests.proof.verdict import Violation

_IDLE: Final = frozenset({"blocked", "ready", "waiting"})
_TOLD: Final = "the loop stopped: "


def i6_stopped_loops_begin_nothing(history: History) -> Iterator[Violation]:
    """From the failure on nothing inside of the loop begins, or waits. What is given up for it had not begun, or only
    waited: what runs goes on to its end. An operator who retries one lets it in again."""
    for place in history.places("flow_steps"):
        run = history.runs.get(place[0], {"epoch": 0})
        if run["epoch"] != 1 or "halt" in run or not _stops(history, place):
            continue
        stop = _stop(history, place)
        for inside in _inside(history, place) if stop is not None else ():
            last = _last_of_each(history.at("flow_steps", inside))
            yield from _left(history, inside, last, stop)
            yield from _torn_away(inside, last)


def _stops(history: History, place: Place) -> bool:
    step = history.step_of(history.manifest_of(place[0])["steps"], place[1]) or {}
    return bool(step.get("stop_on_failure"))


def _stop(history: History, place: Place) -> Change | None:
    """What a loop's row was after the first failure."""
    changes = history.at("flow_steps", place)
    first = next((one for one in changes if one.op == "update" and one.new.get("children_failed")), None)
    return first and [one for one in changes if one.xid == first.xid][-1]


def _inside(history: History, place: Place) -> list[Place]:
    run_id, loop = place
    return [(run_id, key) for key in history.steps.get(run_id, {}) if key.startswith(f"{loop}.")]


def _last_of_each(changes: list[Change]) -> list[Change]:
    """Of what one transaction does to a row, its end."""
    return list({one.xid: one for one in changes}.values())


def _left(history: History, place: Place, changes: list[Change], stop: Change) -> Iterator[Violation]:
    """Idle when the loop stopped, or later."""
    for before, change, after in zip([None, *changes], changes, [*changes[1:], None], strict=False):
        over = after is not None and after.seq <= stop.seq
        if over or change.new["status"] not in _IDLE or _was_going(history, before, change, stop):
            continue
        from_ns, to_ns = max(change.at, stop.at), after.at if after is not None else history.ended_ns
        idle_ns = to_ns - from_ns - history.stalled_ns(from_ns, to_ns)
        if after is None or idle_ns > history.limits.stall_ns:
            sentence = f"it is {change.new['status']} {idle_ns / 1e9:.1f} s after its loop stopped"
            yield Violation("I6", sentence, *place, (f"stop {stop.seq} seq {change.seq} {change.new}",))
            return


def _was_going(history: History, before: Change | None, change: Change, stop: Change) -> bool:
    """Whether a step is READY because its worker was lost, or was just being let go at the moment of the failure."""
    if change.new["status"] != "ready":
        return False
    lost = before is not None and before.new["status"] == "running"
    return lost or change.at >= stop.at - history.limits.stall_ns


def _torn_away(place: Place, changes: list[Change]) -> Iterator[Violation]:
    """Who was asked once more, and is not ready, would only wait: it does not begin to."""
    for before, change in pairwise(changes):
        given_up = change.sets("status", "skipped") and str(change.new.get("reason", "")).startswith(_TOLD)
        asked = change.new.get("polls", 0) > before.new.get("polls", 0)
        if given_up and not asked and "type" in change.new and before.new["status"] == "running":
            yield Violation("I6", "given up with its loop while it ran", *place, (f"seq {change.seq} {change.new}",))
