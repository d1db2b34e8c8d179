"""What a waiting step waits for, in a sentence; and what helps."""

import json
import shlex
from datetime import UTC, datetime
from uuid import UUID

from orchestrator.core.plan import Node
from orchestrator.core.schemas import example
from orchestrator.core.wording import length, until
from orchestrator.ledger.reads.rows import RunRow, StepRow


def waiting(step: StepRow, node: Node, now: datetime) -> str:
    """Of a step in its back-off, between two polls, or before its time."""
    if step.awaits is not None:
        return f"Step {step.key} waits for {step.awaits}{_until(step.wake_at, now)}."
    if step.wake_at is not None:
        if (flow := node.definition.flow) is not None and not step.attempts:
            return f"Step {step.key} waits for its turn: {flow} is run for it as soon as a keeper gets to it."
        if flow is not None:
            return f"Step {step.key} failed, and {flow} is run again for it {until(step.wake_at, now)}."
        does = "sleeps" if node.definition.sleep is not None else "waits"
        at = step.wake_at.astimezone(UTC)
        return f"Step {step.key} {does} until {at:%Y-%m-%d %H:%M:%S} UTC, for {length(at - now)} more."
    error = step.error or {}
    poll = node.definition.poll
    if poll is not None and error.get("type") == "NotYet" and step.started_at is not None:
        times = "once" if step.polls == 1 else f"{step.polls} times"
        why = f" ({error['message']})" if error.get("message") else ""
        return (
            f"Step {step.key} was asked {times} and is not ready{why}; it is asked again {until(step.due_at, now)}, "
            f"and for the last time {until(step.started_at + poll.timeout, now)}."
        )
    told = f" ({error['type']}: {error['message']})" if error else ""
    return (
        f"Step {step.key} failed attempt {step.attempts}{told} and waits for its back-off; the next attempt is due "
        f"{until(step.due_at, now)}."
    )


def later(run_id: UUID, start_at: datetime, now: datetime) -> str:
    """Of a run that was accepted and has not begun."""
    at = start_at.astimezone(UTC)
    return f"Run {run_id} was accepted and begins at {at:%Y-%m-%d %H:%M:%S} UTC, {until(at, now)}."


def _until(at: datetime | None, now: datetime) -> str:
    return "" if at is None else f" until {at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, for {length(at - now)} more"


def helps(row: RunRow, step: StepRow, node: Node) -> str:
    """The command that ends the wait, with a payload of the right shape to fill in; else the one that shows it end."""
    awaited = node.awaited
    if awaited is None or step.awaits is None:
        return f"orchestrator run watch {row.id}"
    payload = shlex.quote(json.dumps(example(awaited.form), ensure_ascii=False))
    if awaited.approval is not None:
        return f"orchestrator approval answer {row.id}/{step.key} {payload}"
    _, _, key = step.awaits.partition(" with key ")
    return f"orchestrator run signal {row.id} {awaited.name} {payload}" + (f" --key {shlex.quote(key)}" if key else "")
