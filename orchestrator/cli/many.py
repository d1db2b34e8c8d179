"""Commands that take several runs: ids as words, or from stdin."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Final

import typer

from orchestrator.cli.render import Format, note, print_json
from orchestrator.errors import OrchestratorError, Unavailable, UsageError

RunIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID...", help="Runs; `-` reads them from stdin: a word a line, or `run ls -o jsonl`."),
]
_STEPS: Final = typer.Argument(metavar="ID[/STEP]...", help="Runs, or steps of them; `-` reads them from stdin.")
StepIds = Annotated[list[str] | None, _STEPS]
SomeIds = Annotated[list[str], _STEPS]
"""At least one."""
_RUN: Final = re.compile(r"[0-9a-fA-F-]{4,36}")


def named(words: Sequence[str]) -> list[str]:
    """The runs that a command was given. Nothing is done before all of them look like one.

    Raises:
        UsageError: a word is not an id.
    """
    found = [name for word in words for name in (_read() if word == "-" else [word])]
    if len(found) > 1:
        for name in found:
            if not _RUN.fullmatch(name.partition("/")[0]):
                raise UsageError(
                    f"{name!r} is not a run id; nothing was done. Fix: name a step with its run: {found[0]}/{name}."
                )
    return found


def _read() -> Iterator[str]:
    for number, line in enumerate(sys.stdin, 1):
        word = line.strip()
        if word.startswith("{"):
            try:
                yield str(json.loads(word)["id"])
            except (ValueError, KeyError) as exc:
                raise UsageError(
                    f"Line {number} of stdin is not a JSON object with an `id`. "
                    "Fix: `orchestrator run ls -o jsonl` writes such lines."
                ) from exc
        elif word:
            yield word.split()[0]


def operate(words: Sequence[str], output: Format | None, done: str, act: Callable[[str], Mapping[str, object]]) -> None:
    """Do `act` for each run and print what it gives. With one run its error ends the command; with many, each refusal
    is one line, the others go on, and the first refusal gives the exit code."""
    names = named(words)
    if len(names) == 1:
        _print([act(names[0])], output, alone=True)
        return
    rows, code = [], 0
    for name in names:
        try:
            row = act(name)
        except Unavailable:
            raise
        except OrchestratorError as exc:
            note(f"{name}: {exc}")
            code = code or exc.exit_code
            continue
        rows.append(row)
        if output is not Format.JSON:
            _print([row], output, alone=True)
    if output is Format.JSON:
        _print(rows, output, alone=False)
    note(f"{len(rows)} of {len(names)} {done}.")
    if code:
        raise typer.Exit(code)


def _print(rows: Sequence[Mapping[str, object]], output: Format | None, *, alone: bool) -> None:
    if output in (Format.JSON, Format.JSONL):
        print_json(rows[0] if alone else rows, lines=output is Format.JSONL)
    else:
        for row in rows:
            print(f"{row['id']}  {row['status']}")
