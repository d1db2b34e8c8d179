"""`orchestrator doctor`: what is wrong with this installation, and the fix."""

from typing import TYPE_CHECKING

import typer

from orchestrator.cli.options import Output, far, settings
from orchestrator.cli.render import Format, print_json, table

if TYPE_CHECKING:
    from orchestrator.doctor import Finding


def doctor(output: Output = None) -> None:
    """Check the servers, the schema, the workers; with ORCHESTRATOR_API_URL the API, and what that says of them. Exit
    code 1: a check failed."""
    found = findings()
    if output in (Format.JSON, Format.JSONL):
        print_json(found, lines=output is Format.JSONL)
    else:
        table(["status", "check", "finding", "fix"], [(one.status, one.check, one.finding, one.fix) for one in found])
    if any(one.status == "fail" for one in found):
        raise typer.Exit(1)


def findings() -> "list[Finding]":
    """Of the API and of the servers, as far as they are named."""
    from orchestrator.doctor import examine

    here, found = settings(), []
    if here.api_url is not None:
        with far() as client:
            from orchestrator.doctor.api import examine_api

            found += examine_api(client)
    if here.api_url is None or here.database_url is not None:
        found += examine(here)
    return found
