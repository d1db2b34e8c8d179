"""What `run cancel`, `run retry` and `run delete` do with `--where`: an operation on many runs, followed to its end."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from orchestrator.cli.render import Format, note, print_json, short
from orchestrator.core.operations import WHY_LEFT_OUT, Action, OperationState, Outcome
from orchestrator.core.wording import counted
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.cli.options import AnyClient, AnyOperation
    from orchestrator.core.operations import Foreseen
    from orchestrator.ledger.operations import OperationRow

Where = Annotated[
    str | None,
    typer.Option(
        "--where", metavar="QUERY", help="Instead of ids: all runs that match, such as 'flow:bill status:failed'."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="With --where: only say how many runs, and which are left out.")
]
Detach = Annotated[bool, typer.Option("--detach", help="With --where: print the operation's id, and do not wait.")]

_TOLD_S: Final = 5.0
"""Without a terminal, a line says how far it is every so often; and without any worker, that there is none."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """What was asked for with `--where`."""

    action: Action
    where: str
    reason: str | None
    dry_run: bool
    detach: bool
    by: str | None
    output: Format | None
    force: bool = False
    fresh: bool = False
    ask: bool = False
    """Whether a person has to say yes."""


def chosen(runs: list[str] | None, where: str | None, *, dry_run: bool, detach: bool) -> list[str]:
    """The runs that were named; none with `--where`.

    Raises:
        UsageError: both are given, or neither.
    """
    if (where is None) == (not runs):
        raise UsageError("Which runs? Fix: give ids, or --where with a query, such as --where 'status:failed'.")
    if where is None and (dry_run or detach):
        raise UsageError(f"{'--dry-run' if dry_run else '--detach'} goes with --where. Fix: leave it out.")
    return runs or []


def operate(client: "AnyClient", asked: Bulk) -> None:
    """Say what would be done, or do it and wait for the end."""
    plan = client.operate_plan(asked.action, q=asked.where)
    if asked.dry_run:
        _foresee(plan, asked.output)
        return
    if not (asked.reason or "").strip():
        raise UsageError("An operation on many runs has no reason. Fix: add --reason 'why', for the record.")
    if asked.ask and plan.affected:
        typer.confirm(f"{asked.action} {counted(plan.affected, 'run')} for good?", abort=True, err=True)
    handle = client.operate(
        asked.action,
        q=asked.where,
        reason=asked.reason or "",
        token=plan.token,
        force=asked.force,
        fresh=asked.fresh,
        by=asked.by,
    )
    if asked.detach:
        _print(handle.row(), asked.output)
        note(f"Follow it: orchestrator operation watch {short(handle.id)}")
        return
    end(follow(client, handle), asked.output)


def _foresee(plan: "Foreseen", output: Format | None) -> None:
    if output in (Format.JSON, Format.JSONL):
        print_json(asdict(plan), lines=output is Format.JSONL)
        return
    print(f"{plan.action} {counted(plan.affected, 'run')}")
    _say_left_out(plan.left_out)


def _say_left_out(left_out: Mapping[str, int]) -> None:
    for reason, count in left_out.items():
        number = "10,000 or more match" if count >= 10_000 else f"{count:,} match{'es' if count == 1 else ''}"
        note(f"{number}, and {'is' if count == 1 else 'are'} left out: {WHY_LEFT_OUT.get(reason, reason)}.")


def follow(client: "AnyClient", handle: "AnyOperation") -> "OperationRow":
    """Show how far it is until it is over. Whoever interrupts that ends the show, not the operation."""
    try:
        console = Console(stderr=True)
        return _bar(client, handle, console) if console.is_terminal else _lines(client, handle)
    except KeyboardInterrupt:
        note(f"It goes on without you. Stop it: orchestrator operation cancel {short(handle.id)}")
        raise


def _bar(client: "AnyClient", handle: "AnyOperation", console: Console) -> "OperationRow":
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    watched = _Watched(client, handle)
    with Progress(*columns, console=console) as progress:
        row = handle.row()
        task = progress.add_task(str(row.action), total=row.total)
        while True:
            progress.update(task, completed=row.total - row.pending, description=_doing(row))
            if row.is_over:
                return row
            time.sleep(client.pause_s)
            row = watched.look()


def _lines(client: "AnyClient", handle: "AnyOperation") -> "OperationRow":
    watched, row, told = _Watched(client, handle), handle.row(), time.monotonic()
    while not row.is_over:
        time.sleep(client.pause_s)
        row = watched.look()
        if time.monotonic() - told >= _TOLD_S:
            told = time.monotonic()
            note(f"{_doing(row)}: {row.total - row.pending:,} of {row.total:,}")
    return row


class _Watched:
    """Notices that nobody works the operation off."""

    def __init__(self, client: "AnyClient", handle: "AnyOperation") -> None:
        self._client = client
        self._handle = handle
        self._since = time.monotonic()
        self._pending = -1
        self._told = False

    def look(self) -> "OperationRow":
        row = self._handle.row()
        if row.pending != self._pending:
            self._pending, self._since = row.pending, time.monotonic()
        stuck = time.monotonic() - self._since > _TOLD_S and row.state is OperationState.RUNNING
        if stuck and not self._told and not self._any_worker():
            self._told = True
            note("No worker lives, and their keepers do this. It waits until one has started: orchestrator worker")
        return row

    def _any_worker(self) -> bool:
        return any(worker.live for worker in self._client.workers.listed())


def _doing(row: "OperationRow") -> str:
    return f"{row.action}, {row.state}" if row.state is not OperationState.RUNNING else str(row.action)


def end(row: "OperationRow", output: Format | None) -> None:
    """Print how it ended. The exit code says whether that is what was asked for."""
    _print(row, output)
    count = {outcome: row.counts.get(outcome, 0) for outcome in Outcome}
    note(f"{count[Outcome.DONE]:,} of {counted(row.total, 'run')}: {row.action} is done.")
    if row.moved:
        note(f"The dry run had said {row.foreseen:,}: some came or went in between.")
    _say_left_out(row.left_out)
    for outcome, what in ((Outcome.LEFT_OUT, "did not allow it any more"), (Outcome.FAILED, "failed each time")):
        if count[outcome]:
            see = f"orchestrator operation outcomes {short(row.id)} --outcome {outcome}"
            note(f"{count[outcome]:,} {what}. See: {see}")
    if row.state is OperationState.CANCELLED:
        note(f"{row.changed_by} cancelled it: {row.pending:,} runs were left as they are.")
        raise typer.Exit(5)
    if count[Outcome.FAILED]:
        raise typer.Exit(1)


def _print(row: "OperationRow", output: Format | None) -> None:
    if output in (Format.JSON, Format.JSONL):
        print_json(row, lines=output is Format.JSONL)
    else:
        print(f"{row.id}  {row.state}")
