"""Steps that an operator settled: left out, or done by other means."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.proof import reruns
from tests.proof.history import History, Row
from tests.proof.verdict import Violation

_TOLD: Final = ("skipped by ", "marked as done by ")


def by_hand(row: Row) -> bool:
    """Whether the row of a step says so; also of the step of a run before, from which this one is kept."""
    return reruns.reason(str(row.get("reason", ""))).startswith(_TOLD)


def of_run(steps: Mapping[str, Row]) -> dict[str, str]:
    """By step that was settled, how it ended."""
    return {key: row["status"] for key, row in steps.items() if by_hand(row)}


def unasked(history: History) -> Iterator[Violation]:
    """A step says that an operator settled it, and none did."""
    asked: set[Any] = {
        (call.run_id, call.step_key) for call in history.calls if call.kind == "settle" and call.reply != "refused"
    }
    for place in history.places("flow_steps"):
        for change in history.at("flow_steps", place):
            told = str(change.new.get("reason", "")).startswith(_TOLD)
            if told and not by_hand(change.old) and place not in asked:
                yield Violation("I8", "settled by hand, and no operator did", *place, (str(change.new),))
