"""A run and the runs below it, as text."""

from typing import TYPE_CHECKING

from orchestrator.cli.render import note, short

if TYPE_CHECKING:
    from orchestrator.client.runtree import Branch, RunTree


def show(run: "RunTree") -> None:
    """Each run on a line, below the one that called it."""
    print(f"{short(run.id)}  {run.flow}  {run.status}")
    _lines(run, "")
    if run.cut:
        note("Only the nearest runs are shown: there may be others below them.")


def _lines(run: "RunTree | Branch", indent: str) -> None:
    last = len(run.children) - 1
    for place, child in enumerate(run.children):
        ends = place == last and not run.more
        branch = "└─" if ends else "├─"
        print(f"{indent}{branch} {child.step}: {short(child.id)}  {child.flow}  {child.status}")
        _lines(child, indent + ("   " if ends else "│  "))
    if run.more:
        print(f"{indent}└─ … more; `orchestrator run tree` of one of them shows it")
