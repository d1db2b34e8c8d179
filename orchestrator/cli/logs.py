"""The lines that handlers logged and printed, as text."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from orchestrator.cli import watch
from orchestrator.cli.render import Format, note, print_json, text
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.cli.options import AnyRun
    from orchestrator.ledger.logs import LogLine, Place

_SORTED: Final = 50_000
"""So many lines of a run are put in the order of their times; more are shown by step."""


def pattern(given: str | None) -> "re.Pattern[str] | None":
    """
    Raises:
        UsageError: it is not a regular expression.
    """
    if given is None:
        return None
    try:
        return re.compile(given, re.IGNORECASE)
    except re.error as exc:
        raise UsageError(
            f"--grep {given!r} is not a regular expression: {exc}. Fix: escape it with a backslash."
        ) from exc


def show(handle: "AnyRun", step: str | None, grep: "re.Pattern[str] | None", output: Format | None) -> None:
    """All that was kept, in the order of their times."""
    shown = 0
    for line in _in_order(handle.all_logs(step)):
        if grep is None or grep.search(line.text):
            shown += 1
            _print(line, output)
    if not shown:
        note("No line matches." if grep is not None else "Nothing was logged or printed.")


def follow(handle: "AnyRun", step: str | None, grep: "re.Pattern[str] | None", output: Format | None) -> None:
    """What comes, until the run has ended and its last lines were written."""
    known: set[Place] = set()
    end = handle.end()
    late = watch.LATE_LINES
    while True:
        over = handle.final_status() is not None
        for place in handle.log_places(step):
            if place in known:
                continue
            known.add(place)
            for line in _batch(handle, place):
                if grep is None or grep.search(line.text):
                    _print(line, output)
        if over:
            late -= 1
        if late < 0:
            return
        watch.rest(handle, end)


def _batch(handle: "AnyRun", place: "Place") -> "list[LogLine]":
    """Its lines; none, if it made room for later ones meanwhile."""
    before = place._replace(first=place.first - 1)
    return [line for line in handle.logs(place.step_key, after=before, limit=1) if line.place == place]


def _in_order(lines: "Iterator[LogLine]") -> "Iterator[LogLine]":
    some = [line for line, _ in zip(lines, range(_SORTED), strict=False)]
    yield from sorted(some, key=lambda line: line.at) if len(some) < _SORTED else some
    yield from lines


def _print(line: "LogLine", output: Format | None) -> None:
    if output in (Format.JSON, Format.JSONL):
        print_json(line, lines=True)
        return
    at = line.at.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    print(f"{at}  {line.step_key}#{line.attempt}  {line.level:<7} {text(line.text)}", flush=True)
