"""How many items of a loop are under way at once: a part of I6."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from tests.proof.history import Change, History, Place
from tests.proof.interpreter import runs_a_graph
from tests.proof.verdict import Violation

_CHILD: Final = frozenset({"ready", "running", "waiting"})
_ITEM: Final = frozenset({"running"})


def i6_windows_hold(history: History) -> Iterator[Violation]:
    """As many as the loop says, at most; those that wait count, too. An operator who retries one lets it in."""
    for place, changes in _by_loop(history).items():
        step = history.step_of(history.manifest_of(place[0])["steps"], place[1]) or {}
        if "concurrency" in step and history.runs[place[0]]["epoch"] == 1:
            open_ = _ITEM if runs_a_graph(step) else _CHILD
            yield from _wider(place, changes, open_, step["concurrency"])


def _by_loop(history: History) -> dict[Place, list[Change]]:
    found: dict[Place, list[Change]] = defaultdict(list)
    for change in history.of("flow_steps"):
        loop = change.row.get("loop_key")
        if loop is not None and loop.count(".") % 2 == 0 and change.run_id in history.runs:
            found[change.run_id, loop].append(change)
    return found


def _wider(place: Place, changes: list[Change], open_: frozenset[str], window: int) -> Iterator[Violation]:
    under_way: set[str] = set()
    for n, change in enumerate(changes):
        if change.op != "delete" and change.new["status"] in open_:
            under_way.add(change.step_key)
        else:
            under_way.discard(change.step_key)
        over = n + 1 == len(changes) or changes[n + 1].xid != change.xid
        if over and len(under_way) > window:
            sentence = f"{len(under_way)} of its items are under way, and its window has {window}"
            yield Violation("I6", sentence, *place, (f"seq {change.seq} {sorted(under_way)}",))
            return
