"""Words of messages that depend on a number or a time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

STOPPED: Final = "the loop stopped: "
"""How the reason begins of what a loop skipped because a child of it failed: an operator's retry runs it after all."""


def counted(number: int, noun: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def an(word: str) -> str:
    """`an int`, `a list`."""
    return f"{'an' if word[:1] in 'aeiouAEIOU' else 'a'} {word}"


def named(noun: str, names: Sequence[str]) -> str:
    """`step a`, `steps a and b`, `steps a, b and c`."""
    return f"{noun} {names[0]}" if len(names) == 1 else f"{noun}s {listed(names)}"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def until(at: datetime | None, now: datetime) -> str:
    """`in 5 min`; `soon` for what is past or not known."""
    return "soon" if at is None or at <= now else f"in {length(at - now)}"


def length(span: timedelta) -> str:
    """In the unit that says it best: `90 s`, `5 min`, `3 h`."""
    total = max(int(span.total_seconds()), 0)
    if total < 120:
        return f"{total} s"
    return f"{total // 60} min" if total < 7200 else f"{total // 3600} h"


def item_failed(item: str, step: str, message: object) -> str:
    """Why an item of a loop failed, from the failure of a step of it (by their keys)."""
    return f"{step.removeprefix(f'{item}.').partition('.')[0]} failed: {message}"[:2000]


def loop_stopped(item: str) -> str:
    """Why what is skipped with it never ran."""
    return f"{STOPPED}{item} failed"


def sentence(text: str) -> str:
    """With the mark that ends it: a question keeps its own."""
    text = text.rstrip()
    return text if text.endswith(("?", "!")) else f"{text.rstrip('.')}."
