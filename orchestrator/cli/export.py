"""`orchestrator run export`: runs with all that belongs to them, as JSON lines."""

import json

import typer

from orchestrator.cli.options import Query, Where, connected, query_of, verb
from orchestrator.cli.render import note
from orchestrator.core.wording import counted


def add_to(app: typer.Typer) -> None:
    """The command of this module belongs to `orchestrator run`."""
    verb(app, "export")(export)


def export(query: Query = None, where: Where = None) -> None:
    """Print runs with their steps, attempts, outputs and events, without secrets: a JSON object per line, with its
    kind as `record`, and its `run`."""
    runs = 0
    with connected() as client:
        for record in client.all_records(q=query_of(query, where)):
            runs += record["record"] == "run"
            print(json.dumps(record, ensure_ascii=False))
    note(f"{counted(runs, 'run')} exported.")
