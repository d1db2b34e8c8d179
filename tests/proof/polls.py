"""Steps that are asked until they are ready: a part of I11."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.proof.due import length_ns
from tests.proof.history import Change, History, Place
from tests.proof.verdict import Violation

KEPT: Final = 20
"""Polls whose attempts are kept."""


def asked_in_time(history: History) -> Iterator[Violation]:
    """A step is asked again after its pause and until its time is over, counted from its first claim of the epoch,
    whatever crashed or failed in between; then it fails, and not before. What is kept of it has a bound."""
    for place in history.places("flow_steps"):
        poll = _poll(history, place)
        if poll is not None:
            yield from _clock(history, place, poll)
    yield from _bound(history)
    for change in history.of("flow_step_attempts"):
        if change.op == "delete" and change.old["status"] != "running" and not _has_more(history, change):
            yield _wrong(change.place, f"attempt {change.old['attempt']} is forgotten, and so are later polls", change)


def timed_out(history: History, place: Place) -> bool:
    """Whether the step failed because its time was over."""
    changes = history.at("flow_steps", place) if _poll(history, place) is not None else []
    return any(_polled(change) and change.sets("status", "failed") for change in changes)


def _poll(history: History, place: Place) -> Mapping[str, Any] | None:
    step = history.step_of(history.manifest_of(place[0])["steps"], place[1])
    found: Mapping[str, Any] | None = None if step is None else step.get("poll")
    return found


def _polled(change: Change) -> bool:
    """Its transaction counts a poll, in a change before or in this one."""
    return change.op == "update" and change.new.get("polls", 0) > 0


def _clock(history: History, place: Place, poll: Mapping[str, Any]) -> Iterator[Violation]:
    """Since the first claim of an epoch: it begins with a claim of a step that was not asked in it."""
    timeout_ns, every_ns = length_ns(poll["timeout"]), length_ns(poll["every"])
    slack_ns, stall_ns = history.limits.slack_ns, history.limits.stall_ns
    since: int | None = None
    for change in history.at("flow_steps", place):
        polls, before = change.row.get("polls", 0), change.old.get("polls", 0)
        if polls < before:
            if polls or not _reopened(history, change):
                yield _wrong(place, f"its polls fall from {before} to {polls}", change)
            since = None
        if change.sets("status", "running"):
            since = change.new.get("started_at") if since is None or not polls else since
            if change.new.get("started_at") != since:
                yield _wrong(place, "the clock of its polls starts again", change)
        if polls <= before or since is None:
            continue
        over = since + timeout_ns
        if change.new["status"] != "waiting":
            if change.at < over - slack_ns:
                yield _wrong(place, f"it is given up {(over - change.at) / 1e6:.0f} ms before its time is over", change)
        elif (late_ns := max(change.at - stall_ns, change.new["due_at"] - slack_ns) - over) > 0:
            yield _wrong(place, f"it is to be asked again {late_ns / 1e6:.3f} ms after its time is over", change)
        elif change.new["due_at"] < min(change.at + every_ns, over) - stall_ns:
            yield _wrong(place, f"it is to be asked again sooner than after {poll['every']}", change)


def _reopened(history: History, change: Change) -> bool:
    return any(
        one.xid == change.xid and one.new["epoch"] != one.old.get("epoch")
        for one in history.at("flow_runs", (change.run_id, ""))
    )


def _bound(history: History) -> Iterator[Violation]:
    """What is kept of all that was asked."""
    kept: Counter[Place] = Counter()
    for one in history.final.get("flow_step_attempts", ()):
        since = history.steps[one["run_id"]].get(one["step_key"], {}).get("started_at", 0)
        kept[one["run_id"], one["step_key"]] += one["status"] == "polled" and one.get("started_at", since) >= since
    for place, count in kept.items():
        if count > KEPT:
            yield Violation("I11", f"{count} attempts of its polls are kept", *place)
    events = (one for one in history.final.get("flow_events", ()) if one["type"] == "step.polled")
    for place, told in Counter((one["run_id"], one["step_key"]) for one in events).items():
        if told > 2 * history.runs[place[0]]["epoch"]:
            yield Violation("I11", f"{told} events tell of its polls", *place)


def _has_more(history: History, change: Change) -> bool:
    """Whether as many later polls are kept as it takes to forget this attempt."""
    later = {
        one.new["attempt"]
        for one in history.at("flow_step_attempts", change.place)
        if one.seq < change.seq and one.op != "delete" and one.new["status"] == "polled"
    }
    return sum(attempt > change.old["attempt"] for attempt in later) >= KEPT


def _wrong(place: Place, sentence: str, change: Change) -> Violation:
    return Violation("I11", sentence, *place, (f"seq {change.seq} xid {change.xid} {change.op} {change.table}",))
