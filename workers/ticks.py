"""The keeper's part in schedules: it asks the ledger what is due, when a beat says so, and also when none does."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from orchestrator.engine import tick
from orchestrator.engine.tick import Fired
from orchestrator.ledger.tx import Ledger
from orchestrator.reach import one_line
from schedules.message import Hint, Inbox
from workers.logs import log
from workers.patience import passing
from workers.site import Site

_WAIT_S: Final = 1.0
_BACKLOG: Final = 10_000
_EARLY_S: Final = 0.5
_EARLY_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class _Early:
    """A hint that came a little too early, and when to ask again."""

    hint: Hint
    at: float
    tries: int


class Ticks:
    """The loops `ticks`, `watchdog` and `queued`. Each is called by a thread of its own."""

    def __init__(self, site: Site, ended: Callable[[], bool]) -> None:
        self._site = site
        self._ended = ended
        self._inbox = Inbox(site.app)
        self._hints: dict[tuple[str, str], Hint] = {}
        self._early: deque[_Early] = deque(maxlen=_BACKLOG)
        self._late = 0

    def take(self) -> float:
        """Fire what beats announce. What cannot be fired now stays here; the watchdog would fire it too."""
        if self._site.stopping:
            self._inbox.close()
            return 60.0
        self._fire_all()
        soonest = min((early.at for early in self._early), default=monotonic() + _WAIT_S)
        for hint in self._inbox.take(max(0.001, soonest - monotonic())):
            self._hints[hint.flow, hint.key] = hint  # one question per schedule is enough: all that is due is decided
        self._fire_all()
        return 0.0

    def watch(self) -> float:
        """Fire what nobody announced: no beat runs, Redis is away, a message was lost."""
        settings = self._site.settings
        late = self._all(lambda ledger: tick.fire(ledger, by="watchdog", late=settings.tick_grace))
        if late and not self._late:
            log.warning(
                "tick.late",
                extra={"count": late, "fix": "ask `orchestrator doctor` whether a beat runs, and reaches Redis"},
            )
        self._late = late
        return settings.watchdog_interval.total_seconds()

    def start_queued(self) -> float:
        """Start what waited for its turn: queued ticks, and those of backfills."""
        self._all(tick.waiting)
        return min(1.0, self._site.settings.sweep_interval.total_seconds())

    def close(self) -> None:
        self._inbox.close()

    # ----

    def _fire_all(self) -> None:
        for _ in range(len(self._early)):
            early = self._early.popleft()
            if early.at <= monotonic():
                self._fire(early.hint, early.tries)
            else:
                self._early.append(early)
        while self._hints and not self._ended():
            name, hint = next(iter(self._hints.items()))
            try:
                self._fire(hint, 0)
            except Exception as exc:
                if passing(exc):
                    raise
                # Nothing that is wrong with one schedule may hold up the others; the watchdog comes to it as well.
                reason = one_line(f"{type(exc).__name__}: {exc}")
                log.error("tick.failed", extra={"flow": hint.flow, "key": hint.key, "error": reason[:300]})
            del self._hints[name]

    def _fire(self, hint: Hint, tries: int) -> None:
        ledger = self._site.runtime().ledger
        fired = tick.fire(ledger, by="beat", flow=hint.flow, key=hint.key, hint=hint.planned)
        self._publish(fired)
        if fired.more:
            self._all(lambda ledger: tick.fire(ledger, by="beat", flow=hint.flow, key=hint.key))
        elif fired.early_s is not None and fired.early_s < _EARLY_S and tries < _EARLY_TRIES:
            # The beat's idea of the ledger's time is milliseconds ahead.
            self._early.append(_Early(hint, monotonic() + max(0.0, fired.early_s), tries + 1))

    def _all(self, work: Callable[[Ledger], Fired]) -> int:
        total = 0
        while not self._ended():
            fired = work(self._site.runtime().ledger)
            self._publish(fired)
            total += fired.decided
            if not fired.more:
                break
        return total

    def _publish(self, fired: Fired) -> None:
        self._site.runtime().publisher.publish(fired.dispatches)
