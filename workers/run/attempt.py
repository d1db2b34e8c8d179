"""The path of a step through a worker: claim, inputs, handler, finish, and on to the next of its chain."""

import os
import random
from concurrent.futures import CancelledError
from datetime import datetime
from time import monotonic
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from orchestrator.authoring.context import Context
from orchestrator.core.facts import Chain, Finished, Lease, StepError
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import claim_step, fail_step, finish_step, release
from orchestrator.errors import InputInvalid, LeaseLost, OutputInvalid
from orchestrator.ledger import schedules
from orchestrator.ledger.sweeps import session_name
from orchestrator.ledger.tx import is_disconnect
from orchestrator.observe.logs import (
    RUN_ENDED,
    STALE,
    STEP_FAILED,
    STEP_STARTED,
    STEP_SUCCEEDED,
    about,
    log,
)
from orchestrator.workers.run.errors_text import step_error
from orchestrator.workers.run.held_lease import HeldLease, StepTimedOut
from orchestrator.workers.run.outage import GaveUp, Outage, passing, retry_through_outage
from orchestrator.workers.state import AnyStep, WorkerState


class Attempt:
    """One attempt of one step, from its claim to its recorded outcome."""

    def __init__(self, state: WorkerState, held: HeldLease, *, may_chain: bool = True) -> None:
        self._state = state
        self._may_chain = may_chain
        self._settings = state.settings
        self._runtime = state.runtime()
        self._ledger = self._runtime.ledger
        self._held = held
        self._lease: Lease = held.lease
        self._step: AnyStep = state.handlers[held.lease.task]
        self._inputs: str | None = None
        self._began = monotonic()

    def run(self) -> HeldLease | None:
        """Do it all; the next step of the chain, if this worker holds it already."""
        log.debug("step.started", extra=about(self._lease, STEP_STARTED))
        self._runtime.heartbeat.add(self._held)
        try:
            return self._handled()
        except LeaseLost:
            log.warning("step.stale", extra=about(self._lease, STALE, reason="result dropped"))
        except GaveUp as exc:
            log.error("step.unrecorded", extra=about(self._lease, STALE, doing=str(exc), reason="database away"))
        finally:
            self._runtime.heartbeat.remove(self._held)
        return None

    # ---- the handler and what it may do ----

    def _handled(self) -> HeldLease | None:
        try:
            kwargs = self._decoded()
            fp("handler.before")
            if not self._may_start():
                return None
            if self._lease.transactional:
                return self._in_transaction(kwargs)
            output = self._step.encode_output(self._call(kwargs, None))
            fp("handler.after")
        except (LeaseLost, GaveUp, KeyboardInterrupt):
            raise
        except BaseException as exc:
            return self._failed(exc)
        return self._next(*self._finish(output))

    def _decoded(self) -> dict[str, Any]:
        outage = Outage(self._settings.lease.total_seconds())
        self._inputs = retry_through_outage(outage, "read inputs", lambda: claim_step.inputs(self._ledger, self._lease))
        return self._step.decode_inputs(self._inputs)

    def _may_start(self) -> bool:
        """False when this process slept past its lease and somebody else may have the step."""
        heartbeat = self._runtime.heartbeat
        if self._held.lost or not heartbeat.trusted(self._held):
            outage = Outage(self._settings.lease.total_seconds())
            self._held.lost = False
            if not retry_through_outage(outage, "confirm the lease", lambda: heartbeat.confirm(self._held)):
                log.warning("step.not_started", extra=about(self._lease, STALE, reason="lease lost before the start"))
                return False
        if self._held.halted:
            raise CancelledError
        return True

    def _call(self, kwargs: dict[str, Any], tx: Connection | None) -> Any:
        if self._step.context_param is not None:
            kwargs[self._step.context_param] = self._context(tx)
        shared, slot = self._state.shared, self._state.slot
        if self._state.prefork:
            shared.enter(slot, os.getpid(), self._lease)
        try:
            if self._step.is_async:
                value = self._runtime.loop.run(self._step.fn(**kwargs), self._held, self._time_left_s())
            else:
                value = self._step.fn(**kwargs)
        finally:
            if self._state.prefork:
                shared.leave(slot)
        if self._held.lost and (self._step.is_async or self._step.context_param is not None):
            raise LeaseLost(
                "The handler was told to stop because its lease ran out: what it returned may be half of it."
            )
        return value

    def _context(self, tx: Connection | None) -> Context:
        lease = self._lease
        return Context(
            str(lease.run_id),
            lease.step_key,
            lease.attempt,
            lease.stop_at,
            self._held.signals,
            tx,
            scheduled_for=self._scheduled_for,
        )

    def _scheduled_for(self) -> datetime | None:
        """Asked by a handler, from whatever thread it runs in: with a connection of the pool, not the thread's own."""

        def ask() -> datetime | None:
            with self._ledger.tx() as tx:
                return schedules.scheduled_for(tx, self._lease.run_id)

        return retry_through_outage(Outage(self._settings.lease.total_seconds()), "read the scheduled time", ask)

    def _time_left_s(self) -> float | None:
        """Until the step's timeout. Both times are the database's, and were `lease` apart from the claim."""
        if self._lease.stop_at is None:
            return None
        allowed = (self._lease.stop_at - self._lease.expires_at) + self._settings.lease
        return max(0.0, allowed.total_seconds() - (monotonic() - self._began))

    # ---- recording the outcome ----

    def _chain(self) -> Chain | None:
        if self._state.stopping or not self._may_chain:
            return None
        return Chain(self._settings.lease, self._state.versions.tasks(self._lease.manifest_hash))

    def _finish(self, output: str) -> tuple[Finished, float]:
        """Record the success; with the time from which a chained lease certainly runs."""
        outage = Outage(2 * self._settings.lease.total_seconds())
        first = monotonic()
        while True:
            try:
                if outage.tried:
                    done = finish_step.settled(self._ledger, self._lease)
                    if done is not None:
                        return done, first
                asked = monotonic()
                return finish_step.finish(
                    self._ledger, self._lease, output, inputs=self._inputs, chain=self._chain()
                ), asked
            except LeaseLost:
                # A commit still under way when we re-read may have landed since.
                done = finish_step.settled(self._ledger, self._lease) if outage.tried else None
                if done is None:
                    raise
                return done, first
            except DBAPIError as exc:
                if not passing(exc):
                    raise
                outage.wait(exc, "finish")

    def _in_transaction(self, kwargs: dict[str, Any]) -> HeldLease | None:
        """The handler's SQL and the completion commit together, or not at all."""
        name = session_name(self._lease.run_id, self._lease.step_key, self._lease.fence)
        try:
            with self._ledger.patient_tx(name) as tx:
                output = self._step.encode_output(self._call(kwargs, tx))
                fp("handler.after")
                self._ledger.hurry(tx)
                asked = monotonic()
                finished = finish_step.finish(
                    self._ledger, self._lease, output, inputs=self._inputs, chain=self._chain(), tx=tx
                )
            fp("finish.committed")
        except DBAPIError as exc:
            if not is_disconnect(exc):
                raise
            return self._after_lost_transaction(exc)
        return self._next(finished, asked)

    def _after_lost_transaction(self, exc: DBAPIError) -> HeldLease | None:
        """Committed or rolled back, nobody told us. If not committed, nothing of it happened: run it again."""
        outage = Outage(2 * self._settings.lease.total_seconds())
        outage.wait(exc, "commit")
        sent = monotonic()
        done = retry_through_outage(outage, "commit", lambda: finish_step.settled(self._ledger, self._lease))
        if done is not None:
            return self._next(done, sent)
        limit = self._settings.crash_limit
        again = retry_through_outage(
            outage, "release", lambda: release.end_owned(self._ledger, self._lease.owner, crash_limit=limit)
        )
        self._runtime.publisher.publish(again)
        return None

    def _failed(self, exc: BaseException) -> HeldLease | None:
        if isinstance(exc, SystemExit) and self._state.stopping:
            raise exc  # a cold shutdown, not the handler's wish
        if self._held.lost:
            raise LeaseLost("The lease ran out while the handler was interrupted.") from exc
        retryable = not isinstance(exc, (InputInvalid, OutputInvalid, *self._step.never_retry))
        timed_out = isinstance(exc, StepTimedOut)
        error = step_error(exc, self._halt_reason(exc))
        finished = self._fail(error, retryable, timed_out)
        log.warning(
            "step.failed",
            extra=about(self._lease, STEP_FAILED, error=f"{error.type}: {error.message}"[:300], retryable=retryable),
        )
        return self._follow(finished, monotonic())

    def _halt_reason(self, exc: BaseException) -> str | None:
        if isinstance(exc, StepTimedOut):
            return "The step took longer than its timeout."
        return "The step was cancelled." if isinstance(exc, CancelledError) else None

    def _fail(self, error: StepError, retryable: bool, timed_out: bool) -> Finished:
        outage = Outage(2 * self._settings.lease.total_seconds())
        while True:
            try:
                return fail_step.fail(
                    self._ledger,
                    self._lease,
                    error,
                    retryable=retryable,
                    inputs=self._inputs,
                    jitter=random.random(),
                    status="timed_out" if timed_out else "failed",
                )
            except LeaseLost:
                if outage.tried:  # the first try was recorded, or the keeper ended the claim: both are final
                    return Finished()
                raise
            except DBAPIError as exc:
                if not passing(exc):
                    raise
                outage.wait(exc, "fail")

    def _next(self, finished: Finished, asked: float) -> HeldLease | None:
        if log.isEnabledFor(20):
            took = round((monotonic() - self._began) * 1000, 1)
            log.info("step.succeeded", extra=about(self._lease, STEP_SUCCEEDED, ms=took))
        return self._follow(finished, asked)

    def _follow(self, finished: Finished, asked: float) -> HeldLease | None:
        self._runtime.publisher.publish(finished.dispatches)
        if finished.run_status is not None:
            log.info("run.ended", extra=about(self._lease, RUN_ENDED, status=finished.run_status.value))
        return HeldLease(finished.next, asked) if finished.next is not None else None
