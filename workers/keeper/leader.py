"""One worker asks for all: who leads is decided by a lock in PostgreSQL.

The lock belongs to a transaction that does nothing else, and that PostgreSQL ends when it hears nothing of the leader:
a process that died, sleeps or is cut off leads no longer than `silent_s`. A transaction keeps its server connection
behind every kind of pooler, where a session's lock may stay behind on a connection that somebody else gets next.
Two leaders for a moment do no harm: every duty is safe beside itself.
"""

import random
from time import monotonic
from typing import Final

from sqlalchemy import Connection

from orchestrator.ledger import workers
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.logs import log
from orchestrator.workers.state import WorkerState

_TERM_S: Final = 60.0
"""Whoever watches the database takes a transaction older than this for a forgotten one."""

_TURNS: Final = 4
"""So often `ask_s` at most, on average, lies between two questions of one worker, however many there are."""

_SPREAD: Final = (0.5, 1.5)
"""Of a pause, so that workers do not ask at once."""


class Leader:
    """Whether this worker does the duties of the cluster. `turn` is called by one thread; `leads` is for all."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self.ask_s = min(2.5, max(0.1, state.settings.sweep_interval.total_seconds() / 2))
        self.silent_s = max(2.0, 5 * self.ask_s)
        self._held: Connection | None = None
        self._since = 0.0
        self._until = 0.0
        self._resigned = False
        self._others = 1
        self.answered = False
        """Whether the ledger's last answer said who leads: while it is away, nobody knows."""

    @property
    def leads(self) -> bool:
        """By this process's own clock: a process that slept does not lead."""
        return monotonic() < self._until

    def pause_s(self, every_s: float) -> float:
        """For what the workers that do not lead do in turns: one of them every `every_s`, however many there are."""
        return every_s * max(1, self._others) * random.uniform(*_SPREAD)

    def resign(self) -> None:
        """Let another worker lead. This one goes on until one does."""
        self._resigned = True

    def turn(self) -> float:
        """Ask for the lock, or show that its holder lives. Returns the pause until the next call."""
        try:
            pause = self._turn(self._state.runtime().ledger)
        except BaseException:
            self.answered = False
            self.lose()
            raise
        self.answered = True
        return pause

    def close(self) -> None:
        """The worker ended: the next one may lead at once."""
        held, self._held, self._until = self._held, None, 0.0
        if held is not None:
            held.close()

    def lose(self) -> None:
        """The database went away, and the lock with it."""
        held, self._held, self._until = self._held, None, 0.0
        if held is not None:
            held.invalidate()
            held.close()

    # ----

    def _turn(self, ledger: Ledger) -> float:
        if self._held is None:
            with ledger.auto() as tx:  # a single statement, since most workers ask in vain
                free = self._asked(tx)
            return self._begin(ledger) if free else self._stand_by()
        if self._resigned:
            self._resigned = False
            self._let_go()
            others_asked_s = self.ask_s * (_TURNS * _SPREAD[1] + 1)  # each of them, for certain
            self._until = monotonic() + others_asked_s + self.ask_s
            return others_asked_s
        if monotonic() - self._since > _TERM_S:
            self._let_go()
            return self._begin(ledger)
        asked = monotonic()
        workers.still_leads(self._held)
        self._until = asked + self.silent_s
        return 2 * self.ask_s

    def _begin(self, ledger: Ledger) -> float:
        """A term."""
        asked = monotonic()
        if not self._take(ledger):
            return self._stand_by()
        self._since, self._until = asked, asked + self.silent_s
        return 2 * self.ask_s

    def _asked(self, tx: Connection) -> bool:
        found = workers.lead(tx, self.silent_s, self._state.settings.worker_ttl)
        self._others = found.workers - 1
        return found.taken

    def _stand_by(self) -> float:
        """One of the others asks every `ask_s`, more or less; each of them that often where they are few."""
        self._until = 0.0
        if self._others < 2:
            return self.ask_s
        return self.ask_s * min(self._others, _TURNS) * random.uniform(*_SPREAD)

    def _take(self, ledger: Ledger) -> bool:
        connection = ledger.opened()
        try:
            taken = self._asked(connection)
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        if not taken:
            connection.close()
            return False
        if not self.leads:
            log.info("keeper.leads", extra={"worker": self._state.worker_id})
        self._held = connection
        return True

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.close()
