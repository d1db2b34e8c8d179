"""What of the language a soak has played, and how often: what it never met, it says nothing of."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tests.proof import reruns, settled, signals
from tests.proof.history import Call, History, Row
from tests.proof.verdict import Violation

ENOUGH_MINUTES: Final = 3.0
"""A shorter soak need not come upon everything."""
INSIDE: Final = (
    "conditions met",
    "conditions not met",
    "conditions that fail",
    "joins",
    "merges",
    "races",
    "withdrawn",
    "failures taken up",
    "loops",
    "called flows",
    "called flows that failed",
    "polls",
    "sleeps",
    "signals taken at once",
    "signals kept, then taken",
    "waits that gave a default",
    "waits that timed out",
    "approvals answered",
    "skipped by hand",
    "marked by hand",
    "requirements met",
    "requirements not met",
)
"""What steps of items show, too."""
ALL: Final = (
    *INSIDE,
    "items of several steps",
    "loops that collect failures",
    "loops that stop",
    "called flows that nobody waits for",
    "polls that timed out",
    "waits for a time",
    "signals refused",
    "signals that nobody took",
    "late starts",
    "reruns whole",
    "reruns from a step",
    "cancels",
    "deadlines",
    "retries",
    "schedules",
    "headers read",
    "retries that force",
    "retries that call anew",
    "outputs outside of the ledger",
    "items that are runs",
)


def played(history: History) -> dict[str, int]:
    """By construct, in the order above."""
    found: Counter[str] = Counter()
    for run_id, run in history.runs.items():
        found.update(_of_run(history, run))
        kept = reruns.kept(history, run_id)
        for key, row in history.steps.get(run_id, {}).items():
            if not reruns.is_kept(kept, key):
                found.update(_placed(key, _of_row(history, row)))
    found.update(_of_signals(history))
    for row in history.final.get("flow_outputs", ()):
        if "reference" in row:
            found["outputs outside of the ledger"] += 1
    retries = [call for call in history.calls if call.kind == "retry" and call.reply == "ok"]
    found["retries"] = len(retries)
    found["retries that force"] = sum("force" in call.options for call in retries)
    found["retries that call anew"] = sum("fresh" in call.options and _calls(history, call) for call in retries)
    found["late starts"] = sum(
        "start_at" in change.old and "start_at" not in change.new and change.op == "update"
        for change in history.of("flow_run_controls")
    )
    return {name: found[name] for name in (*ALL, *(f"{name} in items" for name in INSIDE))}


def _placed(key: str, names: Iterable[str]) -> Iterator[str]:
    """What is inside of an item counts there, too."""
    for name in names:
        yield name
        if "." in key:
            yield f"{name} in items"


def _calls(history: History, retry: Call) -> bool:
    """Whether a step of the run called several runs."""
    return any(len(runs) > 1 for (run_id, _), runs in history.called.items() if run_id == retry.run_id)


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


def _of_row(history: History, row: Row) -> Iterator[str]:
    """What a step, or an item, shows by its end."""
    run_id, key = row["run_id"], row["step_key"]
    step = history.step_of(history.manifest_of(run_id)["steps"], key)
    if step is None:
        if row.get("kind") == "item" and row["status"] == "succeeded":
            yield "items of several steps"
    elif settled.by_hand(row):
        yield "skipped by hand" if row["status"] == "skipped" else "marked by hand"
    else:
        yield from _of_step(row, step)
        if "flow" in step and row["status"] == "succeeded" and "." in key:
            *_, loop = history.loops_around(run_id, key)
            if len(loop["steps"]) == 1:
                yield "items that are runs"


def _of_step(row: Row, step: Mapping[str, Any]) -> Iterator[str]:
    """What a step shows of itself by its end."""
    reason, succeeded, began = row.get("reason", ""), row["status"] == "succeeded", "started_at" in row
    if "when" in step:
        if succeeded:
            yield "conditions met"
            if "triggerHeaders" in step["when"]:
                yield "headers read"
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
    if "require" in step and row["status"] in ("succeeded", "failed"):
        yield "requirements met" if succeeded else "requirements not met"
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
    for row in history.final.get("flow_signals", ()):
        if "consumed_by" not in row:
            found["signals that nobody took"] += 1
        else:
            name = "signals kept, then taken" if row.get("kept") else "signals taken at once"
            found.update(_placed(row["consumed_by"], [name]))
    for row in history.final.get("flow_signal_waiters", ()):
        step = history.steps.get(row["run_id"], {}).get(row["step_key"], {})
        if step.get("status") != "succeeded":
            continue
        if "signal_id" not in row and not settled.by_hand(step):
            found.update(_placed(row["step_key"], ["waits that gave a default"]))
        elif row.get("kind") == "approval":
            found.update(_placed(row["step_key"], ["approvals answered"]))
    found["signals refused"] = sum(one.reply == "refused" for one in history.sent)
    return found
