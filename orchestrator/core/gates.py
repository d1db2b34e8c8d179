"""Joins: what becomes of a step once some or all of its predecessors have ended. Pure; written here once."""

from dataclasses import dataclass
from enum import Enum, StrEnum


class Join(StrEnum):
    """How many edges of a step have to be met for it to go. An edge is met when its predecessor ended in a status that
    it accepts."""

    ALL = "all"  # every edge is met
    ANY = "any"  # the first edge is met; the step goes at once
    SOME = "some"  # all ended, at least one edge is met
    NONE_FAILED = "none_failed"  # all ended, each edge is met or its step was skipped, at least one is met
    ALL_DONE = "all_done"  # all ended


class Decision(Enum):
    """What becomes of the step."""

    WAIT = "wait"
    GO = "go"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Edges:
    """How the edges of one step stand. `skipped` are those of `unmet` whose step was skipped."""

    open: int = 0
    met: int = 0
    unmet: int = 0
    skipped: int = 0


def decide(join: Join, edges: Edges) -> Decision:
    """What becomes of a step that joins its predecessors like this."""
    if join is Join.ANY and edges.met:
        return Decision.GO
    if edges.open:
        return Decision.WAIT
    return Decision.GO if _is_good(join, edges) else Decision.SKIP


def _is_good(join: Join, edges: Edges) -> bool:
    match join:
        case Join.ALL:
            return edges.unmet == 0
        case Join.ALL_DONE:
            return True
        case Join.NONE_FAILED:
            return edges.met > 0 and edges.unmet == edges.skipped
        case Join.ANY | Join.SOME:
            return edges.met > 0
