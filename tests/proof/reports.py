"""What steps that call flows hear of the runs that were started for them: I22."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.proof import calls, settled
from tests.proof.history import FINAL_RUN, Change, History, Place, Row
from tests.proof.verdict import Violation

_READ: Final = re.compile(r"@steps\('([^']+)'\)\.output")
_UNREADABLE: Final = "the output of run "
"""How the reason of a step begins whose run gives nothing that can be made."""


def caller(history: History, run: Row) -> Place | None:
    """The step that waits for a run, or waited; None: it is on its own."""
    if "parent_run_id" not in run or _step(history, run).get("detached"):
        return None
    return run["parent_run_id"], run["parent_step_key"]


def _step(history: History, run: Row) -> Mapping[str, Any]:
    found = history.step_of(history.manifest_of(run["parent_run_id"])["steps"], run["parent_step_key"])
    return found or {}


def i22_calls_end_as_their_runs(history: History) -> Iterator[Violation]:
    """I22: a run that was called belongs to the step that called it, which waits for one at a time. Its end is told
    once, and only with that the step ends, as the run did and with what it gave. None is started in a run that is being
    stopped, and none is left behind by a run that ended."""
    for run_id, run in history.runs.items():
        if "parent_run_id" in run:
            yield from _begun(history, run)
            yield from _told(history, run_id, run)
    for place in history.places("flow_steps"):
        if calls.is_call(history, place):
            yield from _call(history, place)
    for run_id in history.runs:
        yield from _left_behind(history, run_id)


def _begun(history: History, run: Row) -> Iterator[Violation]:
    parent, key = run["parent_run_id"], run["parent_step_key"]
    inserted = history.at("flow_runs", (run["id"], ""))[0]
    named = [one for one in history.at("flow_steps", (parent, key)) if one.sets("child_run_id", run["id"])]
    if not any(one.xid == inserted.xid for one in named):
        yield Violation("I22", f"its caller {parent} {key} did not start it", run["id"])
    if "halt" in _row_before(history, parent, inserted) and not _reopened(history, parent, inserted):
        yield Violation("I22", f"started by {parent} {key}, whose run is being stopped", run["id"])


def _row_before(history: History, run_id: str, change: Change) -> Row:
    """A run as it was before the transaction of a change."""
    before = [one for one in history.at("flow_runs", (run_id, "")) if one.seq < change.seq and one.xid != change.xid]
    return before[-1].new if before else {}


def _row_at(history: History, run_id: str, change: Change) -> Row:
    before = [one for one in history.at("flow_runs", (run_id, "")) if one.seq <= change.seq or one.xid == change.xid]
    return before[-1].new if before else {}


def _told(history: History, run_id: str, run: Row) -> Iterator[Violation]:
    """Once for each of its ends, as long as somebody waits for it."""
    waited = caller(history, run)
    for change in history.at("flow_runs", (run_id, "")):
        if change.op != "update" or waited is None:
            continue
        before, after = change.old.get("parent_told"), change.new.get("parent_told")
        if change.old == change.new and after:
            yield _wrong((run_id, ""), "its end is told again", change)
        if after and not before:
            if change.new["status"] not in FINAL_RUN:
                yield _wrong((run_id, ""), f"told to have ended, and it is {change.new['status']}", change)
            yield from _heard(history, waited, run_id, change)
        linked = "parent_run_id" in change.old
        retried = change.new["epoch"] != change.old.get("epoch")
        if before and not after and linked and not retried and not _reopened(history, waited[0], change):
            yield _wrong((run_id, ""), "waited for again, and nobody retried its caller", change)


def _reopened(history: History, run_id: str, change: Change) -> bool:
    return any(
        one.xid == change.xid and one.new["epoch"] != one.old.get("epoch")
        for one in history.at("flow_runs", (run_id, ""))
    )


def _heard(history: History, place: Place, run_id: str, change: Change) -> Iterator[Violation]:
    """The step does not run on when it was told of the end of its run."""
    moved = [one for one in history.at("flow_steps", place) if one.seq < change.seq or one.xid == change.xid]
    if moved and moved[-1].new.get("child_run_id") == run_id and moved[-1].new["status"] == "running":
        yield _wrong(place, f"told of the end of {run_id}, and it is still running", change)


def _call(history: History, place: Place) -> Iterator[Violation]:
    step = history.step_of(history.manifest_of(place[0])["steps"], place[1]) or {}
    for change in history.at("flow_steps", place):
        before, now = change.old.get("child_run_id"), change.new.get("child_run_id")
        if before is not None and now != before and not step.get("detached"):
            row = _row_before(history, before, change)
            status = row.get("status")
            forgotten = now is None and _reopened(history, place[0], change)  # by an operator, who calls anew
            if not forgotten and (status not in FINAL_RUN or status == "succeeded"):
                yield _wrong(place, f"{now} is started while {before} is {status}", change)
        if change.sets("status", "running") and change.old.get("status") == "waiting":
            early_ns = change.old.get("wake_at", 0) - change.at
            if early_ns > 0:
                yield _wrong(place, f"it is tried again {early_ns / 1e6:.0f} ms early", change)
        left = change.op == "update" and change.old.get("status") == "running" != change.new["status"]
        if left and not settled.by_hand(change.new):
            yield from (_detached if step.get("detached") else _ended)(history, place, change)


def _ended(history: History, place: Place, change: Change) -> Iterator[Violation]:
    """It ends, or waits for its next try: as the run of this very transaction."""
    status, child = change.new["status"], change.new.get("child_run_id")
    own = [one for one in history.at("flow_steps", place) if one.xid == change.xid]
    begins = any(one.sets("status", "running") for one in own)
    row = _row_at(history, child, change) if child is not None else {}
    told = [
        one
        for one in (history.at("flow_runs", (child, "")) if child is not None else ())
        if one.xid == change.xid and one.new.get("parent_told") and not one.old.get("parent_told")
    ]
    if status == "cancelled":
        if "halt" not in _row_at(history, place[0], change):
            yield _wrong(place, "it is cancelled, and its run is not being stopped", change)
        return
    if not told and not begins:
        yield _wrong(place, f"it is {status}, and no end of a run was told", change)
    elif status == "succeeded" and row.get("status") != "succeeded":
        yield _wrong(place, f"it succeeded, and {child} is {row.get('status')}", change)
    elif status != "succeeded" and told and row.get("status") == "succeeded" and not _unreadable(change):
        yield _wrong(place, f"it is {status}, and {child} succeeded", change)
    if status == "succeeded" and child is not None:
        yield from _same_output(history, place, child, change)


def _unreadable(change: Change) -> bool:
    return str(change.new.get("reason", "")).startswith(_UNREADABLE)


def _same_output(history: History, place: Place, child: str, change: Change) -> Iterator[Violation]:
    outputs = history.at("flow_outputs", place)
    given = next((one.new.get("output") for one in outputs if one.xid == change.xid), None)
    expression = str(history.manifest_of(child).get("output", ""))
    read = [history.at("flow_outputs", (child, key)) for key in _READ.findall(expression)]
    stored = [
        rows[-1].new.get("output") for rows in ([one for one in each if one.seq < change.seq] for each in read) if rows
    ]
    expected = next((one for one in stored if one is not None), None)
    if given != expected:
        yield _wrong(place, f"{child} gives {expected!r}, and it gives {given!r}", change)


def _detached(history: History, place: Place, change: Change) -> Iterator[Violation]:
    child, status = change.new.get("child_run_id"), change.new["status"]
    if status != "succeeded":
        return
    outputs = [one.new.get("output") for one in history.at("flow_outputs", place) if one.xid == change.xid]
    if outputs != [child]:
        yield _wrong(place, f"it started {child} on its own, and gives {outputs}", change)
    if child is not None and not _row_at(history, child, change).get("parent_told"):
        yield _wrong(place, f"it started {child} on its own, and its end is to be told", change)


def _left_behind(history: History, run_id: str) -> Iterator[Violation]:
    called = [one["id"] for one in history.runs.values() if (caller(history, one) or ("",))[0] == run_id]
    for change in history.at("flow_runs", (run_id, "")) if called else ():
        if change.op == "delete" or change.new["status"] not in FINAL_RUN or change.old.get("status") in FINAL_RUN:
            continue
        for child in called:
            row = _row_at(history, child, change)
            open_ = row and row["status"] not in FINAL_RUN and not row.get("parent_told")
            if open_ and not _on_its_own(history, child, change):
                yield _wrong((run_id, ""), f"it ends while {child}, which it waits for, is {row['status']}", change)


def _on_its_own(history: History, child: str, change: Change) -> bool:
    """Whether an operator let a run go on that its caller did not wait for any more: as that had ended, or called
    another one since."""
    run = history.runs[child]
    before = [one for one in history.at("flow_runs", (child, "")) if one.seq < change.seq]
    retried = [one for one in before if one.op == "update" and one.new["epoch"] != one.old.get("epoch")]
    if not retried:
        return False
    rows = history.at("flow_steps", (run["parent_run_id"], run["parent_step_key"]))
    then = [one.new for one in rows if one.seq < retried[-1].seq or one.xid == retried[-1].xid]
    return not then or then[-1].get("child_run_id") != child or then[-1]["status"] != "running"


def _wrong(place: Place, sentence: str, change: Change) -> Violation:
    return Violation(
        "I22", sentence, *place, (f"seq {change.seq} xid {change.xid} {change.op} {change.table}", str(change.new))
    )
