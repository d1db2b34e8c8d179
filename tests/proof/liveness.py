"""That things go on: I17, I20."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from tests.proof.history import FINAL_RUN, Change, History, Place
from tests.proof.verdict import Violation

_NEVER: Final = 2**62


def i17_the_outbox_empties(history: History) -> Iterator[Violation]:
    """I17: after the drain nothing is queued; in a quiet window nothing waits longer than the limit to be claimed, but
    for what is more urgent; no message comes before the row of its dispatch."""
    for run_id, steps in history.steps.items():
        for key, row in steps.items():
            if row["status"] == "ready":
                yield Violation("I17", "still queued after the drain", run_id, key, (str(row),))
    claimed = [
        (change.at, change.new.get("priority", 5))
        for change in history.of("flow_steps")
        if change.sets("status", "running") and change.old.get("status") == "ready"
    ]
    for place in history.places("flow_steps"):
        for from_ns, to_ns in waits(history, place):
            for begun, over in history.quiet:
                since, until = max(from_ns, begun), min(to_ns, over)
                waited_ns = _waited(history, since, until)
                if waited_ns > history.limits.liveness_ns and not _outranked(history, place, claimed, since, until):
                    yield Violation("I17", f"queued for {waited_ns / 1e9:.1f} s of a quiet window", *place)
    yield from _early(history)


def _outranked(
    history: History, place: Place, claimed: Sequence[tuple[int, int]], since_ns: int, until_ns: int
) -> bool:
    """Whether more urgent steps kept the workers busy, all the time: then the queue was in order."""
    own = history.at("flow_steps", place)[-1].row.get("priority", 5)
    urgent = [since_ns, *(at for at, priority in claimed if priority < own and since_ns < at < until_ns), until_ns]
    return max(after - before for before, after in pairwise(urgent)) < history.limits.liveness_ns / 2


def _waited(history: History, since_ns: int, until_ns: int) -> int:
    """How long; when that is too long, but for the time that the machine stood still."""
    waited_ns = until_ns - since_ns
    return waited_ns if waited_ns <= history.limits.liveness_ns else waited_ns - history.stalled_ns(since_ns, until_ns)


def waits(history: History, place: Place) -> Iterator[tuple[int, int]]:
    """The spans in which a step was ready to be claimed."""
    since: int | None = None
    for change in history.at("flow_steps", place):
        status = change.row.get("status")
        moved = change.op == "insert" or change.new.get("dispatch_no") != change.old.get("dispatch_no")
        if since is not None and (status != "ready" or moved):
            yield since, change.at
            since = None
        if status == "ready" and since is None and change.op != "delete":
            since = change.at
    if since is not None:
        yield since, _NEVER


def _early(history: History) -> Iterator[Violation]:
    written = {
        (change.run_id, change.step_key, change.new["dispatch_no"]): change.at
        for change in history.of("flow_step_dispatches")
        if change.op == "insert"
    }
    for message in history.messages:
        at = written.get((message.run_id, message.step_key, message.number))
        if at is None or at > message.at_ns + history.limits.slack_ns:
            why = "of a dispatch that was never committed" if at is None else "before the row of its dispatch"
            yield Violation("I17", f"a message {why}", message.run_id, message.step_key, (str(message),))


def i20_progress_after_healing(history: History) -> Iterator[Violation]:
    """I20: in a quiet window with open runs something moves within the limit, lost leases are put back and timers go
    off within it."""
    for begun, over in history.quiet:
        if over - begun <= history.limits.liveness_ns or not _open_at(history, begun):
            continue
        moves = [one.at for one in history.of("flow_steps") if begun < one.at <= begun + history.limits.liveness_ns]
        stalled = history.stalled_ns(begun, begun + history.limits.liveness_ns)
        if not moves and not stalled and _due_work(history, begun):
            yield Violation("I20", f"nothing moved for {history.limits.liveness_ns / 1e9:.0f} s of a quiet window")
    for place in history.places("flow_step_claims"):
        yield from _overdue(history, place, "flow_step_claims", "expires_at", "its lease is over")
    for place in history.places("flow_steps"):
        yield from _overdue(history, place, "flow_steps", "due_at", "its timer is due")
        yield from _overdue(history, place, "flow_steps", "wake_at", "its wait is over")
    for place in history.places("flow_run_controls"):
        yield from _overdue(history, place, "flow_run_controls", "start_at", "its run is to begin")


def _overdue(history: History, place: Place, table: str, column: str, what: str) -> Iterator[Violation]:
    changes = history.at(table, place)
    for one, after in zip(changes, [*changes[1:], None], strict=True):
        due = one.row.get(column)
        if due is None or one.op == "delete" or one.row.get("closed"):
            continue
        until = after.at if after is not None else _NEVER
        for begun, over in history.quiet:
            waited_ns = _waited(history, max(due, begun), min(until, over))
            if waited_ns > history.limits.liveness_ns:
                yield Violation("I20", f"{what} since {waited_ns / 1e9:.1f} s of a quiet window", *place)


def _open_at(history: History, at: int) -> bool:
    last: dict[str, Change] = {}
    for change in history.of("flow_runs"):
        if change.at > at:
            break
        last[change.run_id] = change
    return any(change.new.get("status") not in FINAL_RUN for change in last.values())


def _due_work(history: History, at: int) -> bool:
    """Whether a step was ready, or lost, at this moment."""
    return any(
        from_ns <= at < to_ns for place in history.places("flow_steps") for from_ns, to_ns in waits(history, place)
    )
