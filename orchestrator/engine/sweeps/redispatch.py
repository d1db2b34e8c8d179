"""Messages that were lost are sent again; a deep backlog does not multiply them.

Redis lists are first in, first out. When a list is shorter than the number of steps that wait for it, messages are
missing, and the missing ones are the oldest.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from orchestrator.core.facts import Dispatch, Swept
from orchestrator.ledger import dispatches
from orchestrator.ledger.dispatches import Lost, Patience, Search
from orchestrator.ledger.tx import Ledger

PAGE = 1000
WINDOW = dispatches.WINDOW


def outstanding(ledger: Ledger) -> dict[tuple[str, int], int]:
    """How many messages should be in the broker, by (queue, priority): up to `WINDOW` of each. Read the lists' lengths
    before, not after, asking: what is consumed in between then makes fewer messages look missing, not more."""
    with ledger.auto() as tx:
        return dispatches.outstanding(tx, WINDOW)


def outstanding_in_all(ledger: Ledger) -> dict[tuple[str, int], int]:
    """The same, to the last one: it reads the whole backlog, so ask seldom."""
    return ledger.retry(dispatches.outstanding_in_all)


def lost(ledger: Ledger, search: Search, patience: Patience, page: int = PAGE) -> Lost:
    """At most `missing` of the oldest dispatches of a list that were waited for with `patience`, for tasks that a live
    worker has. Publish them again. `WINDOW` steps are looked at, whoever can run them; ask again for those behind."""
    if search.missing <= 0:
        return Lost()
    asked = replace(search, missing=min(search.missing, page))
    return ledger.once(lambda tx: dispatches.lost(tx, asked, patience))


def wake(ledger: Ledger, worker_id: str, worker_ttl: timedelta, page: int = PAGE) -> Swept:
    """Steps that waited for the code that this worker brings: to be published at once, not when their patience ends.
    Ask again while there is `more`."""
    found = ledger.once(lambda tx: dispatches.wake(tx, worker_id, page, worker_ttl))
    return Swept(len(found), found, more=len(found) == page)


def confirm(ledger: Ledger, published: Sequence[Dispatch]) -> None:
    """Note that the broker took the messages. Lazy: nothing depends on it but how long we wait, and what people see."""
    if published:
        ledger.once(lambda tx: dispatches.confirm(tx, published))
