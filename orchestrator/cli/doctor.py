"""`orchestrator doctor`: what is wrong with this installation, and the fix."""

import typer

from orchestrator.cli.options import Output, settings
from orchestrator.cli.render import Format, print_json, table


def doctor(output: Output = None) -> None:
    """Check the servers, the schema, the workers. Exit code 1: a check failed."""
    from orchestrator.doctor import examine

    findings = examine(settings())
    if output in (Format.JSON, Format.JSONL):
        print_json(findings, lines=output is Format.JSONL)
    else:
        table(
            ["status", "check", "finding", "fix"], [(one.status, one.check, one.finding, one.fix) for one in findings]
        )
    if any(one.status == "fail" for one in findings):
        raise typer.Exit(1)
