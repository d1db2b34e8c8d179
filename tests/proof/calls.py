"""Runs that steps of other runs called: whose they are, and that both end alike."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.proof import reruns, settled
from tests.proof.history import FINAL_RUN, Change, History, Place, Row
from tests.proof.verdict import Violation


def is_call(history: History, place: Place) -> bool:
    return _call(history, place) is not None


def _call(history: History, place: Place) -> Mapping[str, Any] | None:
    step = history.step_of(history.manifest_of(place[0])["steps"], place[1])
    return step if step is not None and "flow" in step else None


def called(history: History) -> set[str]:
    """The runs that a step of another run started."""
    return {run_id for run_ids in history.called.values() for run_id in run_ids}


def above(history: History, run_id: str) -> Iterator[str]:
    """The run that called it, and so on upwards."""
    run = history.runs[run_id]
    while (parent := run.get("parent_run_id")) in history.runs:
        yield parent
        run = history.runs[parent]


def stopped_above(history: History, run_id: str) -> bool:
    """Whether a run above it was ever stopped: then it is, too."""
    return any("halt" in one.new for key in above(history, run_id) for one in history.at("flow_runs", (key, "")))


def end_of(history: History, run: Row, key: str, step: Mapping[str, Any]) -> frozenset[str]:
    """How a step that calls a flow may end: as any end of the run that does it. Without a run it fails."""
    row = history.steps.get(run["id"], {}).get(key, {})
    child = row.get("child_run_id")
    if reruns.KEPT.match(row.get("reason", "")):
        return frozenset({row["status"]})
    if step.get("detached"):
        return frozenset({"succeeded" if child is not None else "failed"})
    ends = {one.new["status"] for one in history.at("flow_runs", (child or "", "")) if _ends(one)}
    return frozenset("succeeded" if end == "succeeded" else "failed" for end in ends or {"failed"})


def _ends(change: Change) -> bool:
    return change.op != "delete" and change.new.get("status") in FINAL_RUN


def outputs(history: History, place: Place) -> Iterator[Any]:
    """Everything that steps of the runs that a step called gave."""
    for child in history.called.get(place, ()):
        for key in history.steps.get(child, {}):
            yield from (one.new.get("output") for one in history.at("flow_outputs", (child, key)))


def ended_alike(history: History) -> Iterator[Violation]:
    """A part of I12: a run that was called belongs to a step that calls its flow; that ends when the run has ended, and
    as it did; no step has more of them than it may try."""
    for place, run_ids in history.called.items():
        step = _call(history, place)
        if step is None:
            yield Violation("I12", "it called a run, and is not a step that calls a flow", *place)
            continue
        most = step.get("retry", {}).get("max_attempts", 1) * history.runs[place[0]]["epoch"]
        if len(run_ids) > most:
            yield Violation("I12", f"it called {len(run_ids)} runs, and may call {most}", *place)
        for run_id in run_ids:
            if (flow := history.runs[run_id]["flow"]) != step["flow"]:
                yield Violation("I12", f"its step calls {step['flow']}, it is of {flow}", run_id)
    for place in history.places("flow_steps"):
        step = _call(history, place) if place[0] in history.runs else None
        if step is not None and not step.get("detached"):
            for change in history.at("flow_steps", place):
                yield from _alike(history, change)


def _alike(history: History, change: Change) -> Iterator[Violation]:
    status = change.new.get("status")
    moved = change.op == "update" and change.old.get("status") != status
    if not moved or status not in ("succeeded", "failed") or settled.by_hand(change.new):
        return
    if reruns.KEPT.match(change.new.get("reason", "")):
        return
    child = change.new.get("child_run_id")
    if child is None:
        if status == "succeeded":
            yield Violation("I12", "it succeeds without a run", *change.place, (str(change.new),))
        return
    last = [one for one in history.at("flow_runs", (child, "")) if one.seq < change.seq or one.xid == change.xid]
    ended = last[-1].new.get("status") if last else None
    if ended not in FINAL_RUN or (ended == "succeeded") != (status == "succeeded"):
        sentence = f"it is {status}, and the run that it called is {ended}"
        yield Violation("I12", sentence, *change.place, (f"child {child}",))
