"""What the journals of clients say in figures."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from tests.edge.journal import Exchange
from tests.proof.figures import quantile
from tests.proof.history import SECOND


def figures(exchanges: Sequence[Exchange]) -> dict[str, float]:
    """By name, in the order of a report. Times are those of what was acknowledged, and waited for no end."""
    taken = [one for one in exchanges if one.taken]
    times = [(one.ended_ns - one.begun_ns) / 1e6 for one in taken if not one.facts.get("wait")]
    statuses = Counter(one.status for one in exchanges if one.fate == "answered")
    fates = Counter(one.fate for one in exchanges)
    return {
        "requests": len(exchanges),
        "requests/s": len(exchanges) / _length_s(exchanges) if exchanges else 0.0,
        "acknowledged": len(taken),
        "acknowledged starts": sum(one.kind != "deliver" for one in taken),
        "acknowledged deliveries": sum(one.kind == "deliver" for one in taken),
        "replayed": sum(map(_is_replay, taken)),
        "refused": sum(count for status, count in statuses.items() if 400 <= status < 500),
        "unavailable (503)": statuses[503],
        "cut": fates["cut"],
        "unreachable": fates["unreachable"],
        "duplicates sent": _duplicates(exchanges),
        "waited for the end": sum(bool(one.facts.get("wait")) for one in taken),
        "p50 ms": quantile(times, 0.5),
        "p95 ms": quantile(times, 0.95),
        "p99 ms": quantile(times, 0.99),
        "longest outage s": _outage_s(taken),
    }


def _length_s(exchanges: Sequence[Exchange]) -> float:
    return (max(one.ended_ns for one in exchanges) - min(one.begun_ns for one in exchanges)) / SECOND


def _is_replay(one: Exchange) -> bool:
    """Whether it was told of what was there before."""
    match one.kind:
        case "start":
            return one.status == 200
        case "batch":
            return one.status == 200 or not any(item["created"] for item in one.answer["items"])
        case "deliver":
            return one.answer["outcome"] == "seen"


def _duplicates(exchanges: Iterable[Exchange]) -> int:
    """Requests that were sent although the same had been sent before."""
    seen = Counter(_name(one.facts) for one in exchanges if one.fate != "unreachable")
    return sum(count - 1 for name, count in seen.items() if name is not None)


def _name(facts: Mapping[str, object]) -> str | None:
    """None: nothing tells whether two of them are the same."""
    if "event" in facts:
        return str(facts["event"])
    return str(facts["keys"] or facts["request"]) if facts["keys"] or facts["request"] else None


def _outage_s(taken: Iterable[Exchange]) -> float:
    """The longest time in which nobody was acknowledged anything."""
    ends = sorted(one.ended_ns for one in taken)
    return max(((later - earlier) / SECOND for earlier, later in pairwise(ends)), default=0.0)
