"""The path of a step through a worker: claim, inputs, handler, finish, and on to the next of its chain."""

import logging
import os
import random
from asyncio import CancelledError as AsyncCancelled
from concurrent.futures import CancelledError
from contextlib import ExitStack
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Literal

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from orchestrator.authoring.context import Context
from orchestrator.authoring.retry_after import RetryAfter
from orchestrator.core.facts import Chain, Failure, Finished, Lease, StepError, Success
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import claim_step, fail_step, finish_step, release
from orchestrator.engine.steps.kept import kept_traceback
from orchestrator.errors import InputInvalid, LeaseLost, NotTransactional, OutputInvalid
from orchestrator.ledger import schedules
from orchestrator.ledger.sweeps import session_name
from orchestrator.ledger.tx import is_broken, is_disconnect, sqlstate
from orchestrator.observe.logs import (
    RUN_ENDED,
    STALE,
    STEP_FAILED,
    STEP_STARTED,
    STEP_SUCCEEDED,
    about,
    log,
    with_traceback,
)
from orchestrator.workers.run.blame import HandlerFailed, TransactionLost, handler_fails
from orchestrator.workers.run.errors_text import named, said, step_error, storable
from orchestrator.workers.run.held_lease import HeldLease, StepTimedOut
from orchestrator.workers.run.outage import IN_THE_WAY, GaveUp, Outage, passing, reason, retry_through_outage
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
        self._begun = False
        """Whether the handler was called."""

    def run(self) -> HeldLease | None:
        """Do it all; the next step of the chain, if this worker holds it already.

        Raises:
            GaveUp: the database stayed away, and the handler was not called.
        """
        log.debug("step.started", extra=about(self._lease, STEP_STARTED))
        self._runtime.heartbeat.add(self._held)
        try:
            return self._worked()
        except LeaseLost:
            log.warning("step.stale", extra=about(self._lease, STALE, reason="result dropped"))
        except GaveUp as exc:
            if not self._begun:
                raise
            log.error("step.unrecorded", extra=about(self._lease, STALE, doing=str(exc), reason="database away"))
        finally:
            self._runtime.heartbeat.remove(self._held)
        return None

    def _worked(self) -> HeldLease | None:
        """Stage by stage. Each failure is sorted by where it came from, never by its class: another database's errors
        have the same classes as ours."""
        try:
            kwargs = self._decoded()
            fp("handler.before")
            if not self._may_start():
                return None
            outcome = self._in_transaction(kwargs) if self._lease.transactional else self._finish(self._output(kwargs))
        except HandlerFailed as exc:
            return self._failed(exc.error)
        except TransactionLost as exc:
            return self._undone(exc)
        except (LeaseLost, GaveUp):
            raise
        except Exception as exc:
            return self._unrecordable(exc)
        return self._next(*outcome)

    # ---- the handler and what it may do ----

    def _decoded(self) -> dict[str, Any]:
        outage = Outage(self._settings.lease.total_seconds())
        self._inputs = retry_through_outage(outage, "read inputs", lambda: claim_step.inputs(self._ledger, self._lease))
        with handler_fails():
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
            raise HandlerFailed(CancelledError())
        return True

    def _output(self, kwargs: dict[str, Any], tx: Connection | None = None) -> str:
        """What the handler returned, as JSON text; with `tx` it may write there.

        Raises:
            HandlerFailed: it raised, or what it returned cannot be a result.
            LeaseLost: it was told to stop because its lease ran out.
            TransactionLost: it raised, and `tx` has gone away.
        """
        self._begun = True
        try:
            with handler_fails():
                output = self._step.encode_output(self._call(kwargs, tx))
                finish_step.check_size(output)
            fp("handler.after")
        except HandlerFailed as exc:
            if isinstance(exc.error, SystemExit) and self._state.stopping:
                raise exc.error from None  # a cold shutdown, not the handler's wish
            if tx is not None and is_broken(tx):
                raise TransactionLost(exc.error, charged=True) from exc
            raise
        finally:
            self._held.recording = True
        if self._held.lost and (self._step.is_async or self._step.context_param is not None):
            raise LeaseLost(
                "The handler was told to stop because its lease ran out: what it returned may be half of it."
            )
        return output

    def _call(self, kwargs: dict[str, Any], tx: Connection | None) -> Any:
        if self._step.context_param is not None:
            kwargs[self._step.context_param] = self._context(tx)
        shared, slot = self._state.shared, self._state.slot
        if self._state.prefork:
            shared.enter(slot, os.getpid(), self._lease)
        try:
            if self._step.is_async:
                return self._runtime.loop.run(self._step.fn(**kwargs), self._held, self._time_left_s())
            return self._step.fn(**kwargs)
        finally:
            if self._state.prefork:
                shared.leave(slot)

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
                return self._record(output), asked
            except LeaseLost:
                if not outage.tried:
                    raise
                # A commit still under way when we re-read may have landed since.
                done = retry_through_outage(outage, "finish", lambda: finish_step.settled(self._ledger, self._lease))
                if done is None:
                    raise
                return done, first
            except SQLAlchemyError as exc:
                if not passing(exc):
                    raise
                outage.wait(exc, "finish")

    def _record(self, output: str, tx: Connection | None = None) -> Finished:
        return finish_step.finish(self._ledger, self._lease, Success(output, self._inputs, self._chain()), tx)

    def _in_transaction(self, kwargs: dict[str, Any]) -> tuple[Finished, float]:
        """The handler's SQL and the completion commit together, or not at all.

        Raises:
            TransactionLost: nobody told us whether it was committed, or it cannot be.
        """
        name = session_name(self._lease.run_id, self._lease.step_key, self._lease.fence)
        outage = Outage(2 * self._settings.lease.total_seconds())
        with ExitStack() as opened:
            tx = retry_through_outage(
                outage, "open a transaction", lambda: opened.enter_context(self._ledger.patient_tx(name))
            )
            if not self._may_start():  # it may have waited long for its connection
                raise LeaseLost("The lease ran out before the handler was called.")
            output = self._output(kwargs, tx)
            finished = self._finish_in(tx, output)
            self._commit(opened)
        return finished

    def _finish_in(self, tx: Connection, output: str) -> tuple[Finished, float]:
        """Record the success in the handler's transaction. What was only in the way is tried again from the savepoint
        in which it is done; the handler's own statements stay as they are."""
        outage = Outage(2 * self._settings.lease.total_seconds())
        if not is_broken(tx):
            with handler_fails():
                _check_usable(tx)
        try:
            self._ledger.hurry(tx)
            while True:
                try:
                    asked = monotonic()
                    return self._record(output, tx), asked
                except DBAPIError as exc:
                    if is_broken(tx) or sqlstate(exc) not in IN_THE_WAY:
                        raise
                    outage.wait(exc, "finish")
        except SQLAlchemyError as exc:
            if not passing(exc):
                raise
            raise TransactionLost(exc, charged=is_disconnect(exc)) from exc

    def _commit(self, opened: ExitStack) -> None:
        try:
            opened.close()
            fp("finish.committed")
        except SQLAlchemyError as exc:
            if not passing(exc):  # a constraint of the handler's tables that is checked at the commit
                raise HandlerFailed(exc) from exc
            raise TransactionLost(exc, charged=is_disconnect(exc)) from exc

    def _undone(self, lost: TransactionLost) -> HeldLease | None:
        """Committed or rolled back, nobody told us. If not committed, nothing of it happened: run it again."""
        outage = Outage(2 * self._settings.lease.total_seconds())
        outage.wait(lost.error, "commit")
        asked = monotonic()
        done = retry_through_outage(outage, "commit", lambda: finish_step.settled(self._ledger, self._lease))
        if done is not None:
            return self._next(done, asked)
        error = StepError(
            "TransactionLost", storable(f"its transaction was lost before its commit: {reason(lost.error)}")
        )
        limit = self._settings.crash_limit if lost.charged else None
        finished = retry_through_outage(
            outage, "run again", lambda: release.undone(self._ledger, self._lease, error, crash_limit=limit)
        )
        log.warning("step.undone", extra=about(self._lease, STALE, error=error.message[:300], charged=lost.charged))
        return self._follow(finished, asked)

    # ---- recording a failure ----

    def _failed(self, exc: BaseException) -> HeldLease | None:
        if self._held.lost:
            raise LeaseLost("The lease ran out while the handler was interrupted.") from exc
        error = step_error(exc, self._halt_reason(exc))
        never: tuple[type[BaseException], ...] = (InputInvalid, OutputInvalid, *self._step.never_retry)
        return self._fail(
            error,
            retryable=not isinstance(exc, never),
            status="timed_out" if isinstance(exc, StepTimedOut) else "failed",
            delay=exc.delay if isinstance(exc, RetryAfter) else None,
        )

    def _halt_reason(self, exc: BaseException) -> str | None:
        if isinstance(exc, StepTimedOut):
            return "The step took longer than its timeout."
        if isinstance(exc, CancelledError | AsyncCancelled):
            if self._held.halted:
                return "The step was cancelled."
            return None if exc.args else "Something that the step awaited was cancelled; the step was not."
        return None

    def _unrecordable(self, exc: Exception) -> HeldLease | None:
        """The ledger will not give the inputs, or not take the result: an attempt that failed, with the cause. A result
        is not made again: it would be refused again, and the handler's effects are there."""
        cause = getattr(exc, "orig", None) or exc
        what = "result of the step could not be recorded" if self._begun else "inputs of the step could not be read"
        return self._fail(step_error(cause, f"the {what}: {named(cause)}: {said(cause)}"), retryable=not self._begun)

    def _fail(
        self,
        error: StepError,
        *,
        retryable: bool,
        status: Literal["failed", "timed_out"] = "failed",
        delay: timedelta | None = None,
    ) -> HeldLease | None:
        self._held.recording = True
        facts = about(self._lease, STEP_FAILED, error=f"{error.type}: {error.message}"[:300], retryable=retryable)
        # A step that asks for another time knows why; everything else that fails is told with its traceback.
        with_traceback(
            logging.WARNING, "step.failed", facts, None if delay is not None else kept_traceback(error.traceback)
        )
        plain = StepError(
            "NotRecorded", "the attempt failed, and its error could not be recorded; the worker's log has it"
        )
        for told, inputs in ((error, self._inputs), (plain, None)):
            try:
                return self._follow(self._fail_once(told, inputs, retryable, status, delay), monotonic())
            except (LeaseLost, GaveUp):
                raise
            except Exception:
                log.exception("step.unrecorded", extra=about(self._lease, STALE, doing="fail"))
        crashes, deploys = self._settings.crash_limit, self._settings.deploy_limit
        given_back = release.end_owned(self._ledger, self._lease.owner, crash_limit=crashes, deploy_limit=deploys)
        self._runtime.publisher.publish(given_back)
        return None

    def _fail_once(
        self,
        error: StepError,
        inputs: str | None,
        retryable: bool,
        status: Literal["failed", "timed_out"],
        delay: timedelta | None,
    ) -> Finished:
        outage = Outage(2 * self._settings.lease.total_seconds())

        def record() -> Finished:
            try:
                failure = Failure(error, retryable, status, inputs, random.random(), delay)
                return fail_step.fail(self._ledger, self._lease, failure)
            except LeaseLost:
                if outage.tried:  # the first try was recorded, or the keeper ended the claim: both are final
                    return Finished()
                raise

        return retry_through_outage(outage, "fail", record)

    # ---- what follows ----

    def _next(self, finished: Finished, asked: float) -> HeldLease | None:
        if log.isEnabledFor(logging.INFO):
            took = round((monotonic() - self._began) * 1000, 1)
            log.info("step.succeeded", extra=about(self._lease, STEP_SUCCEEDED, ms=took))
        return self._follow(finished, asked)

    def _follow(self, finished: Finished, asked: float) -> HeldLease | None:
        self._runtime.publisher.publish(finished.dispatches)
        if finished.run_status is not None:
            log.info("run.ended", extra=about(self._lease, RUN_ENDED, status=finished.run_status.value))
        return HeldLease(finished.next, asked) if finished.next is not None else None


def _check_usable(tx: Connection) -> None:
    """Whether the completion can still be written where the handler wrote."""
    driver = None if tx.closed else tx.connection.driver_connection
    failed = isinstance(driver, psycopg.Connection) and driver.info.transaction_status is TransactionStatus.INERROR
    if failed or not tx.in_transaction():
        raise NotTransactional(
            f"The handler returned with `ctx.tx` {'in error' if failed else 'ended'}, so nothing can be committed. "
            "Fix: let errors of `ctx.tx` pass, or try what may fail inside `ctx.tx.begin_nested()`; leave commit and "
            "rollback to the worker."
        )
