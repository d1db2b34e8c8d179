"""`orchestrator run export`: runs with all that belongs to them, as JSON lines."""

import json
from typing import Annotated

import typer

from orchestrator.cli.options import connected, verb
from orchestrator.cli.render import note
from orchestrator.core.wording import counted


def add_to(app: typer.Typer) -> None:
    """The command of this module belongs to `orchestrator run`."""
    verb(app, "export")(export)


def export(
    query: Annotated[
        list[str] | None, typer.Argument(metavar="QUERY", help="Which runs, as `run ls` takes it; without, all.")
    ] = None,
    where: Annotated[
        str | None, typer.Option("--where", metavar="QUERY", help="A query, also one that begins with a minus.")
    ] = None,
) -> None:
    """Print runs with their steps, attempts, outputs and events, without secrets: a JSON object per line, with its
    kind as `record`, and its `run`."""
    runs = 0
    with connected() as client:
        for record in client.all_records(q=" ".join([*(query or ()), where or ""])):
            runs += record["record"] == "run"
            print(json.dumps(record, ensure_ascii=False))
    note(f"{counted(runs, 'run')} exported.")
