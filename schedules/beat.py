"""The scheduler of `celery beat`: RedBeat's entries and lock, ticks as messages, and nothing that cannot be repeated.

A tick is sent first and its entry moved on afterwards, so a crash in between sends it twice; the ledger decides it
once. What is never sent is found by the workers' watchdog. So this process may lose its lock, Redis or the ledger at
any moment: it goes on when it has them again.
"""

import logging
import os
import secrets
import socket
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import redis
from redbeat.schedulers import REDBEAT_REDIS_KEY, RedBeatScheduler

from orchestrator.core.secrets import names_with
from orchestrator.engine.faults import fp
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.pulse import Pulse
from orchestrator.schedules.clock import LedgerClock
from orchestrator.schedules.entry import Fire, LedgerEntry
from orchestrator.schedules.message import QUEUE, Hint, send
from orchestrator.schedules.reconcile import Reconciler
from orchestrator.schedules.store import Due, LockLost, Store
from orchestrator.servers import redbeat
from orchestrator.servers.diagnosis import one_line
from orchestrator.settings import Settings

log = logging.getLogger("orchestrator.beat")
_SHORTEST_S: Final = 0.01
_FIRST_RETRY_S: Final = 0.25


class LedgerScheduler(RedBeatScheduler):  # type: ignore[misc]
    """`app.worker_state` holds the settings and the name under which this beat takes the lock."""

    Entry = LedgerEntry

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        settings: Settings = app.worker_state.settings
        if getattr(app, REDBEAT_REDIS_KEY, None) is None:
            setattr(app, REDBEAT_REDIS_KEY, redbeat.client(settings))
        super().__init__(app, *args, **kwargs)
        self.clock = LedgerClock()
        self._settings = settings
        self._store = Store(
            app,
            getattr(app, REDBEAT_REDIS_KEY),
            app.worker_state.beat_id or f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}",
            settings.beat_lock.total_seconds(),
        )
        ledger = Ledger.connect(
            settings.require_database_url(),
            reach=settings.reach(),
            pool_size=1,
            statement_timeout=settings.statement_timeout,
            name="orchestrator beat",
        )
        ledger.secret_names = names_with(settings.secret_names)
        self.reconciler = Reconciler(ledger, self._store, self.clock, settings.reconcile_interval)
        self._state = "new"
        self._failures = 0
        self.pulse = Pulse("clock", settings.hang_after.total_seconds())

    def setup_schedule(self) -> None:
        """Nothing is static: entries come from the ledger."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due. Returns the seconds until the next call."""
        self.pulse.begin()
        pause = self._ticked()
        self.pulse.moved(pause)
        return pause

    @property
    def role(self) -> str | None:
        """`leads` or `follows`; None while neither is known: it has just begun, or Redis does not answer."""
        return None if self._failures or self._state == "new" else self._state

    def _ticked(self) -> float:
        try:
            pause = self._tick()
        except LockLost:
            pause = self._follow("beat.lock_lost")
        except Exception as exc:
            return self._failed(exc)
        if self._failures:
            log.info("beat.recovered", extra={"failures": self._failures})
            self._failures = 0
        return pause

    def _tick(self) -> float:
        if not self.clock.is_set:
            return _SHORTEST_S
        hold = self._store.hold()
        fp("beat.held")
        if not hold.ours:
            self._follow("beat.lock_lost" if self._state == "leads" else "beat.stands_by")
            return min(float(self.max_interval), hold.left_s + _SHORTEST_S)
        if hold.fresh or self._state != "leads":
            self._lead()
        now = self.clock.now()
        page = self._store.due(now.timestamp())
        fp("beat.loaded")
        if page.broken:
            self.reconciler.distrust()
        if page.due:
            self._send(page.due, now)
        if page.full:
            return 0.0
        # What was just announced may well be the next that is due.
        scores = [score for one in page.due if (score := one.entry.score) >= 0]
        if page.next_score is not None:
            scores.append(page.next_score)
        left_s = min(scores, default=float("inf")) - self.clock.now().timestamp()
        return min(float(self.max_interval), max(_SHORTEST_S, left_s))

    def _send(self, due: Sequence[Due], now: datetime) -> None:
        hints = [_hint(one.entry.args, one.fire) for one in due if one.fire is not None]
        send(self.app, hints, self._settings.key_prefix)
        fp("beat.sent")
        for one in due:
            one.entry.advance(now)
        self._store.advance(due)
        fp("beat.advanced")
        if log.isEnabledFor(logging.DEBUG):
            for hint in hints:
                log.debug("tick.sent", extra={"flow": hint.flow, "key": hint.key, "planned": hint.planned})

    # ---- what it is at the moment ----

    def _lead(self) -> None:
        self._state = "leads"
        log.info("beat.leads", extra={"lock_s": self.lock_timeout, "queue": QUEUE})
        self.reconciler.lead()

    def _follow(self, event: str) -> float:
        if self._state != "follows":
            self._state = "follows"
            log.log(logging.WARNING if event == "beat.lock_lost" else logging.INFO, event)
        self.reconciler.follow()
        return float(self.max_interval)

    def _failed(self, exc: Exception) -> float:
        """Redis or the broker is away, or something is wrong with one tick: say it once, and try again for ever."""
        self._failures += 1
        if self._failures == 1:
            reason = one_line(f"{type(exc).__name__}: {exc}")
            log.warning("beat.failing", extra={"error": reason[:300], "what": "the workers' watchdog fires meanwhile"})
            log.debug("beat.traceback", exc_info=exc)
        return min(float(self.max_interval), _FIRST_RETRY_S * 2.0 ** min(self._failures, 10))

    def close(self) -> None:
        """Give the lock to another beat now. May be called twice."""
        if self._state == "leads":
            self._state = "follows"
            self.reconciler.follow()
            try:
                self._store.release()
                log.info("beat.released")
            except (redis.RedisError, OSError) as exc:  # it runs out by itself
                log.debug("beat.not_released", extra={"error": type(exc).__name__})
        super().close()


def _hint(args: Sequence[str], fire: Fire) -> Hint:
    flow, key = args
    return Hint(flow, key, fire.scheduled)
