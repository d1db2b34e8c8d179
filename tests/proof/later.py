"""Runs that begin later than they were accepted: none begins before its time."""

from collections.abc import Iterator
from typing import Final

from tests.proof.history import Change, History
from tests.proof.verdict import Violation

_CLOSED: Final = frozenset({"blocked", "cancelled"})


def begin_in_time(history: History) -> Iterator[Violation]:
    """A part of I11: nothing of such a run opens before, unless an operator's retry opens it."""
    for change in history.of("flow_run_controls"):
        due = change.new.get("start_at") if change.op == "insert" else None
        opened = None if due is None else _opened(history, change)
        if due is not None and opened is not None and opened.at < due:
            sentence = f"its run begins {(due - opened.at) / 1e6:.0f} ms early"
            yield Violation("I11", sentence, *opened.place, (str(opened.new),))


def _opened(history: History, accepted: Change) -> Change | None:
    """The first step of a run that opens in its first epoch, after the run was accepted."""
    run_id = accepted.run_id
    later = [one.seq for one in history.at("flow_runs", (run_id, "")) if one.new.get("epoch", 1) > 1]
    found = [
        one
        for key in history.steps.get(run_id, {})
        for one in history.at("flow_steps", (run_id, key))
        if one.old.get("status") == "blocked" and one.new.get("status") not in _CLOSED
    ]
    after = [one for one in found if one.seq > accepted.seq and one.xid != accepted.xid]
    first = min(after, key=lambda one: one.seq, default=None)
    return None if first is None or (later and later[0] < first.seq) else first
