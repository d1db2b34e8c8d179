"""The keeper's part in schedules: it asks the ledger what is due, when a beat says so, and also when none does."""

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from threading import Event
from time import monotonic
from typing import Final

from orchestrator.core.facts import Swept
from orchestrator.engine.schedules import tick
from orchestrator.engine.schedules.fired import Fired
from orchestrator.ledger.passing import passing
from orchestrator.ledger.schedules import ScheduleId
from orchestrator.observe.logs import log
from orchestrator.schedules.message import Inbox
from orchestrator.servers.diagnosis import one_line
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState

_WAIT_S: Final = 1.0
_BACKLOG: Final = 10_000
_EARLY_S: Final = 0.5
_EARLY_TRIES: Final = 5
_NEWER_S: Final = 5.0
_NEWER_FOUND_S: Final = (1.0, 60.0)
"""What only a newer release can read is looked for so often. Where there is such, another worker is asked to lead,
which may be of an older release too; the longer none comes that can read it, the more seldom."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """The time that a beat announced, if it still matters, and how often the hint came a little too early."""

    planned: datetime | None
    tries: int = 0


class Ticks:
    """Three duties, of a thread each: ticks that a beat announces, those that nobody announced, queued ones."""

    def __init__(self, state: WorkerState, ended: Event) -> None:
        self._state = state
        self._ended = ended
        self._inbox = Inbox(state.app)
        self._hints: dict[ScheduleId, _Asked] = {}
        self._early: deque[tuple[float, ScheduleId, _Asked]] = deque(maxlen=_BACKLOG)
        """With the moment to ask again."""
        self._newer_at = 0.0
        self._found_s = _NEWER_FOUND_S[0]
        self._late = 0
        self._count = 0

    def announced(self) -> Duty:
        """Each worker takes some of what beats announce."""
        return Duty("ticks", Scope.WORKER, 0.0, self.take, close=self.close)

    def watchdog(self) -> Duty:
        """What no beat announced."""
        every_s = self._state.settings.watchdog_interval.total_seconds()
        return Duty("watchdog", Scope.CLUSTER, every_s, self.watch)

    def queued(self) -> Duty:
        """Ticks that wait for a run to end: asked for less often while there are none."""
        return Duty("queued", Scope.CLUSTER, self._state.settings.sweep_interval.total_seconds(), self.start_queued)

    def take(self) -> Swept:
        """Fire what beats announce. What cannot be fired now stays here; the watchdog would fire it too."""
        if self._state.stopping:
            self._inbox.close()
            self._ended.wait(_WAIT_S)
            return Swept()
        self._fire_all()
        soonest = min((at for at, _, _ in self._early), default=monotonic() + _WAIT_S)
        for hint in self._inbox.take(max(0.001, soonest - monotonic())):
            # One question per schedule is enough: all that is due is decided.
            self._hints[hint.flow, hint.key] = _Asked(hint.planned)
        self._fire_all()
        return Swept()

    def watch(self) -> Swept:
        """Fire what nobody announced: no beat runs, Redis is away, a message was lost."""
        newer = monotonic() >= self._newer_at
        ledger, late = self._state.runtime().ledger, self._state.settings.tick_grace
        fired = tick.fire(ledger, by="watchdog", late=late, newer=newer)
        self._count += fired.decided
        if not fired.more:
            self._say()
        if newer:
            self._newer_at = monotonic() + (self._found_s if fired.unreadable else _NEWER_S)
            self._found_s = min(2 * self._found_s, _NEWER_FOUND_S[1]) if fired.unreadable else _NEWER_FOUND_S[0]
        return Swept(fired.decided, fired.dispatches, more=fired.more, unreadable=fired.unreadable)

    def _say(self) -> None:
        if self._count and not self._late:
            log.warning(
                "tick.late",
                extra={"count": self._count, "fix": "ask `orchestrator doctor` whether a beat runs, and reaches Redis"},
            )
        self._late, self._count = self._count, 0

    def start_queued(self) -> Swept:
        """Start what waited for its turn: queued ticks, and those of backfills."""
        ledger = self._state.runtime().ledger
        if not tick.any_waits(ledger):
            return Swept()
        fired = tick.waiting(ledger)
        return Swept(fired.decided, fired.dispatches, more=fired.more, next_s=_WAIT_S)

    def close(self) -> None:
        self._inbox.close()

    # ----

    def _fire_all(self) -> None:
        """A hint is dropped once something came of it. An error keeps all that are left."""
        self._take_early()
        size = tick.BATCH
        while self._hints and not self._ended.is_set():
            asked = dict(islice(self._hints.items(), size))
            try:
                self._fire(asked)
            except Exception as exc:
                if passing(exc):
                    raise
                if len(asked) > 1:
                    size = len(asked) // 2
                    continue
                # One bad schedule must not hold up the others; the watchdog gets to it as well.
                ((flow, key),) = asked
                reason = one_line(f"{type(exc).__name__}: {exc}")
                log.error("tick.failed", extra={"flow": flow, "key": key, "error": reason[:300]})
                del self._hints[flow, key]
            size = min(2 * size, tick.BATCH)

    def _take_early(self) -> None:
        """Hints whose time has come by now; one of a schedule that was announced again waits for its turn."""
        for _ in range(len(self._early)):
            early = self._early.popleft()
            at, name, asked = early
            if at <= monotonic() and name not in self._hints:
                self._hints[name] = asked
            else:
                self._early.append(early)

    def _fire(self, asked: dict[ScheduleId, _Asked]) -> None:
        """Ask for these in one go, and publish what they start."""
        ledger = self._state.runtime().ledger
        told = tick.decide_announced(ledger, {name: one.planned for name, one in asked.items()}, by="beat")
        for name in asked.keys() - set(told.left):
            del self._hints[name]
        for name in told.fired.unfinished:
            self._hints[name] = _Asked(None)  # behind the others
        for name, early_s in told.early_s.items():
            tries = asked[name].tries
            if early_s < _EARLY_S and tries < _EARLY_TRIES:
                # The beat's idea of the ledger's time is milliseconds ahead.
                again = _Asked(asked[name].planned, tries + 1)
                self._early.append((monotonic() + max(0.0, early_s), name, again))
        self._publish(told.fired)

    def _publish(self, fired: Fired) -> None:
        self._state.runtime().publisher.publish(fired.dispatches)
