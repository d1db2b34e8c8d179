"""The tables at the end: what was measured, ours divided by theirs, and how each peer was set up."""

from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.figures import Figure, ratio
from benchmarks.peers import measures, registry
from benchmarks.peers.measures import Sizes
from benchmarks.peers.registry import Peer
from benchmarks.report import Row, conditions

_NONE: Final = "–"
Found = Mapping[str, Mapping[str, Figure]]


def markdown(
    rows: Sequence[Row], names: Sequence[str], peers: Sequence[Peer], sizes: Sizes, notes: Sequence[str], took_s: float
) -> str:
    """One line per contender, ours first; `peers` are those among them that have a configuration to show."""
    found = {row.what: row.values for row in rows}
    ours, *others = names
    parts = ["# Benchmark beside peers", "", conditions(took_s), "", *_figures(found, names, sizes), ""]
    if others:
        parts += ["Ours divided by theirs, from the medians:", "", *_ratios(found, ours, others, sizes), ""]
    if sizes.rounds < 3:
        parts += [f"- Rounds: {sizes.rounds}. Too few to judge the spread by.", ""]
    parts += [f"- {note}" for note in notes]
    parts += [""] if notes else []
    return "\n".join([*parts, "Configurations:", "", *registry.table(peers), ""])


def _columns(sizes: Sizes) -> list[tuple[str, tuple[str, ...]]]:
    """Headings, and the measures in each."""
    fans = " / ".join(f"{size:,}" for size in sizes.fans)
    return [
        ("chain of 5: runs/s", (measures.RUNS,)),
        ("steps/s", (measures.STEPS,)),
        ("CPU ms per step", (measures.CPU,)),
        ("one by one, 64 open: runs/s", (measures.PLAIN,)),
        ("one at a time: p50 / p95, ms", (measures.P50, measures.P95)),
        (f"fan-out of {fans} and join: ms per step", tuple(measures.fan_name(size) for size in sizes.fans)),
        ("starts/s: one by one / at once", (measures.ONE_BY_ONE, measures.AT_ONCE)),
    ]


def _figures(found: Found, names: Sequence[str], sizes: Sizes) -> list[str]:
    def text(what: str, name: str) -> str:
        figure = found.get(what, {}).get(name)
        return figure.text() if figure else _NONE

    return _lines(sizes, {name: [[text(w, name) for w in whats] for _, whats in _columns(sizes)] for name in names})


def _ratios(found: Found, ours: str, others: Sequence[str], sizes: Sizes) -> list[str]:
    def text(what: str, name: str) -> str:
        mine, theirs = found.get(what, {}).get(ours), found.get(what, {}).get(name)
        return ratio(mine.middle, theirs.middle) if mine and theirs else _NONE

    return _lines(sizes, {name: [[text(w, name) for w in whats] for _, whats in _columns(sizes)] for name in others})


def _lines(sizes: Sizes, cells: Mapping[str, Sequence[Sequence[str]]]) -> list[str]:
    headings = [heading for heading, _ in _columns(sizes)]
    lines = [f"| | {' | '.join(headings)} |", "|---|" + "---:|" * len(headings)]
    for name, row in cells.items():
        lines.append(f"| {name} | {' | '.join(' / '.join(cell) for cell in row)} |")
    return lines
