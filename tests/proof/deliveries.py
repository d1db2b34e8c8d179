"""What publishers sent to webhooks, and the runs and signals that came of it: I15, and a part of I7."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from tests.proof.history import FINAL, FINAL_RUN, Change, Delivery, History, Row, stripped
from tests.proof.verdict import Violation

TAKEN: Final = ("new", "seen")
Event = tuple[str, str]
"""The flow whose webhook it came to, and the id that its publisher gave it."""


def by_webhook(row: Row) -> bool:
    """Whether a run was started, or a signal sent, by a delivery."""
    return row.get("trigger_type") == "webhook" or str(row.get("by", "")).startswith("webhook ")


def accepted_and_lost(history: History) -> Iterator[Violation]:
    """A part of I7: what was acknowledged has its run."""
    for one in history.deliveries:
        if one.reply in TAKEN and one.run_id not in history.runs:
            yield replace(_wrong(one, "acknowledged, and its run is lost", one.run_id or ""), invariant="I7")


def i15_deliveries_are_taken_once(history: History) -> Iterator[Violation]:
    """I15: what was acknowledged has one run, or is one signal, and everybody is told of that one. What nobody signed
    has none. What was not acknowledged, and is sent again until it is, is taken in the end: nothing that is signed is
    refused for good. Nothing came that nobody sent."""
    given: dict[Event, list[Delivery]] = defaultdict(list)
    for one in history.deliveries:
        given[one.flow, one.event].append(one)
    runs, signals = _runs(history), _signals(history)
    for event, sent in given.items():
        there = (signals if sent[0].signal else runs).get(event, [])
        if sent[0].genuine:
            yield from _once(sent, there)
            yield from _told(sent)
            yield from _refused(history, sent, there)
            yield from _never_taken(history, sent, there)
        elif there or any(one.reply in TAKEN for one in sent):
            yield _wrong(sent[0], f"nobody signed it, and {len(there)} came of it", _id(there))
    for event in (runs.keys() | signals.keys()) - given.keys():
        there = [*runs.get(event, ()), *signals.get(event, ())]
        yield Violation("I15", f"{event} was sent by nobody", _id(there), evidence=(str(there[0]),))


def _runs(history: History) -> Mapping[Event, list[Row]]:
    found: dict[Event, list[Row]] = defaultdict(list)
    for run in history.runs.values():
        if by_webhook(run):
            found[run["flow"], run["trigger_body"]["id"]].append(run)
    return found


def _signals(history: History) -> Mapping[Event, list[Row]]:
    found: dict[Event, list[Row]] = defaultdict(list)
    for row in history.final.get("flow_signals", ()):
        if by_webhook(row):
            found[history.runs[row["run_id"]]["flow"], row["payload"]["id"]].append(row)
    return found


def _once(sent: Sequence[Delivery], there: Sequence[Row]) -> Iterator[Violation]:
    """One thing came of an event, and it says what was sent."""
    if len(there) > 1:
        yield _wrong(sent[0], f"{len(there)} came of it", _id(there))
    told = {one.run_id for one in sent if one.reply in TAKEN}
    if told and not told & {_run_id(row) for row in there}:
        yield _wrong(sent[0], "acknowledged and lost", next(iter(told)) or "")
    for row in there:
        content = row["trigger_body"] if "trigger_body" in row else row["payload"]
        if stripped(content) != stripped(json.loads(sent[0].body)):
            yield _wrong(sent[0], f"what came of it says {content}", _id(there))


def _told(sent: Sequence[Delivery]) -> Iterator[Violation]:
    """All are told of one run; one of them that it is new, and nobody that it is known before it came."""
    told = {one.run_id for one in sent if one.reply in TAKEN}
    if len(told) > 1:
        yield _wrong(sent[0], f"answered with {len(told)} runs")
    if (times := sum(one.reply == "new" for one in sent)) > 1:
        yield _wrong(sent[0], f"{times} times taken as new")
    for one in sent:
        if one.reply == "seen" and not any(other.begun_ns < one.ended_ns for other in sent if other is not one):
            yield _wrong(one, "it is said to be known, and came for the first time")


def _refused(history: History, sent: Sequence[Delivery], there: Sequence[Row]) -> Iterator[Violation]:
    """Only a signal is, for which it is too early or too late; nothing that was taken before."""
    known_ns = min((row.get("sent_at", row.get("created_at", 0)) for row in there), default=None)
    for one in sent:
        if one.reply != "refused":
            continue
        if known_ns is not None and known_ns + history.limits.slack_ns < one.begun_ns:
            yield _wrong(one, "it was taken before, and is refused", _id(there))
        elif not _is_out_of_time(history, one):
            yield _wrong(one, "it is signed and in time, and refused")


def _never_taken(history: History, sent: Sequence[Delivery], there: Sequence[Row]) -> Iterator[Violation]:
    if sent[0].insists and not there and not _is_out_of_time(history, sent[-1]):
        yield _wrong(sent[0], f"sent {len(sent)} times, and never taken")


def _is_out_of_time(history: History, one: Delivery) -> bool:
    """Whether it is a signal for which there is not one run: none is there yet, or waits for it still; or there are
    several, where an operator ran one again."""
    if not one.signal:
        return False
    runs = [run for run in history.runs.values() if run["trigger_body"].get("order") == one.order]
    return sum(_waits(history, run, one) for run in runs) != 1


def _waits(history: History, run: Row, one: Delivery) -> bool:
    """Whether a run is there from the moment when a signal was sent, and can take it until it was answered."""
    slack = history.limits.slack_ns
    ends = [change for change in history.at("flow_runs", (run["id"], "")) if _stops(change)]
    for key, step in history.manifest_of(run["id"])["steps"].items():
        if step.get("signal", {}).get("name") == one.signal:
            ends += [change for change in history.at("flow_steps", (run["id"], key)) if change.new["status"] in FINAL]
    is_there = run["created_at"] < one.begun_ns - slack
    return is_there and not any(change.at < one.ended_ns + slack for change in ends)


def _stops(change: Change) -> bool:
    return change.new.get("status") in FINAL_RUN or "halt" in change.new


def _wrong(one: Delivery, sentence: str, run_id: str = "") -> Violation:
    return Violation("I15", f"{one.event} at {one.slug}: {sentence}", run_id, evidence=(str(one),))


def _run_id(row: Row) -> str:
    """Of a run, or of a signal."""
    return str(row.get("run_id", row.get("id", "")))


def _id(there: Sequence[Row]) -> str:
    return _run_id(there[0]) if there else ""
