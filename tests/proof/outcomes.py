"""How runs ended, and what clients were promised: I5, I7, I8, I12, I19."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from tests.proof import calls, deliveries, fates, polls, reruns, settled
from tests.proof.claims import seconds
from tests.proof.executions import beside, cut_short
from tests.proof.fates import Fates
from tests.proof.history import FINAL, FINAL_RUN, Call, History, Row
from tests.proof.interpreter import EITHER, FAILED, Reference, interpret
from tests.proof.timeline import replaced, scheduled
from tests.proof.verdict import Violation


def fates_of(history: History, run: Row) -> Fates:
    """What its input, and the runs that it called, say of its steps."""
    steps = history.manifests[run["manifest_hash"]]["steps"]
    found = fates.fates_of(steps, run["trigger_body"], partial(calls.end_of, history, run))
    by_hand = settled.of_run(history.steps.get(run["id"], {}))
    for place in found.items:
        _, of_step, source = (history.step_of(steps, place) or {})["for_each"].partition("@steps('")
        if of_step and beside(place, source.split("'")[0]) in by_hand:
            found.items[place] = 0
    return found


def reference_of(history: History, run: Row) -> Reference:
    """What the interpreter says of a run, given how its predecessors really ended."""
    steps = history.steps.get(run["id"], {})
    found = fates_of(history, run)
    manifest = history.manifests[run["manifest_hash"]]
    return interpret(
        manifest["steps"],
        found.ends,
        found.items,
        format=manifest.get("format", 1),
        conditions=found.conditions,
        when_errors=manifest.get("when_errors", "fail"),
        known={key: row["status"] for key, row in steps.items()},
        halted="halt" in run,
        settled=settled.of_run(steps),
        excused={key for key, row in steps.items() if _excused(history, row)},
    )


def _excused(history: History, row: Row) -> bool:
    """It may have failed whatever its handler does."""
    lost = row.get("crashes", 0) > history.limits.crash_limit
    return bool(lost or polls.timed_out(history, (row["run_id"], row["step_key"])))


def i5_what_must_run_ran(history: History) -> Iterator[Violation]:
    """I5: each step that must run came to its end; each that must not has no start line; it ended as its fate and its
    predecessors say, and a skip names the predecessor that the reference names."""
    for run_id, run in history.runs.items():
        if run["status"] not in FINAL_RUN:
            continue  # I7 tells
        steps = history.steps.get(run_id, {})
        yield from reruns.as_they_were(history, run_id)
        if run["epoch"] > 1:  # what ran in an earlier epoch stays, whatever its predecessors became
            yield from _only_fates(history, run, steps)
            continue
        reference = reference_of(history, run)
        for key, row in steps.items():
            legal = reference.legal.get(key)
            if legal is None:
                yield Violation("I5", "the manifest has no such step", run_id, key)
            elif row["status"] not in legal:
                yield Violation("I5", f"it is {row['status']}, legal is {sorted(legal)}", run_id, key, (str(row),))
            skipped = row["status"] == "skipped" and not settled.by_hand(row)
            if skipped and not _reason_is(reruns.reason(row.get("reason", "")), reference, key):
                sentence = f"skipped because {row.get('reason')!r}, the reference blames {reference.blame.get(key)}"
                yield Violation("I5", sentence, run_id, key)
        yield from _ran(history, run_id, reference)


def _reason_is(reason: str, reference: Reference, key: str) -> bool:
    withdrawn = key in reference.withdrawn and reason.startswith("withdrawn: ")
    stopped = key in reference.stopped and reason.startswith("the loop stopped: ")
    return withdrawn or stopped or reason.startswith(f"{reference.blame.get(key)} ")


def _ran(history: History, run_id: str, reference: Reference) -> Iterator[Violation]:
    taken = reruns.kept(history, run_id)
    for key in reference.must:
        began = history.invocations_of.get((run_id, key))
        if not began and not reruns.is_kept(taken, key) and not cut_short(history, (run_id, key)):
            yield Violation("I5", "it must run and has no start line", run_id, key)
    for key in reference.must_not:
        if history.invocations_of.get((run_id, key)):
            yield Violation("I5", "it must not run and has a start line", run_id, key)


def _only_fates(history: History, run: Row, steps: Mapping[str, Row]) -> Iterator[Violation]:
    found = fates_of(history, run)
    errors = {key for key, results in found.conditions.items() if "error" in results}
    for key, row in steps.items():
        excused = _excused(history, row) or settled.by_hand(row)
        stops = any("stop_on_failure" in loop for loop in history.loops_around(run["id"], key))
        legal = found.ends.get(key, EITHER) | (FAILED if key in errors or stops else frozenset())
        if row["status"] in ("succeeded", "failed") and row["status"] not in legal and not excused:
            yield Violation("I5", f"it is {row['status']}, legal is {sorted(legal)}", run["id"], key)


def i7_accepted_runs_end(history: History) -> Iterator[Violation]:
    """I7: every accepted run is there and ended in a legal state; nothing is open after the drain."""
    for call in history.calls:
        if call.kind == "start" and call.reply == "ok" and call.run_id not in history.runs:
            yield Violation("I7", "accepted and lost", call.run_id or "", evidence=(str(call),))
        if call.ended_as is not None and not _ended_as(history, call.run_id or "", call.ended_as):
            yield Violation("I7", f"told to be {call.ended_as}, which it never was", call.run_id or "")
    yield from deliveries.accepted_and_lost(history)
    replaced_ = replaced(history)
    for run_id, run in history.runs.items():
        steps = history.steps.get(run_id, {})
        if run["status"] not in FINAL_RUN:
            open_ = {key: row["status"] for key, row in steps.items() if row["status"] not in FINAL}
            yield Violation("I7", f"still {run['status']} after the drain", run_id, evidence=(str(open_),))
            continue
        for key, row in steps.items():
            if row["status"] not in FINAL:
                yield Violation("I7", f"its run is {run['status']}, it is {row['status']}", run_id, key)
        yield from _legal_end(history, run, replaced_)


def _ended_as(history: History, run_id: str, status: str) -> bool:
    return any(one.sets("status", status) for one in history.at("flow_runs", (run_id, "")))


def _legal_end(history: History, run: Row, replaced_: set[str]) -> Iterator[Violation]:
    status, asked = (
        run["status"],
        {call.run_id for call in history.calls if call.kind == "cancel" and call.reply != "refused"},
    )
    mine = {run["id"], *calls.above(history, run["id"])}
    asked_for = not mine.isdisjoint(asked | replaced_) or calls.stopped_above(history, run["id"])
    if status == "cancelled" and not asked_for:
        yield Violation("I7", "cancelled, and nobody asked for it", run["id"])
    if status == "timed_out":
        yield from _deadline(history, run)
    reference = reference_of(history, run)
    if run["epoch"] == 1 and status not in reference.run:
        yield Violation("I7", f"it is {status}, legal is {sorted(reference.run)}", run["id"])


def _deadline(history: History, run: Row) -> Iterator[Violation]:
    due = []
    for each in (run, *(history.runs[key] for key in calls.above(history, run["id"]))):
        if (limit := history.manifests[each["manifest_hash"]].get("deadline")) is not None:
            due.append(each["created_at"] + seconds(limit) * 1e9)
    halted = [one for one in history.at("flow_runs", (run["id"], "")) if one.sets("halt", "timed_out")]
    if not due or not halted:
        yield Violation("I7", "timed out without a deadline", run["id"])
    elif halted[-1].at < min(due) - history.limits.slack_ns:
        yield Violation("I7", "timed out before its deadline", run["id"])


def i8_terminal_is_final(history: History) -> Iterator[Violation]:
    """I8: the state of a step or run that ended does not change without a new epoch, which an operator opened."""
    reopened: dict[str, set[int]] = defaultdict(set)
    for change in history.of("flow_runs"):
        if change.op == "update" and change.new["epoch"] != change.old["epoch"]:
            reopened[change.run_id].add(change.xid)
    for table, final in (("flow_runs", FINAL_RUN), ("flow_steps", FINAL)):
        for change in history.of(table):
            moved = change.op == "delete" or change.new.get("status") != change.old.get("status")
            if change.old.get("status") in final and moved and change.xid not in reopened[change.run_id]:
                sentence = f"it was {change.old['status']} and becomes {change.row.get('status')}"
                yield Violation("I8", sentence, *change.place, (f"seq {change.seq} xid {change.xid}",))
    yield from settled.unasked(history)
    operators = ("retry", "settle")
    asked = Counter(call.run_id for call in history.calls if call.kind in operators and call.reply != "refused")
    for run_id, xids in reopened.items():
        times = sum(asked[key] for key in (run_id, *calls.above(history, run_id)))
        if len(xids) > times:
            yield Violation("I8", f"{len(xids)} new epochs, operators asked for {times}", run_id)


def i12_keys_name_one_run(history: History) -> Iterator[Violation]:
    """I12: an accepted key has exactly one run; the same key with another body is refused, with the same it is not.
    What a client was told agrees with what is stored, and nobody started what nobody asked for. A step that calls a
    flow ends as the run that it called."""
    yield from calls.ended_alike(history)
    starts = [call for call in history.calls if call.kind == "start"]
    by_key: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in starts:
        if call.key is not None:
            by_key[call.flow, call.key].append(call)
    there = Counter((run["flow"], run.get("trigger_key")) for run in history.runs.values())
    for (flow, key), given in by_key.items():
        told = {call.run_id for call in given if call.reply == "ok"}
        if len(told) > 1:
            yield Violation(
                "I12", f"key {key} of {flow} was answered with {len(told)} runs", evidence=tuple(map(str, given))
            )
        if there[flow, key] > 1 or (told and there[flow, key] != 1):
            yield Violation("I12", f"key {key} of {flow} has {there[flow, key]} runs")
        yield from _bodies(history, given)
    known = {call.run_id for call in starts if call.reply == "ok"} | scheduled(history) | calls.called(history)
    yield from _requests(history, starts)
    answered = {call.request for call in starts if call.request is not None and call.reply == "ok"}
    unknown = sum(call.reply == "unknown" and call.request not in answered for call in starts)
    theirs = {run_id for run_id, run in history.runs.items() if deliveries.by_webhook(run)}  # I15 tells
    strangers = [run_id for run_id in history.runs if run_id not in known | theirs]
    if len(strangers) > unknown:
        yield Violation("I12", f"{len(strangers)} runs that nobody was told of, {unknown} replies were lost")


def _requests(history: History, starts: Iterable[Call]) -> Iterator[Violation]:
    """A request with a key does once what it asks for, however often it comes."""
    by_request: dict[str, list[Call]] = defaultdict(list)
    for call in starts:
        if call.request is not None:
            by_request[call.request].append(call)
    for request, given in by_request.items():
        told = {call.run_id for call in given if call.reply == "ok"}
        if len(told) > 1:
            yield Violation("I12", f"request {request} was answered with {len(told)} runs")
        taken = [call for call in given if call.reply == "ok"]
        yield from _bodies(history, taken)
        for call in given:
            if call.reply == "refused" and any(call.asked == other.asked for other in taken):
                yield Violation("I12", f"request {request} was refused, and is the same", evidence=(str(call),))


def _bodies(history: History, given: list[Call]) -> Iterator[Violation]:
    """Of one key."""
    runs = [history.runs[call.run_id or ""] for call in given if call.reply == "ok" and call.run_id in history.runs]
    stored = _canonical(runs[0]["trigger_body"]) if runs else None
    for call in given:
        same = stored is not None and _canonical(json.loads(call.body)) == stored
        if call.reply == "ok" and not same:
            yield Violation(
                "I12", "accepted with a body that is not the run's", call.run_id or "", evidence=(str(call),)
            )
        if call.reply == "refused" and same:
            yield Violation("I12", "refused with the body of the run", evidence=(str(call),))


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def i19_everything_is_accounted_for(history: History) -> Iterator[Violation]:
    """I19: runs are the sum over their states; steps are those of the manifest, children those of the lists; counters
    agree; no row is an orphan; the record of changes leads to the rows that are there."""
    for run_id, run in history.runs.items():
        if run["status"] in FINAL_RUN:
            yield from _counts(history, run, history.steps.get(run_id, {}))
    steps = {(row["run_id"], row["step_key"]): row for row in history.final.get("flow_steps", ())}
    for table in ("flow_step_claims", "flow_step_attempts", "flow_outputs", "flow_step_dispatches"):
        for row in history.final.get(table, ()):
            place = (row["run_id"], row["step_key"])
            if place not in steps:
                yield Violation("I19", f"a row of {table} without its step", *place, (str(row),))
            elif table == "flow_step_claims" and "expires_at" in row and steps[place]["status"] != "running":
                yield Violation("I19", f"a live claim of a step that is {steps[place]['status']}", *place)
    for place in history.places("flow_steps"):
        last = history.at("flow_steps", place)[-1]
        there = steps.get(place, {}).get("status")
        if there != (None if last.op == "delete" else last.new["status"]):
            yield Violation("I19", f"its last change says {last.new.get('status')}, the table {there}", *place)


def _counts(history: History, run: Row, steps: Mapping[str, Row]) -> Iterator[Violation]:
    manifest = history.manifests[run["manifest_hash"]]["steps"]
    if missing := manifest.keys() - steps.keys():
        yield Violation("I19", f"steps {sorted(missing)} are missing", run["id"])
    if "halt" not in run and run["sinks_open"] != 0:
        yield Violation("I19", f"it ended with {run['sinks_open']} open sinks", run["id"])
    yield from _items(history, run, steps)
    found = fates_of(history, run)
    taken = reruns.kept(history, run["id"])
    for key, count in found.items.items():
        row = steps.get(key, {})
        if reruns.is_kept(taken, key) or "error" in found.conditions.get(key, ()) or settled.by_hand(row):
            continue
        own = [child for name, child in steps.items() if child.get("loop_key") == key]
        if row.get("status") in ("succeeded", "failed") and len(own) != count:
            yield Violation("I19", f"{len(own)} children for {count} items", run["id"], key)
        begun = [child for child in own if child["status"] != "skipped"]
        failed = sum(child["status"] != "succeeded" for child in begun)
        if row.get("status") == "failed" and own and row.get("children_failed") != failed:
            yield Violation("I19", f"{failed} children failed, it counted {row.get('children_failed')}", run["id"], key)
        if row.get("status") in ("succeeded", "failed") and own and row.get("children_open") != 0:
            yield Violation("I19", f"it ended with {row.get('children_open')} open children", run["id"], key)


def _items(history: History, run: Row, steps: Mapping[str, Row]) -> Iterator[Violation]:
    """One that ended has all the steps of its graph, and counted them."""
    manifest = history.manifest_of(run["id"])["steps"]
    for item, row in steps.items():
        if row.get("kind") != "item" or row["status"] not in ("succeeded", "failed") or settled.by_hand(row):
            continue
        graph = (history.step_of(manifest, item.rpartition(".")[0]) or {}).get("steps", {})
        if missing := [key for key in graph if f"{item}.{key}" not in steps]:
            yield Violation("I19", f"steps {missing} of the item are missing", run["id"], item)
        if row.get("children_open", 0) != 0:
            yield Violation("I19", f"it ended with {row['children_open']} open steps", run["id"], item)
