"""What was sent to runs, and who took it: I14."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.proof import deliveries, reruns, settled
from tests.proof.fates import Part, steps_of
from tests.proof.history import FINAL_RUN, Change, History, Place, Row, Sent, stripped
from tests.proof.verdict import Violation

Name = tuple[str, str, str]
"""Of a signal: run, name, id."""
OPEN: Final = frozenset({"blocked", "waiting"})
"""What a wait is in before it takes a signal."""


def awaits(step: Mapping[str, Any]) -> bool:
    """Whether a step of a manifest waits for something that somebody sends."""
    return "signal" in step or "approval" in step


def is_wait(history: History, place: Place) -> bool:
    step = history.step_of(history.manifest_of(place[0])["steps"], place[1])
    return step is not None and awaits(step)


def taken_at(history: History, change: Change) -> Row | None:
    """The signal that a step took when it came to its end."""
    for one in history.at("flow_signals", (change.run_id, "")):
        if one.xid == change.xid and one.sets("consumed_by", change.step_key):
            return one.new
    return None


def i14_signals_are_taken_once(history: History) -> Iterator[Violation]:
    """I14: a signal that was acknowledged is there, and was taken by one wait, once, or is recorded as unused; what was
    refused, or never sent, is not. A wait takes one signal, of its name and key, and gives its payload. None is open
    when its run is over, or takes anything after a cancel."""
    rows: dict[Name, Row] = {_name(row): row for row in history.final.get("flow_signals", ())}
    yield from _acknowledged(history, rows)
    yield from _strangers(history, rows)
    yield from _taken_once(history)
    yield from _of_waits(history)
    yield from _unused(history, rows)


def _name(row: Row) -> Name:
    return row["run_id"], row["name"], row["id"]


def _acknowledged(history: History, rows: Mapping[Name, Row]) -> Iterator[Violation]:
    by_name: dict[Name, list[Sent]] = defaultdict(list)
    for one in history.sent:
        by_name[one.run_id, one.name, one.id].append(one)
    for name, sent in by_name.items():
        taken = [one for one in sent if one.reply in ("delivered", "kept")]
        row = rows.get(name)
        for one in taken:
            if row is None:
                yield _wrong(one, "acknowledged and lost")
            elif not _same(row, one):
                yield _wrong(one, f"acknowledged, and stored is {row}")
            elif one.reply == "delivered" and row.get("consumed_by") != one.step:
                yield _wrong(one, f"delivered to {one.step}, and {row.get('consumed_by')} has it")
        if len(answers := {one.reply for one in taken}) > 1:
            yield _wrong(taken[0], f"the same id was answered with {sorted(answers)}")
        if row is not None and all(one.reply == "refused" for one in sent):
            yield _wrong(sent[0], f"refused, and stored is {row}")


def _same(row: Row, one: Sent) -> bool:
    return bool(row["payload"] == stripped(one.payload) and row.get("key", "") == one.key)


def _strangers(history: History, rows: Mapping[Name, Row]) -> Iterator[Violation]:
    """What is stored was sent by somebody."""
    sent: set[tuple[Name, str]] = {
        ((one.run_id, one.name, one.id), _text(one.payload, one.key)) for one in history.sent if one.reply != "refused"
    }
    for name, row in rows.items():
        if deliveries.by_webhook(row):
            continue  # I15 tells
        if (name, _text(row["payload"], row.get("key", ""))) not in sent:
            yield Violation("I14", f"signal {name[1]} {name[2]} was sent by nobody", name[0], evidence=(str(row),))


def _text(payload: Any, key: str) -> str:
    return json.dumps([stripped(payload), key], sort_keys=True)


def _taken_once(history: History) -> Iterator[Violation]:
    """By one wait, which took nothing else for this end, and gives what the signal says."""
    for change in history.of("flow_signals"):
        by, before = change.row.get("consumed_by"), change.old.get("consumed_by")
        if change.op == "update" and before is not None:
            yield Violation("I14", f"taken by {before}, and changed to {by}", change.run_id, before, (str(change.new),))
        if by is None or before is not None or change.op == "delete":
            continue
        moved = [one for one in history.at("flow_steps", (change.run_id, by)) if one.xid == change.xid]
        if not any(one.sets("status", "succeeded") and one.old.get("status") in OPEN for one in moved):
            yield Violation(
                "I14", "it took a signal, and did not succeed with it", change.run_id, by, (str(change.new),)
            )
        expires = change.new.get("expires_at")
        if expires is not None and expires < change.new["consumed_at"]:
            yield Violation("I14", "it took a signal that had expired", change.run_id, by, (str(change.new),))


def _of_waits(history: History) -> Iterator[Violation]:
    outputs = {(row["run_id"], row["step_key"]): row.get("output") for row in history.final.get("flow_outputs", ())}
    for run_id, run in history.runs.items():
        steps, kept = history.steps.get(run_id, {}), reruns.kept(history, run_id)
        manifest = history.manifest_of(run_id)["steps"]
        parts = {place: part for place, _, part in steps_of(manifest, Part.of_run(run["trigger_body"]))}
        for key, row in steps.items():
            step = history.step_of(manifest, key)
            if step is None or not awaits(step) or key in kept or settled.by_hand(row):
                continue
            yield from _wait(history, row, step, outputs.get((run_id, key)))
            yield from _of_its_key(history, row, step, parts.get(key))
        for row in history.final.get("flow_signal_waiters", ()):
            over = steps.get(row["step_key"], {}).get("status") not in OPEN
            if row["run_id"] == run_id and run["status"] in FINAL_RUN and not over:
                yield Violation("I14", f"its run is {run['status']}, and it still waits", run_id, row["step_key"])


def _wait(history: History, row: Row, step: Mapping[str, Any], output: Any) -> Iterator[Violation]:
    """One wait: each of its successes is by one signal of its name and key, or by what was said for the case that none
    comes; and none is in a run that is being stopped."""
    place = row["run_id"], row["step_key"]
    asked = step.get("signal") or step["approval"]
    named = asked["name"] if "signal" in step else row["step_key"]
    took = [one for one in history.at("flow_signals", (place[0], "")) if one.sets("consumed_by", place[1])]
    counted = Counter(one.xid for one in took)
    last: Row | None = None
    for change in history.at("flow_steps", place):
        if not change.sets("status", "succeeded") or change.op != "update":
            continue
        if _halted(history, change):
            yield Violation("I14", "it goes on although its run is being stopped", *place, (str(change.new),))
        last = taken_at(history, change)
        if counted[change.xid] > 1:
            yield Violation("I14", f"it took {counted[change.xid]} signals at once", *place)
        if last is None and "default" not in asked and "late" not in asked:
            yield Violation("I14", "it succeeded, and took no signal", *place, (str(change.new),))
    if row["status"] != "succeeded":
        return
    if last is not None and last["name"] != named:
        yield Violation("I14", f"it waits for {named}, and took {last['name']} {last['id']}", *place)
    if last is not None and output != last["payload"]:
        yield Violation("I14", f"it took {last['payload']!r}, and gives {output!r}", *place)


def _of_its_key(history: History, row: Row, step: Mapping[str, Any], part: Part | None) -> Iterator[Violation]:
    """What it took; `part`: what it reads of the input."""
    key = _key(step["signal"], part) if "signal" in step else ""
    for one in history.at("flow_signals", (row["run_id"], "")):
        if key is not None and one.sets("consumed_by", row["step_key"]) and one.new.get("key", "") != key:
            sentence = f"it waits with key {key!r}, and took one with {one.new.get('key')!r}"
            yield Violation("I14", sentence, row["run_id"], row["step_key"])


def _key(asked: Mapping[str, Any], part: Part | None) -> str | None:
    """That a wait asks for; None of one that is not read here."""
    key = str(asked.get("key", ""))
    if not key.startswith("@"):
        return key
    _, keys, name = key.partition(".keys.")
    return str(part.keys[name]) if keys and part is not None else None


def _halted(history: History, change: Change) -> bool:
    """Whether the run was being stopped before this transaction."""
    halted = False
    for one in history.at("flow_runs", (change.run_id, "")):
        if one.seq > change.seq or one.xid == change.xid:
            break
        halted = "halt" in one.new and one.new["status"] not in FINAL_RUN
    return halted


def _unused(history: History, rows: Mapping[Name, Row]) -> Iterator[Violation]:
    """What nobody took is told when the run ends: an event, the first time and after each retry."""
    told = {row["run_id"] for row in history.final.get("flow_events", ()) if row["type"] == "signal.unused"}
    left: dict[str, list[str]] = defaultdict(list)
    for (run_id, _, id_), row in rows.items():
        ended = history.runs.get(run_id, {}).get("ended_at")
        expired = ended is not None and row.get("expires_at", ended + 1) <= ended
        if "consumed_by" not in row and not expired:
            left[run_id].append(id_)
    for run_id, ids in left.items():
        if history.runs.get(run_id, {}).get("status") in FINAL_RUN and run_id not in told:
            yield Violation("I14", f"nobody took {', '.join(sorted(ids))}, and nothing is said of that", run_id)


def _wrong(one: Sent, sentence: str) -> Violation:
    return Violation("I14", f"signal {one.name} {one.id}: {sentence}", one.run_id, evidence=(str(one),))
