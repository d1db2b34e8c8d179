"""The reconciler: what changed in the ledger goes to Redis, and what Redis lost comes back."""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from time import monotonic
from typing import Final

from orchestrator.ledger import reads
from orchestrator.ledger import schedules as stored
from orchestrator.ledger.schedules import MirrorRow
from orchestrator.ledger.tx import Ledger
from orchestrator.schedules import mirror
from orchestrator.schedules.clock import LedgerClock
from orchestrator.schedules.mirror import Changes
from orchestrator.schedules.store import LockLost, Store

log = logging.getLogger("orchestrator.beat")
_LOOK_S: Final = 2.0


class Reconciler:
    """`work` is called again and again, on a thread of its own; only the beat with the lock writes."""

    def __init__(self, ledger: Ledger, store: Store, clock: LedgerClock, interval: timedelta) -> None:
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._interval_s = interval.total_seconds()
        self._look_s = min(_LOOK_S, self._interval_s)
        self._leading = threading.Event()
        self._since = 0
        self._count = 0
        self._full_at = 0.0
        self.nudge: Callable[[], None] = lambda: None
        """Ends the pause after `work`; set by whoever calls it."""

    def lead(self) -> None:
        """This beat has the lock now: everything is compared at once."""
        self._full_at = 0.0
        self._leading.set()
        self.nudge()

    def follow(self) -> None:
        """Another beat has it."""
        self._leading.clear()

    def distrust(self) -> None:
        """Redis lost something: compare everything next time."""
        self._full_at = 0.0
        self.nudge()

    def work(self) -> float:
        """One look at both sides. Returns the seconds until the next."""
        self._ask_the_time()
        if not self._leading.is_set():
            return self._look_s
        try:
            if monotonic() >= self._full_at or self._store.count() != self._count:
                self._compare()
            else:
                self._follow_changes()
        except LockLost:  # the beat's own loop says so
            self.follow()
        return self._look_s

    def close(self) -> None:
        self._ledger.close()

    def _ask_the_time(self) -> None:
        before = monotonic()
        now = reads.clock.now(self._ledger)
        self._clock.tell(now, (before + monotonic()) / 2)

    def _compare(self) -> None:
        began = monotonic()
        version, rows = self._changed_since(0)
        changes = mirror.compare(rows, self._store.found(), self._clock.now())
        self._store.apply(changes)
        self._since = version
        self._count = self._store.count()
        self._full_at = began + self._interval_s
        self._say("beat.reconciled", changes, monotonic() - began)

    def _follow_changes(self) -> None:
        began = monotonic()
        version, rows = self._changed_since(self._since)
        if not rows:
            return
        found = self._store.found([row.name for row in rows])
        changes = mirror.compare(rows, found, self._clock.now())
        self._store.apply(changes)
        self._since = version
        self._count += sum(put.row.name not in found for put in changes.puts) - len(changes.deletes)
        self._say("beat.mirrored", changes, monotonic() - began)

    def _changed_since(self, since: int) -> tuple[int, Sequence[MirrorRow]]:
        """What changed, and from where to ask next time: behind a change that was seen, for what lies beyond may not be
        on the disk, and its number is given again after a crash."""
        with self._ledger.tx() as tx:
            ended, rows = stored.mirror_version(tx), stored.mirror(tx, since)
        return min(ended, max((row.version for row in rows), default=0) + 1), rows

    def _say(self, event: str, changes: Changes, took_s: float) -> None:
        if changes.count:
            facts = {"entries": self._count, "written": len(changes.puts), "removed": len(changes.deletes)}
            log.info(event, extra={**facts, "took_ms": round(1000 * took_s)})
