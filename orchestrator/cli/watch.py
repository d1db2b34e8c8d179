"""`run watch`: a live tree on a terminal, one line per change elsewhere."""

import sys
import time
from collections.abc import Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from orchestrator.cli import runview
from orchestrator.cli.deep import Stand, stand
from orchestrator.cli.render import COLOURS, Format, between, error_line, length, moment, print_json, short, text
from orchestrator.core.states import FINAL_RUN, RunStatus, StepKind, StepStatus

if TYPE_CHECKING:
    from orchestrator.cli.options import AnyRun
    from orchestrator.ledger.reads.rows import RunRow, StepRow

_QUIET_S: Final = 1.0
_BAR: Final = 30
_SIGNS: Final = {
    "succeeded": "✔",
    "failed": "✘",
    "timed_out": "✘",
    "running": "▶",
    "waiting": "⏸",
    "ready": "•",
    "cancelled": "⊘",
    "skipped": "↷",
}


def follow(handle: "AnyRun", timeout_s: float | None, *, deep: bool = False) -> RunStatus:
    """Show the run until it ends; its final status. `deep`: with the runs below it, until these have ended, too.

    Raises:
        WaitTimeout: it goes on after `timeout_s`.
    """
    ends = None if timeout_s is None else time.monotonic() + timeout_s
    console = Console(highlight=False)
    show = partial(_live, console=console) if console.is_terminal else partial(lines, file=sys.stdout)
    status = show(handle, ends, deep=deep)
    return handle.final(status, timeout_s)


def wait(handle: "AnyRun", timeout_s: float | None) -> RunStatus:
    """Wait for the end; when that takes long, stderr says what is going on."""
    from orchestrator.errors import WaitTimeout

    began = time.monotonic()
    quiet = _QUIET_S if timeout_s is None else min(_QUIET_S, timeout_s)
    try:
        return handle.wait(quiet)
    except WaitTimeout:
        left = None if timeout_s is None else began + timeout_s
        return handle.final(lines(handle, left, sys.stderr), timeout_s)


def follow_events(handle: "AnyRun", after: int, output: Format | None) -> None:
    """Print what happens until the run has ended and all was printed."""
    shown = Format.JSONL if output is Format.JSON else output
    end = handle.end()
    while True:
        over = handle.final_status() is not None
        for event in handle.all_events(after=after):
            after = event.id
            if shown is Format.JSONL:
                print_json(event, lines=True)
            else:
                print("  ".join(text(cell(event)) for cell in runview.EVENT_COLUMNS.values()), flush=True)
        if over:
            return
        _rest(end, handle.client.pause_s)


LATE_LINES: Final = 3
"""Pauses after the end of a run in which its last lines are written."""


def rest(handle: "AnyRun", end: "Future[RunStatus]") -> None:
    """A pause of whoever follows a run."""
    _rest(end, handle.client.pause_s)


def _rest(end: "Future[RunStatus]", pause_s: float) -> None:
    """Until there may be news; the end of the run ends the pause at once."""
    if end.done():  # it was, and the rows do not say so yet; or the database is away
        time.sleep(pause_s)
    else:
        futures.wait([end], pause_s)


def _over(shown: Stand, ends: float | None) -> bool:
    ended = all(one.run.status in FINAL_RUN for one in shown.all())
    return ended or (ends is not None and time.monotonic() >= ends)


def _live(handle: "AnyRun", ends: float | None, console: Console, *, deep: bool) -> RunStatus:
    from orchestrator.ledger.reads.steps import FOLD

    fold, end = max(4, min(FOLD, console.height - 12)), handle.end()
    with Live(console=console, refresh_per_second=4, vertical_overflow="ellipsis") as live:
        while True:
            shown = stand(handle, deep=deep, fold=fold)
            live.update(tree(shown))
            if _over(shown, ends):
                return shown.run.status
            _rest(end, handle.client.pause_s)


def tree(shown: Stand) -> Group:
    """The run as it stands: a line per step, a bar per loop and per progress report."""
    run = shown.run
    root = Tree(_line(run.status, f"{run.flow}@{run.version}", str(run.id), between(run.started_at, run.ended_at)))
    _grow(root, shown)
    error = [Text(f"  {error_line(run.error)}", style="red")] if run.error else []
    return Group(root, *error)


def _grow(root: Tree, shown: Stand) -> None:
    places: dict[str, Tree] = {}
    for step in sorted(shown.steps, key=lambda step: step.loop_key is not None):  # loops before their children
        parent = places.get(step.loop_key or "", root)
        places[step.key] = parent.add(_step(step))
    for key, runs in shown.called.items():
        for one in runs:
            run = one.run
            note = error_line(run.error) if run.error else ""
            line = _line(run.status, f"{short(run.id)} {run.flow}", note, between(run.started_at, run.ended_at))
            _grow(places.get(key, root).add(line), one)


