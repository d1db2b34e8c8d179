"""The attempts that the changes tell of. A live claim is the running attempt, and its row is written at its end."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.proof.history import Change

Attempt = tuple[str, str, int]
"""Run id, step key, number."""


def lives(changes: Sequence["Change"]) -> Mapping[Attempt, list["Change"]]:
    """Of every attempt: `running` is inserted with its claim, its row is an update of that, and a claim that ended
    without a row takes the attempt back: a delete. Releases before wrote the row at the claim, too."""
    found: dict[Attempt, list[Change]] = defaultdict(list)
    recorded = {
        (*_attempt(change), change.xid)
        for change in changes
        if change.table == "flow_step_attempts" and change.row["status"] != "running"
    }
    for change in changes:
        if change.table == "flow_step_claims" and gives(change):
            found[_attempt(change)].append(_running(change))
        elif change.table == "flow_step_claims" and ends(change):
            attempt = (*change.place, change.old["attempt"])
            if (*attempt, change.xid) not in recorded and found[attempt]:
                found[attempt].append(replace(change, op="delete", old=found[attempt][-1].row, new={}))
        elif change.table == "flow_step_attempts":
            found[_attempt(change)] += _row(change, found[_attempt(change)])
    return found


def gives(change: "Change") -> bool:
    """A claim begins."""
    return change.op == "insert" or (change.op == "update" and change.new["version"] > change.old["version"])


def ends(change: "Change") -> bool:
    """A claim is over, without another one."""
    return change.op == "update" and "expires_at" in change.old and "expires_at" not in change.new


def _running(claim: "Change") -> "Change":
    facts = {name: claim.new[name] for name in ("attempt", "version", "owner")}
    return replace(claim, op="insert", old={}, new={**facts, "status": "running"})


def _row(change: "Change", before: Sequence["Change"]) -> Iterator["Change"]:
    """What a change of the row adds: nothing, where it only says what the claim says, or forgets what is over."""
    if change.op == "delete" and change.old["status"] != "running":
        return
    twice = bool(before) and before[-1].op == "insert"
    if change.op != "insert" or not twice:
        yield change
    elif change.new["status"] != "running":
        yield replace(change, op="update", old=before[-1].new)


def _attempt(change: "Change") -> Attempt:
    return (*change.place, change.row["attempt"])
