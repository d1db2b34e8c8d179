"""What became of a signal or an answer, on the command line."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.render import Format, print_json

if TYPE_CHECKING:
    from orchestrator.core.signals import Delivery

SentBy = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Who sends it; else your login name.")]


def told(delivery: "Delivery", output: Format | None) -> None:
    """Print it."""
    if output in (Format.JSON, Format.JSONL):
        print_json(asdict(delivery), lines=output is Format.JSONL)
        return
    again = " That was so before: the id is known." if delivery.duplicate else ""
    if delivery.delivered:
        print(f"Delivered: step {delivery.step} took it at {delivery.at:%Y-%m-%d %H:%M:%S} UTC.{again}")
    elif delivery.step is not None:
        print(f"Kept, and taken by step {delivery.step} since.{again}")
    else:
        until = "the run ends" if delivery.expires_at is None else f"{delivery.expires_at:%Y-%m-%d %H:%M:%S} UTC"
        print(f"Kept until {until}: no step waits for it now, and one may.{again}")
