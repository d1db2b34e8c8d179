"""`orchestrator scaling`: how many workers a group needs."""

from typing import Annotated

import typer

from orchestrator.cli.options import Output, connected
from orchestrator.cli.render import Format, facts, print_json


def scaling(
    group: Annotated[
        str, typer.Option(metavar="NAME", help="One of those that ORCHESTRATOR_SCALING_GROUPS names.")
    ] = "default",
    output: Output = None,
) -> None:
    """Say how many workers a group needs now, and why: what an autoscaler is told."""
    with connected() as client:
        found = client.workers.scaling(group)
    if output in (Format.JSON, Format.JSONL):
        print_json(found, lines=output is Format.JSONL)
        return
    facts({"group": found.group, "workers": found.replicas, "why": found.reason})
