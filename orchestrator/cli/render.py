"""How data looks: a table on a terminal, plain columns in a pipe, JSON on request."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any, Final
from uuid import UUID

from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.table import Table
from rich.text import Text

COLOURS: Final = {
    "succeeded": "green",
    "running": "cyan",
    "ready": "blue",
    "pending": "blue",
    "waiting": "yellow",
    "failed": "bold red",
    "timed_out": "bold red",
    "cancelled": "magenta",
    "skipped": "dim",
    "blocked": "dim",
    "crashed": "red",
    "released": "yellow",
    "pass": "green",
    "warn": "yellow",
    "fail": "bold red",
}
"""One colour per status, everywhere."""
COLUMNS = Mapping[str, Callable[[Any], object]]
"""Header to the cell of an item."""
MANY: Final = 10_000
"""Counts end here."""
_LONG: Final = frozenset({"", "description", "error", "facts", "finding", "fix", "handlers", "note", "queues", "tags"})
"""Columns that may take several lines on a narrow terminal."""


class Format(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


def out() -> Console:
    """stdout; colours only on a terminal, and not with NO_COLOR."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """A hint or progress: stderr."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: object, *, lines: bool = False) -> None:
    """Datetimes and durations as ISO 8601, ids as text."""
    plain = to_jsonable_python(value)
    if lines:
        for one in plain if isinstance(plain, list) else [plain]:
            print(json.dumps(one, ensure_ascii=False))
    else:
        print(json.dumps(plain, ensure_ascii=False, indent=2))


def listing(items: Sequence[object], columns: COLUMNS, output: Format | None, *, empty: str) -> None:
    """Many things. An empty table is a note, so that a pipe gets nothing."""
    if output in (Format.JSON, Format.JSONL):
        print_json(list(items), lines=output is Format.JSONL)
    elif items:
        table(list(columns), [[cell(item) for cell in columns.values()] for item in items])
    else:
        note(empty)


def of(shown: int, total: int, noun: str, more: str) -> str:
    """`50 of 286 runs are shown. See more: --limit.`"""
    many = f"more than {total - 1:,}" if total >= MANY else f"{total:,}"
    return f"{shown:,} of {many} {noun} are shown. See more: {more}."


def say_if_more(rows: Sequence[Any], limit: int, more: Callable[[int], Sequence[object]]) -> None:
    """Say that a page of events is not all, if `more`, called with the id of the last one, gives any."""
    if len(rows) == limit and more(rows[-1].id):
        note(f"{limit:,} events are shown, and there are more. Continue with --after {rows[-1].id}.")


def pages(
    items: Iterable[Any], columns: COLUMNS, output: Format | None, *, empty: str, page: int = 1000
) -> tuple[int, int]:
    """Print many things as they come, a page at a time; as `json`, all of them are one document. Returns how many there
    were, and the id of the last one."""
    left, count, last = iter(items), 0, 0
    if output is Format.JSON:
        found = list(left)
        listing(found, columns, output, empty=empty)
        return len(found), found[-1].id if found else 0
    while some := list(islice(left, page)):
        listing(some, columns, output, empty=empty)
        count, last = count + len(some), some[-1].id
    if not count:
        listing([], columns, output, empty=empty)
    return count, last


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rich on a terminal; in a pipe every row is one line, and nothing is cut."""
    cells = [[text(value) for value in row] for row in rows]
    console = out()
    if not console.is_terminal:
        _columns(headers, cells)
        return
    grid = Table(box=None, pad_edge=False, header_style="bold", show_header=any(headers))
    for header in headers:
        grid.add_column(header, no_wrap=header not in _LONG, overflow="fold")
    for row in cells:
        grid.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    console.print(grid, soft_wrap=False)


def _columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [list(headers), *rows] if any(headers) else list(rows)
    widths = [max((len(line[place]) for line in lines), default=0) for place in range(len(headers))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def facts(pairs: Mapping[str, object]) -> None:
    """The header of one thing: a name and a value per line; what is None or empty is left out."""
    table(["", ""], [(f"{name}:", value) for name, value in pairs.items() if value not in (None, "", (), [])])


def text(value: object) -> str:
    """One cell: one line, without control characters that a terminal would obey."""
    match value:
        case None:
            return ""
        case datetime():
            return moment(value)
        case timedelta():
            return length(value)
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(text(one) for one in value)
    return "".join(c if c.isprintable() else " " for c in str(value).strip().split("\n")[0])


def moment(at: datetime) -> str:
    """Local time to the second."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def length(span: timedelta) -> str:
    """`850 ms`, `12.3 s`, `4m 05s`, `3h 12m`, `2d 4h`."""
    total = max(span.total_seconds(), 0.0)
    if total < 1:
        return f"{total * 1000:.0f} ms"
    if total < 60:
        return f"{total:.1f} s"
    whole = int(total)
    for unit, next_unit, size, part in (("m", "s", 60, 1), ("h", "m", 3600, 60), ("d", "h", 86400, 3600)):
        if unit == "d" or whole < size * (60 if unit == "m" else 24):
            return f"{whole // size}{unit} {whole % size // part:02d}{next_unit}"
    raise AssertionError("unreachable")


def between(start: datetime | None, end: datetime | None) -> timedelta | None:
    """How long something took, or has taken until now."""
    return None if start is None else (end or datetime.now(UTC)) - start


def ago(at: datetime | None) -> str:
    """`12.3 s ago`."""
    return "" if at is None else f"{length(datetime.now(UTC) - at)} ago"


def short(run_id: UUID) -> str:
    """The end of a run's id: its beginning is the time, so ids of one hour begin alike. Commands take it."""
    return str(run_id)[-12:]


def error_line(error: Mapping[str, object] | None) -> str:
    """`ValueError: first line`; the reason alone for a run that was stopped."""
    if not error:
        return ""
    kind, message = error.get("type"), error.get("message")
    if kind in COLOURS:
        return text(message)
    return text(f"{kind}: {message}" if kind else message)


def numbered(ordinal: int | None, manifest_hash: str) -> str:
    """A version as lists show it: its ordinal and the beginning of its hash."""
    return f"{'?' if ordinal is None else ordinal}:{manifest_hash[:8]}"