def _step(step: "StepRow") -> Table:
    more = f"attempt {step.attempts}" if step.attempts > 1 else ""
    note = runview.remark(step)
    said = " · ".join(part for part in (more, note) if part)
    return _line(step.status, step.key, said, step.worked or between(step.started_at, step.ended_at), _share(step))


def _line(status: str, name: str, note: str, span: timedelta | None, done: tuple[float, float] | None = None) -> Table:
    line = Table.grid(padding=(0, 2))
    sign = Text(f"{_SIGNS.get(status, '·')} {text(name)}", style=COLOURS.get(status, ""))
    bar = [ProgressBar(total=done[1], completed=done[0], width=_BAR)] if done else []
    cells = [Text(status), Text("" if span is None else length(span))]
    line.add_row(sign, *cells, *bar, Text(text(note), style="dim"))
    return line


def _share(step: "StepRow") -> tuple[float, float] | None:
    """How much is done, of how much; None when nothing is known, or it is over."""
    if step.status is not StepStatus.RUNNING:
        return None
    if step.kind is StepKind.LOOP:
        total = step.children_total or 0
        return (total - (step.children_open or 0), total) if total else None
    return _reported(step.progress or {})


def _reported(progress: Mapping[str, Any]) -> tuple[float, float] | None:
    done, total = progress.get("done"), progress.get("total")
    if not isinstance(done, int | float) or not isinstance(total, int | float) or total <= 0:
        return None
    return min(done, total), total


def lines(handle: "AnyRun", ends: float | None, file: TextIO, *, deep: bool = False) -> RunStatus:
    """A line for each change, in the order of the changes, with the time of each."""
    seen: dict[str, str] = {}
    end = handle.end()
    while True:
        began = time.monotonic()
        shown = stand(handle, deep=deep)
        spent = time.monotonic() - began
        for at, _, line in sorted(_changes(seen, shown), key=lambda change: change[:2]):
            print(f"{moment(at)}  {line}", file=file, flush=True)
        if _over(shown, ends):
            return shown.run.status
        _rest(end, max(handle.client.pause_s, spent))  # counting the children of a very wide loop takes its time


def _changes(seen: dict[str, str], shown: Stand, depth: int = 0) -> list[tuple[datetime, int, str]]:
    """What changed since it was `seen`: when, and as a line. Of the same moment, runs end after their steps, and called
    ones before those that called them."""
    run, indent = shown.run, "  " * depth
    below = [change for runs in shown.called.values() for one in runs for change in _changes(seen, one, depth + 1)]
    found = [
        (at, 0, indent + text(f"{step.key} {_state(step)}"))
        for step in shown.steps
        if (at := _change(seen, f"{run.id}/{step.key}", step.since, _state(step))) is not None
    ]
    why = f": {error_line(run.error)}" if run.error and run.is_over else ""
    since = _since(run, [at for at, *_ in found], first=str(run.id) not in seen)
    state = f"{run.status}{why}"
    ended = _change(seen, str(run.id), since, state)
    name = f"{short(run.id)} {run.flow}" if depth else "run"
    return [*below, *found, *([] if ended is None else [(ended, 99 - depth, indent + text(f"{name} {state}"))])]


def _since(run: "RunRow", changes: Sequence[datetime], *, first: bool) -> datetime | None:
    """When the run got its status. The ledger knows the start and the end; in between, its steps decide."""
    if run.ended_at is not None:
        return max([run.ended_at, *changes])
    if first and run.status is not RunStatus.WAITING:
        return run.started_at or run.created_at
    return max(changes, default=None)


def _state(step: "StepRow") -> str:
    attempt = f" (attempt {step.attempts})" if step.attempts > 1 else ""
    remark = runview.remark(step)
    return f"{step.status}{attempt}{': ' if remark else ''}{remark}"


def _change(seen: dict[str, str], key: str, since: datetime | None, state: str) -> datetime | None:
    """When it changed, if it did: a new status has its own time, progress that of now. That a step is blocked from the
    start is not worth a line."""
    known = seen.get(key)
    if known == state or (known is None and state == "blocked"):
        return None
    seen[key] = state
    same = known is not None and known.split(":")[0] == state.split(":")[0]
    return datetime.now(UTC) if same or since is None else since


def result(handle: "AnyRun", status: "RunStatus") -> object:
    """What a run returned that ended with this status, without its secrets.

    Raises: as `RunHandle.outcome`.
    """
    return handle.outcome(status) if status != "succeeded" else handle.shown_result()
