"""What of the language a soak has played, and how often: what it never met, it says nothing of."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.proof import reruns, settled, signals
from tests.proof.history import History, Row
from tests.proof.verdict import Violation

ENOUGH_MINUTES: Final = 3.0
"""A shorter soak need not come upon everything."""
ALL: Final = (
    "conditions met",
    "conditions not met",
    "conditions that fail",
    "joins",
    "merges",
    "races",
    "withdrawn",
    "failures taken up",
    "loops",
    "items of several steps",
    "loops that collect failures",
    "loops that stop",
    "called flows",
    "called flows that failed",
    "called flows that nobody waits for",
    "polls",
    "polls that timed out",
    "sleeps",
    "waits for a time",
    "signals taken at once",
    "signals kept, then taken",
    "signals refused",
    "signals that nobody took",
    "waits that gave a default",
    "waits that timed out",
    "approvals answered",
    "late starts",
    "skipped by hand",
    "marked by hand",
    "reruns whole",
    "reruns from a step",
    "cancels",
    "deadlines",
    "retries",
    "schedules",
)


def played(history: History) -> dict[str, int]:
    """By construct, in the order above."""
    found: Counter[str] = Counter()
    for run_id, run in history.runs.items():
        found.update(_of_run(history, run))
        manifest, kept = history.manifest_of(run_id)["steps"], reruns.kept(history, run_id)
        for key, row in history.steps.get(run_id, {}).items():
            step = history.step_of(manifest, key)
            if row.get("kind") == "item" and row["status"] == "succeeded":
                found["items of several steps"] += 1
            if step is not None and key not in kept:
                found.update(_by_hand(row) if settled.by_hand(row) else _of_step(row, step))
    found.update(_of_signals(history))
    found["retries"] = sum(call.kind == "retry" and call.reply == "ok" for call in history.calls)
    found["late starts"] = sum(
        "start_at" in change.old and "start_at" not in change.new and change.op == "update"
        for change in history.of("flow_run_controls")
    )
    return {name: found[name] for name in ALL}


def never_played(history: History) -> Iterator[Violation]:
    """A soak that leaves something out is not one."""
    for name, count in played(history).items():
        if not count:
            yield Violation("constructs", f"{name}: never played")


def _of_run(history: History, run: Row) -> Iterator[str]:
    if "source_run_id" in run:
        yield "reruns from a step" if reruns.kept(history, run["id"]) else "reruns whole"
    if run["status"] == "cancelled":
        yield "cancels"
    if run["status"] == "timed_out":
        yield "deadlines"
    if "scheduled_for" in run:
        yield "schedules"


def _by_hand(row: Row) -> Iterator[str]:
    yield "skipped by hand" if row["status"] == "skipped" else "marked by hand"


def _of_step(row: Row, step: Mapping[str, Any]) -> Iterator[str]:
    """What a step shows of itself by its end."""
    reason, succeeded, began = row.get("reason", ""), row["status"] == "succeeded", "started_at" in row
    if "when" in step:
        if succeeded:
            yield "conditions met"
        elif reason.startswith("when:"):
            yield "conditions that fail" if row["status"] == "failed" else "conditions not met"
    if succeeded and step.get("join", "all") == "any":
        yield "races"
    elif succeeded and step.get("join", "all") != "all":
        yield "joins"
    if reason.startswith("withdrawn: "):
        yield "withdrawn"
    if succeeded and any("failed" in accepted for accepted in step.get("run_after", {}).values()):
        yield "failures taken up"
    for field, name in (("value", "merges"), ("steps", "loops"), ("sleep", "sleeps"), ("until", "waits for a time")):
        if field in step and succeeded:
            yield name
    if row.get("polls") and "poll" in step:
        yield "polls" if succeeded else "polls that timed out"
    if succeeded and step.get("errors") == "collect" and row.get("children_failed"):
        yield "loops that collect failures"
    if "stop_on_failure" in step and row.get("children_failed"):
        yield "loops that stop"
    if "flow" in step and succeeded and step.get("detached"):
        yield "called flows that nobody waits for"
    elif "flow" in step and "child_run_id" in row:
        yield "called flows" if succeeded else "called flows that failed"
    if signals.awaits(step) and row["status"] == "failed" and began:
        yield "waits that timed out"


def _of_signals(history: History) -> Counter[str]:
    found: Counter[str] = Counter()
    asks = {(run_id, key) for run_id, steps in history.steps.items() for key in steps}
    for row in history.final.get("flow_signals", ()):
        if "consumed_by" not in row:
            found["signals that nobody took"] += 1
        else:
            found["signals kept, then taken" if row.get("kept") else "signals taken at once"] += 1
    for row in history.final.get("flow_signal_waiters", ()):
        place = (row["run_id"], row["step_key"])
        if place not in asks or history.steps[place[0]][place[1]]["status"] != "succeeded":
            continue
        if "signal_id" not in row and not settled.by_hand(history.steps[place[0]][place[1]]):
            found["waits that gave a default"] += 1
        elif row.get("kind") == "approval":
            found["approvals answered"] += 1
    found["signals refused"] = sum(one.reply == "refused" for one in history.sent)
    return found
