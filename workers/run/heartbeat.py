"""Renews the leases of one process, on a thread and a connection that a busy handler cannot starve."""

import json
import threading
from dataclasses import asdict, replace
from datetime import timedelta
from time import monotonic
from typing import Final

from sqlalchemy.exc import DBAPIError

from orchestrator.core.facts import LeaseBeat, Renewal
from orchestrator.engine.steps import renew
from orchestrator.ledger.passing import passing
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.logs import LEASE_EXPIRED, STALE, about, log
from orchestrator.settings import Settings
from orchestrator.workers.run.held_lease import HeldLease
from orchestrator.workers.run.outage import reason

_MARGIN: Final = 0.1
"""The share of a lease by which this process stops trusting it early."""


class Heartbeat:
    """One daemon thread. A lease shorter than most of a heartbeat costs nothing but a dictionary entry."""

    def __init__(self, settings: Settings) -> None:
        self._lease = settings.lease
        self._lease_s = settings.lease.total_seconds()
        self._tick_s = settings.heartbeat.total_seconds() / 4
        self._ledger = Ledger.connect(
            settings.require_database_url(),
            reach=settings.reach(),
            pool_size=1,
            statement_timeout=min(settings.statement_timeout, settings.lease / 6, timedelta(seconds=5)),
            name="orchestrator heartbeat",
        )
        self._held: dict[int, HeldLease] = {}
        self._failing = False
        self._stop = threading.Event()
        self._started = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, held: HeldLease) -> None:
        """Keep this lease alive from now on."""
        self._held[id(held)] = held
        if self._thread is None:
            with self._started:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
                    self._thread.start()

    def remove(self, held: HeldLease) -> None:
        """Its outcome was recorded, or it is not ours any more."""
        self._held.pop(id(held), None)

    @property
    def holds_any(self) -> bool:
        """Whether there is a lease to keep alive."""
        return bool(self._held)

    def abandon(self) -> None:
        """Tell every handler of this process to stop: its claim is about to be handed back. An outcome that is being
        recorded may still be."""
        for held in self._held.copy().values():
            if not held.recording:
                held.lost = True
                held.interrupt()

    def close(self) -> None:
        self._stop.set()
        self._ledger.close()

    def trusted(self, held: HeldLease) -> bool:
        """Whether the lease certainly still runs, by this process's monotonic clock alone."""
        return held.age_s() < self._lease_s * (1 - _MARGIN)

    def confirm(self, held: HeldLease) -> bool:
        """Ask the ledger whether the lease is still ours, and prolong it. May raise what the database raises."""
        self._renew([held])
        return not held.lost

    def _run(self) -> None:
        while not self._stop.wait(self._tick_s):
            try:
                renewed = self._beat()
            except Exception as exc:
                if not self._failing:
                    log.warning("heartbeat.failing", extra={"error": f"{type(exc).__name__}: {exc}".split("\n")[0]})
                self._failing = True
            else:
                if self._failing and renewed:
                    log.info("heartbeat.recovered")
                if renewed or not self._held:  # with nothing to renew it cannot tell, and need not
                    self._failing = False

    def _beat(self) -> bool:
        """Renew what is due and fence what is too old. Whether the ledger answered; False: nothing was due."""
        held = [one for one in self._held.copy().values() if not one.lost]
        try:
            due = [one for one in held if one.age_s() >= self._tick_s * 2.5]
            if due:
                self._renew(due)
            return bool(due)
        finally:
            for one in held:
                if not one.lost and not self.trusted(one):
                    one.lost = True
                    log.error("lease.fenced", extra=about(one.lease, LEASE_EXPIRED, since_s=round(one.age_s(), 1)))
                    one.interrupt()

    def _renew(self, due: list[HeldLease]) -> None:
        sent = monotonic()
        beats = [LeaseBeat(one.lease.run_id, one.lease.step_key, one.lease.fence, _text(one)) for one in due]
        answers = {(row.run_id, row.step_key, row.fence): row for row in self._ask(beats)}
        for one in due:
            self._heed(one, sent, answers.get((one.lease.run_id, one.lease.step_key, one.lease.fence)))

    def _ask(self, beats: list[LeaseBeat]) -> list[Renewal]:
        """One statement for all leases. What it refuses can only be progress: leases are not lost for that."""
        try:
            return renew.renew(self._ledger, beats, self._lease)
        except DBAPIError as exc:
            if passing(exc):
                raise
            log.warning("progress.dropped", extra={"error": reason(exc)})
            return renew.renew(self._ledger, [replace(beat, progress=None) for beat in beats], self._lease)

    def _heed(self, one: HeldLease, sent: float, answer: Renewal | None) -> None:
        if answer is None or not answer.alive:
            if one.recording:  # the claim ended with the outcome, which is about to be reported, or refused
                return
            if id(one) in self._held and not one.lost:
                log.warning("lease.lost", extra=about(one.lease, STALE))
            one.lost = True
            one.interrupt()
            return
        one.renewed = sent
        if answer.cancel and not one.halted:
            one.halted = True
            one.interrupt()


def _text(one: HeldLease) -> str | None:
    """A handler may put into its mailbox what `ctx.progress` would refuse: that is dropped, the lease is not."""
    progress = one.signals.progress
    if progress is None:
        return None
    try:
        return json.dumps(asdict(progress), allow_nan=False)
    except Exception as exc:
        one.signals.progress = None
        log.warning("progress.dropped", extra=about(one.lease, STALE, error=f"{type(exc).__name__}: {exc}"))
        return None
