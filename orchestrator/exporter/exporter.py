"""Looks at the ledger for those who scrape, and keeps what it saw."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import Final

from sqlalchemy.exc import DBAPIError

from orchestrator.errors import DatabaseFailed, OrchestratorError, SchemaBehind, Unavailable
from orchestrator.exporter.readings import FAILURES, OFTEN_S, Reading, Values, readings
from orchestrator.ledger.tx import Ledger, is_disconnect
from orchestrator.observe.logs import log
from orchestrator.observe.metrics.instruments import Instruments
from orchestrator.observe.metrics.metric import Metric
from orchestrator.observe.metrics.table import EXPORTER_AGE, EXPORTER_UP
from orchestrator.servers.diagnosis import explained, one_line
from orchestrator.servers.standby import standby
from orchestrator.settings import Settings

STATEMENT_S: Final = timedelta(seconds=2)
"""A gauge that costs more than that is not worth it."""
PATIENCE_S: Final = 3.0
"""A scrape waits for a look so long, and then is told what was seen before."""


class Exporter:
    """Sets the gauges of `instruments` before each of their scrapes, from a look that is ten seconds old at most.

    Looks go on side by side with scrapes, one at a time. While one fails, or takes too long, the values that were seen
    last stand, `floworch_exporter_up` is 0, and `floworch_exporter_age_seconds` says how old they are.
    """

    def __init__(self, settings: Settings, instruments: Instruments, clock: Callable[[], float] = monotonic) -> None:
        self._url = settings.require_database_url()
        self._ledger = Ledger.connect(
            self._url,
            reach=settings.reach(),
            pool_size=1,
            statement_timeout=STATEMENT_S,
            name="orchestrator exporter",
        )
        self._standby = standby(
            settings, _tell_of_standby, name="orchestrator exporter", pool_size=1, statement_timeout=STATEMENT_S
        )
        self._readings = readings(settings, self._ledger)
        self._instruments = instruments
        self._clock = clock
        self._lock = threading.Lock()
        self._over: threading.Event | None = None
        """Of the look that goes on."""
        self._began = -OFTEN_S
        self._read_at: dict[str, float] = {}
        self._failing: frozenset[str] = frozenset()
        self._up = False
        self._well_at = clock()
        instruments.before_scrape(self.refresh)

    def refresh(self) -> None:
        """Look, unless the last look is fresh. Returns when it is over, or after `PATIENCE_S`."""
        over = self._begun()
        in_time = over is None or over.wait(PATIENCE_S)
        self._instruments.set(EXPORTER_UP, value=int(self._up and in_time))
        self._instruments.set(EXPORTER_AGE, value=self._clock() - self._well_at)

    def check(self) -> None:
        """Look for the first time. A database that is away may come back: that is no error.

        Raises:
            SchemaBehind: there is no schema of this release.
            Unavailable: the database refuses this user.
            DatabaseFailed: this user may not read what the gauges are made of.
            PoolerUnfit: a pooler stands before it in a way that was not declared.
        """
        with suppress(DBAPIError):
            self._ledger.prove()
        with self._lock:
            self._over, self._began = threading.Event(), self._clock()
        for exc in self._look(self._over):
            if isinstance(exc, DBAPIError) and not _passes(error := explained(exc, self._url)):
                raise error from exc

    @property
    def up(self) -> bool:
        """Whether the last look went well."""
        return self._up

    def close(self) -> None:
        """Give the connections back. A look that goes on ends by itself."""
        if self._standby is not None:
            self._standby.close()
        self._ledger.close()

    def _begun(self) -> threading.Event | None:
        with self._lock:
            if self._over is None and self._clock() - self._began >= OFTEN_S:
                self._over, self._began = threading.Event(), self._clock()
                threading.Thread(target=self._look, args=(self._over,), name="exporter-look", daemon=True).start()
            return self._over

    def _look(self, over: threading.Event) -> Sequence[Exception]:
        """Read what is due; what went wrong."""
        failed: dict[str, Exception] = {}
        try:
            failed = self._failed(self._due())
            self._tell(failed)
            self._up = not failed
            if self._up:
                self._well_at = self._clock()
        finally:
            for ledger in (self._ledger, *(() if self._standby is None else (self._standby.ledger,))):
                ledger.release_thread()
            with self._lock:
                self._over = None
            over.set()
        return list(failed.values())

    def _due(self) -> Sequence[Reading]:
        """Those whose values are old, and those that failed."""
        now = self._clock()
        return [one for one in self._readings if now - self._read_at.get(one.name, -one.every_s) >= one.every_s]

    def _failed(self, due: Sequence[Reading]) -> dict[str, Exception]:
        """Read them; those that could not be read, and why. After a lost connection the rest is not tried."""
        failing: dict[str, Exception] = {}
        for number, reading in enumerate(due):
            try:
                found = self._read(reading)
            except FAILURES as exc:
                failing[reading.name] = exc
                if is_disconnect(exc):
                    return failing | {one.name: exc for one in due[number:]}
                continue
            self._read_at[reading.name] = self._clock()
            for metric, values in found.items():
                self._instruments.replace(metric, values)
        return failing

    def _read(self, reading: Reading) -> Mapping[Metric, Values]:
        """From the standby, if it does for that; from the primary when it fails."""
        if reading.may_lag and self._standby is not None and self._standby.may_be_read():
            try:
                with self._standby.ledger.auto() as tx:
                    return reading.read(tx)
            except FAILURES as exc:
                self._standby.lose(exc)
        with self._ledger.auto() as tx:
            return reading.read(tx)

    def _tell(self, failing: Mapping[str, Exception]) -> None:
        """A line when it begins and one when it is over, not one for each look."""
        now = frozenset(failing)
        for name in sorted(now - self._failing):
            log.warning("exporter.failed", extra={"reading": name, "error": one_line(failing[name])[:300]})
        for name in sorted(self._failing - now):
            log.info("exporter.recovered", extra={"reading": name})
        self._failing = now


def _tell_of_standby(url: str, why: str | None) -> None:
    if why is None:
        log.info("replica.used", extra={"url": url})
    else:
        log.warning("replica.left_out", extra={"url": url, "error": why, "what": "gauges are read from the primary"})


def _passes(error: OrchestratorError) -> bool:
    """Whether it may be over without anybody's doing."""
    if isinstance(error, SchemaBehind | DatabaseFailed):
        return False
    return not (isinstance(error, Unavailable) and error.refused)
