"""A standby from which lists are read, while it is near enough to its primary."""

import threading
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from orchestrator.core.durations import format_duration
from orchestrator.errors import OrchestratorError
from orchestrator.ledger.rows import run
from orchestrator.ledger.tx import Ledger

_FRESH_S: Final = 1.0
"""How far behind it is, is asked once in that time."""
_REST_S: Final = 5.0
"""Nobody waits more often than that for one that is away."""


class Replica:
    """Says whether it may be read. `told` hears, once for each change, why it may not (None: it may again)."""

    def __init__(self, ledger: Ledger, max_lag: timedelta, told: Callable[[str | None], None]) -> None:
        self.ledger = ledger
        self._max_lag = max_lag
        self._told = told
        self._lock = threading.Lock()
        self._until = 0.0
        self._why: str | None = None

    def after_fork(self) -> None:
        """See `forks.Forked`; the ledger looks after itself."""
        self._lock = threading.Lock()

    def may_be_read(self) -> bool:
        """Whether it is there, and not too far behind. Asks it at most once a second."""
        with self._lock:
            if monotonic() >= self._until:
                self._look()
            return self._why is None

    def lose(self, exc: Exception) -> None:
        """It failed somebody: leave it alone for a while."""
        with self._lock:
            self._judge(_reason(exc), _REST_S)

    def close(self) -> None:
        """Close its connections."""
        self.ledger.close()

    def _look(self) -> None:
        try:
            with self.ledger.auto() as tx:
                lag_s: float = run(tx, "replica_lag").scalar_one()
        except (SQLAlchemyError, OrchestratorError) as exc:
            self._judge(_reason(exc), _REST_S)
            return
        finally:
            self.ledger.release_thread()
        behind = lag_s > self._max_lag.total_seconds()
        self._judge(f"it is {_lag(lag_s)} behind its primary" if behind else None, _FRESH_S)

    def _judge(self, why: str | None, for_s: float) -> None:
        changed = (why is None) != (self._why is None)
        self._why, self._until = why, monotonic() + for_s
        if changed:
            self._told(why)


def _lag(lag_s: float) -> str:
    """As the database says it; one that never replayed a commit is infinitely far behind."""
    return "it is not known how far" if lag_s == float("inf") else format_duration(timedelta(seconds=round(lag_s, 1)))


def _reason(exc: Exception) -> str:
    return str(getattr(exc, "orig", None) or exc).strip().split("\n")[0]
