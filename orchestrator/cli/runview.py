"""A run and its steps as text."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from orchestrator.cli.render import (
    COLOURS,
    ago,
    between,
    error_line,
    facts,
    length,
    note,
    numbered,
    of,
    out,
    short,
    table,
)

if TYPE_CHECKING:
    from uuid import UUID

    from orchestrator.cli.options import AnyRun
    from orchestrator.ledger.error_groups import ErrorGroup
    from orchestrator.ledger.reads.rows import EventRow, RunRow, StepRow
    from orchestrator.ledger.rollups import RunStats

EVENT_COLUMNS: Final[Mapping[str, Callable[["EventRow"], object]]] = {
    "id": lambda row: row.id,
    "at": lambda row: row.at.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
    "event": lambda row: row.type,
    "step": lambda row: row.step_key,
    "attempt": lambda row: row.attempt,
    "facts": lambda row: pairs(row.facts),
}
RUN_COLUMNS: Final[Mapping[str, Callable[["RunRow"], object]]] = {
    "id": lambda row: short(row.id),
    "flow": lambda row: f"{row.flow}@{row.version}",
    "version": lambda row: numbered(row.ordinal, row.manifest_hash),
    "status": lambda row: row.status,
    "tags": lambda row: row.tags,
    "accepted": lambda row: row.created_at,
    "duration": lambda row: between(row.started_at, row.ended_at) if row.start_at is None else begins(row.start_at),
    "error": lambda row: error_line(row.error)[:80],
}
ERROR_COLUMNS: Final[Mapping[str, Callable[["ErrorGroup"], object]]] = {
    "fingerprint": lambda row: row.fingerprint,
    "runs": lambda row: row.count,
    "first": lambda row: row.first,
    "last": lambda row: row.last,
    "flows": lambda row: row.flows,
    "example": lambda row: short(row.example),
    "error": lambda row: error_line({"type": row.type, "message": row.message})[:80],
}
STATS_COLUMNS: Final[Mapping[str, Callable[["RunStats"], object]]] = {
    "since": lambda row: row.since,
    "flow": lambda row: row.flow,
    "version": lambda row: row.version or None,
    "status": lambda row: row.status,
    "runs": lambda row: row.count,
    "duration p50": lambda row: length(timedelta(seconds=row.duration_p50_s)),
    "p95": lambda row: length(timedelta(seconds=row.duration_p95_s)),
    "wait p50": lambda row: length(timedelta(seconds=row.wait_p50_s)),
    "wait p95": lambda row: length(timedelta(seconds=row.wait_p95_s)),
}
OWN_EVENT_COLUMNS: Final = {title: show for title, show in EVENT_COLUMNS.items() if title not in ("step", "attempt")}
"""Events of a schedule or a flow."""


_SOME: Final = 50
"""Children of a loop that are shown with `--status`."""


def show(run: "RunRow", steps: "Sequence[StepRow]", reruns: "Sequence[UUID]" = ()) -> None:
    """The header of the run, then its steps. `reruns` were made of it."""
    facts({**header(run), "run again as": ", ".join(map(str, reruns)) or None})
    print()
    table(
        ["step", "status", "attempts", "duration", "queue", "note"],
        [(label(step), step.status, step.attempts or "", took(step), step.queue, remark(step)) for step in steps],
    )
    if not out().is_terminal:
        return
    print(f"\nWhy: orchestrator run explain {run.id}")


def steps(handle: "AnyRun", status: str | None, *, whole: bool) -> "list[StepRow]":
    """The steps to show: with a status those that have it, in loops too; else all, big loops folded unless `whole`."""
    if whole:
        return [step for step in handle.all_steps() if status in (None, step.status)]
    if status is None:
        return handle.steps()
    found = []
    for step in handle.steps(fold=0):
        children = step.children or {}
        if step.status == status or children.get(status):
            found.append(step)
        if count := children.get(status):
            found += handle.steps(loop=step.key, status=status, limit=_SOME)
            if count > _SOME:
                note(of(_SOME, count, f"{status} items of {step.key}", "--all"))
    return found


def header(run: "RunRow") -> dict[str, object]:
    """The facts about the run itself."""
    took_ = between(run.started_at, run.ended_at)
    cancel = f"requested {ago(run.cancel_requested_at)}: {run.cancel_reason}" if run.cancel_requested_at else None
    return {
        "run": run.id,
        "flow": f"{run.flow}@{run.version}",
        "version": numbered(run.ordinal, run.manifest_hash),
        "status": run.status,
        "tags": run.tags,
        "made of run": run.source,
        "called by": f"{run.parent}/{run.parent_step}" if run.parent is not None else None,
        "schedule": run.schedule,
        "scheduled for": run.scheduled_for,
        "idempotency key": run.key if run.scheduled_for is None else None,
        "input": brief(run.body, 200),
        "created": run.created_at,
        "begins": run.start_at,
        "started": run.started_at,
        "ended": run.ended_at,
        "duration": length(took_) if took_ is not None else None,
        "deadline": run.deadline,
        "cancel": cancel,
        "epoch": run.epoch if run.epoch > 1 else None,
        "failed step": (run.error or {}).get("step"),
        "error": error_line(run.error),
    }


def begins(at: datetime) -> str:
    """Of a run that was accepted and begins later."""
    return f"begins {at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def label(step: "StepRow") -> str:
    """The step's key; a loop's child is indented below it."""
    return f"  {step.key}" if step.loop_key else step.key


def took(step: "StepRow") -> str:
    """How long its attempts took together, without the pauses between them; for a loop, the time from start to end."""
    span = between(step.started_at, step.ended_at) if step.worked is None else step.worked
    return "" if span is None else length(span)


def remark(step: "StepRow") -> str:
    """What there is to say of the step: counts, progress, error, reason, the next attempt."""
    if step.kind == "loop" and (step.children or not step.reason):
        return counts(step.children or {})
    if step.child is not None and step.status == "running":
        return f"run {step.child}"
    if step.status == "running" and step.progress:
        return progress(step.progress)
    if step.status == "waiting":
        return waiting(step)
    if step.status in ("succeeded", "skipped", "cancelled"):  # an attempt before that may have failed
        return step.reason or ""
    return error_line(step.error) or step.reason or ""


def waiting(step: "StepRow") -> str:
    """`next attempt 12:00:00 UTC; …`, `asked 3 times, next 12:00:00 UTC; …`."""
    until = "" if step.wake_at is None else f"until {step.wake_at:%Y-%m-%d %H:%M:%S} UTC"
    if step.awaits is not None or until:
        return " ".join(filter(None, [step.awaits and f"for {step.awaits}", until]))
    if step.due_at is None:
        return ""
    error = step.error or {}
    if step.polls and error.get("type") == "NotYet":
        times = "once" if step.polls == 1 else f"{step.polls} times"
        why = f"; {error['message']}" if error.get("message") else ""
        return f"asked {times}, next {step.due_at:%H:%M:%S} UTC{why}"
    return f"next attempt {step.due_at:%H:%M:%S} UTC; {error_line(step.error)}"


def counts(children: Mapping[str, int]) -> str:
    """`98 succeeded, 2 failed`."""
    order = {status: place for place, status in enumerate(COLOURS)}
    parts = sorted(children.items(), key=lambda pair: order.get(pair[0], 99))
    return ", ".join(f"{count} {status}" for status, count in parts if count) or "no items"


def progress(given: Mapping[str, Any]) -> str:
    """`40 of 100, reading`."""
    total = f" of {given['total']}" if given.get("total") is not None else ""
    more = f", {given['note']}" if given.get("note") else ""
    return f"{given.get('done')}{total}{more}"


def pairs(value: object) -> str:
    """The facts of an event: `reason=…, by=…`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={brief(one, 120)}" for name, one in value.items() if one is not None)
    return "" if value is None else brief(value, 120)


def brief(value: object, most: int) -> str:
    """JSON, cut short."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= most else text[: most - 1] + "…"
