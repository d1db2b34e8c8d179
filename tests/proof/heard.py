"""What somebody hears who listens to all events: I23."""

from collections.abc import Iterator

from tests.proof.history import History
from tests.proof.verdict import Violation


def i23_events_are_heard(history: History) -> Iterator[Violation]:
    """I23: whoever listens is told of every event that is in the ledger, perhaps more than once, and of nothing else;
    and is not told that something may be missing."""
    if not history.listening_ns:
        return
    told = {(one.run_id, one.id): one for one in history.heard}
    known = {(row["run_id"], row["id"]): row for row in history.final.get("flow_events", ())}
    for place, row in known.items():
        if row["at"] > history.listening_ns + history.limits.slack_ns and place not in told:
            yield Violation("I23", f"event {place[1]} ({row['type']}) was never told", place[0], evidence=(str(row),))
    for place, one in told.items():
        if place not in known:
            yield Violation("I23", f"event {one.id} ({one.type}) was told, and is not in the ledger", one.run_id)
    for one in history.heard:
        if (row := known.get((one.run_id, one.id))) is not None and row["type"] != one.type:
            yield Violation("I23", f"event {one.id} was told as {one.type}, and is {row['type']}", one.run_id)
    if history.lost_places:
        yield Violation("I23", f"the place was lost {history.lost_places} times")
