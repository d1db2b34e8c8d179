"""The table at the end."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import psutil

from benchmarks.figures import Figure, number, ratio


@dataclass(frozen=True)
class Row:
    """One measure of every contender; the first one is ours."""

    what: str
    """With the unit."""
    values: dict[str, Figure]


@dataclass
class Result:
    """The rows of one workload, and what else is to be said."""

    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: tuple[str, ...] = ()
    """The contenders that are compared, if not all."""


def markdown(results: Sequence[Result], names: Sequence[str], took_s: float) -> str:
    """Every result, ours beside the others; a ratio is ours divided by theirs."""
    parts = ["# Benchmark", "", conditions(took_s), ""]
    for result in results:
        parts += [f"## {result.title}", ""]
        if result.rows:
            parts += [*_table(result.rows, result.names or names), ""]
        parts += [f"- {note}" for note in result.notes]
        parts += [""] if result.notes else []
    return "\n".join(parts)


def _table(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    ours, *others = names
    header = ["", ours]
    for other in others:
        header += [other, "ratio"]
    lines = [f"| {' | '.join(header)} |", "|---|" + "---:|" * (len(header) - 1)]
    for row in rows:
        mine = row.values.get(ours)
        cells = [row.what, mine.text() if mine else "–"]
        for other in others:
            theirs = row.values.get(other)
            cells.append(theirs.text() if theirs else "–")
            cells.append(f"**{ratio(mine.middle, theirs.middle)}**" if mine and theirs else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def conditions(took_s: float) -> str:
    """Where and with what."""
    memory = number(psutil.virtual_memory().total / 2**30)
    versions = ", ".join(f"{name} {_version(name)}" for name in ("celery", "kombu", "psycopg", "sqlalchemy"))
    machine = f"{os.cpu_count()} cores, {memory} GiB, Python {platform.python_version()}, {versions}"
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine}; embedded PostgreSQL (fsync on) and Valkey (append-only "
        f"file) on the same machine; measured in {took_s / 60:.1f} minutes. "
        "Medians, in brackets the lowest and the highest round. A ratio is ours divided by theirs."
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "?"
