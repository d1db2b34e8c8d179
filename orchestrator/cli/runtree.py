"""A run and the runs below it, as text."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from orchestrator.cli.render import short

if TYPE_CHECKING:
    from orchestrator.client import Client, RunHandle

_MOST: Final = 50
"""Runs of one run that are shown."""


def read(client: "Client", handle: "RunHandle[Any]") -> dict[str, Any]:
    """The run, with those that it called as `children`; `more`: there are others."""
    row = handle.row()
    return {"id": row.id, "flow": row.flow, "status": row.status, **_below(client, handle)}


def _below(client: "Client", handle: "RunHandle[Any]") -> dict[str, Any]:
    rows = handle.children(limit=_MOST + 1)
    children = [{**asdict(row), **_below(client, client.run(row.id))} for row in rows[:_MOST]]
    return {"children": children, "more": len(rows) > _MOST}


def show(run: dict[str, Any]) -> None:
    """Each run on a line, below the one that called it."""
    print(f"{short(run['id'])}  {run['flow']}  {run['status']}")
    _lines(run, "")


def _lines(run: dict[str, Any], indent: str) -> None:
    last = len(run["children"]) - 1
    for place, child in enumerate(run["children"]):
        ends = place == last and not run["more"]
        branch = "└─" if ends else "├─"
        print(f"{indent}{branch} {child['step']}: {short(child['id'])}  {child['flow']}  {child['status']}")
        _lines(child, indent + ("   " if ends else "│  "))
    if run["more"]:
        print(f"{indent}└─ … more; `orchestrator run tree` of one of them shows it")
