"""One step as text: what was tried, with what, by whom, and what came of it."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.cli import runview
from orchestrator.cli.render import between, facts, length, note, text

if TYPE_CHECKING:
    from pydantic import JsonValue

    from orchestrator.cli.options import AnyRun
    from orchestrator.ledger.reads.rows import AttemptRow, StepRow

ATTEMPTS: Final = 5
"""Attempts that are shown."""
CHARACTERS: Final = 2_000
"""Of inputs and outputs."""
LINES: Final = 30
"""Of a traceback: its end says what happened."""


@dataclass(frozen=True)
class StepView:
    """A step with its last attempts and what it returned."""

    run_id: str
    step: "StepRow"
    attempts: "list[AttemptRow]"
    output: "JsonValue"

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return {"run_id": self.run_id, **asdict(self.step), "attempt_rows": self.attempts, "output": self.output}


def read(handle: "AnyRun", key: str, *, whole: bool) -> StepView:
    """The step; every attempt of it with `whole`."""
    step = handle.step(key)
    attempts = handle.attempts(key, limit=1000 if whole else ATTEMPTS)
    done = step.status == "succeeded" and step.children is None
    return StepView(str(handle.id), step, attempts, handle.shown_output(key) if done else None)


def show(view: StepView, *, whole: bool) -> None:
    """The step, its attempts one below the other, and its output."""
    step = view.step
    facts(
        {
            "step": f"{view.run_id}/{step.key}",
            "status": step.status,
            "handler": step.task,
            "queue": step.queue,
            "attempts": step.attempts,
            "polls": step.polls or None,
            "worked": runview.took(step),
            "next attempt": step.due_at,
            "until": step.wake_at,
            "note": runview.remark(step),
        }
    )
    for number, attempt in enumerate(view.attempts):
        same = number > 0 and attempt.inputs == view.attempts[number - 1].inputs
        _attempt(attempt, whole=whole, same_inputs=same)
    if step.status == "succeeded" and step.children is None:
        print("\noutput:")
        _value(view.output, whole=whole)
    if len(view.attempts) < step.attempts:
        note(f"{len(view.attempts)} of {step.attempts} attempts are shown. See more: --all.")


def _attempt(row: "AttemptRow", *, whole: bool, same_inputs: bool) -> None:
    took = between(row.started_at, row.ended_at)
    print()
    facts(
        {
            "attempt": f"{row.attempt}, {row.status}",
            "worker": row.owner,
            "started": row.started_at,
            "ended": row.ended_at,
            "duration": length(took) if took is not None else None,
            "waited in its queue": row.queue_wait,
            "error": text(f"{row.error_type}: {row.error_message}") if row.error_type else None,
        }
    )
    if row.error_traceback:
        print("traceback:")
        _lines(row.error_traceback.rstrip().splitlines(), whole=whole)
    if row.inputs is None:
        if row.status != "running":
            print("inputs:\n  not kept: they have more than 64 KiB, or the attempt ended before they were recorded")
    elif same_inputs:
        print("inputs:\n  as before")
    else:
        print("inputs:")
        _value(row.inputs, whole=whole)


def _lines(lines: list[str], *, whole: bool) -> None:
    left = 0 if whole else max(len(lines) - LINES, 0)
    if left:
        print(f"  … {left} lines are not shown. See more: --all.")
    for line in lines[left:]:
        print(f"  {plain(line)}")


def _value(value: "JsonValue", *, whole: bool) -> None:
    whole_text = json.dumps(value, ensure_ascii=False, indent=2)
    shown = whole_text if whole else whole_text[:CHARACTERS]
    for line in shown.splitlines():
        print(f"  {plain(line)}")
    if len(shown) < len(whole_text):
        print(f"  … {len(shown):,} of {len(whole_text):,} characters are shown. See more: --all.")


def plain(line: str) -> str:
    """Without control characters that a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in line)
