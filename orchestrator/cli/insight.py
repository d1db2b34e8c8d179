"""`orchestrator run stats` and `errors`: many runs at once."""

from typing import Annotated

import typer

from orchestrator.cli import runview
from orchestrator.cli.options import Output, Query, Since, Until, Where, connected, query_of, verb, when
from orchestrator.cli.render import listing


def add_to(app: typer.Typer) -> None:
    """The commands of this module belong to `orchestrator run`."""
    verb(app, "stats")(stats)
    verb(app, "errors")(errors)


def stats(
    flow: Annotated[str | None, typer.Argument(metavar="FLOW", help="Only runs of this flow.")] = None,
    since: Since = None,
    until: Until = None,
    every: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="By parts of this length, such as 1h; else the whole span.")
    ] = None,
    output: Output = None,
) -> None:
    """Count the runs that ended, of the last day unless --since says otherwise, and say how long they took."""
    with connected() as client:
        rows = client.stats(flow, since=when(since), until=when(until), every=every)
    listing(rows, runview.STATS_COLUMNS, output, empty="No run ended in that time.")


def errors(
    query: Query = None,
    where: Where = None,
    since: Since = None,
    output: Output = None,
) -> None:
    """Say what went wrong in runs, the most frequent first: errors that are alike are one line, with an example."""
    with connected() as client:
        groups = client.errors(q=query_of(query, where), since=when(since))
    listing(groups, runview.ERROR_COLUMNS, output, empty="No run that matches has failed.")
