"""A run and the runs below it, as text."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from orchestrator.cli.render import note, short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from orchestrator.client import Client, RunHandle
    from orchestrator.ledger.reads.rows import ChildRow

_MOST: Final = 50
"""Runs of one run that are shown."""
_LIMIT: Final = 1000
"""Runs that are read."""


def read(client: "Client", handle: "RunHandle[Any]") -> dict[str, Any]:
    """The run, with those that it called as `children`; `more`: there are others. `cut`: only the nearest runs are
    there."""
    from orchestrator.ledger import reads

    row = handle.row()
    called = client.call(reads.children.tree, handle.id, _MOST + 1, _LIMIT)
    cut = sum(map(len, called.values())) == _LIMIT
    return {"id": row.id, "flow": row.flow, "status": row.status, **_below(called, row.id), "cut": cut}


def _below(called: "Mapping[UUID, Sequence[ChildRow]]", run_id: "UUID") -> dict[str, Any]:
    rows = called.get(run_id, ())
    children = [{**asdict(row), **_below(called, row.id)} for row in rows[:_MOST]]
    return {"children": children, "more": len(rows) > _MOST}


def show(run: dict[str, Any]) -> None:
    """Each run on a line, below the one that called it."""
    print(f"{short(run['id'])}  {run['flow']}  {run['status']}")
    _lines(run, "")
    if run["cut"]:
        note(f"These are the nearest {_LIMIT:,} runs: there may be others below them.")


def _lines(run: dict[str, Any], indent: str) -> None:
    last = len(run["children"]) - 1
    for place, child in enumerate(run["children"]):
        ends = place == last and not run["more"]
        branch = "└─" if ends else "├─"
        print(f"{indent}{branch} {child['step']}: {short(child['id'])}  {child['flow']}  {child['status']}")
        _lines(child, indent + ("   " if ends else "│  "))
    if run["more"]:
        print(f"{indent}└─ … more; `orchestrator run tree` of one of them shows it")
