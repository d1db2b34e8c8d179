"""Whose failure it was: said by the stage in which it happened, because an exception's class does not show it. Another
database's errors have the same classes as ours."""

from sqlalchemy.exc import SQLAlchemyError

from orchestrator.authoring.polling import NotYet
from orchestrator.core.polling import UntilInvalid
from orchestrator.errors import InputInvalid, LeaseLost
from orchestrator.ledger.passing import IN_THE_WAY, passing
from orchestrator.ledger.tx import is_broken, is_disconnect, sqlstate
from orchestrator.workers.run.attempt import Attempt
from orchestrator.workers.run.outage import GaveUp


class Blamed(Exception):
    """A stage failed with `error`; the class says whose failure that is."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class HandlerFailed(Blamed):
    """The handler raised, or its inputs or its result do not fit: its own failure, its own retries."""


class Unrecordable(Blamed):
    """The ledger answers, and refuses to give the inputs or to take the result."""


class TransactionLost(Blamed):
    """The ledger's transaction of a transactional step ended before its commit, or nobody knows whether it was
    committed. No failure of the handler. `charged`: its connection was lost, for which the handler may be the reason,
    so that it must not go on for ever."""

    def __init__(self, error: BaseException, *, charged: bool) -> None:
        super().__init__(error)
        self.charged = charged


class LostBeforeStart(Exception):
    """Somebody else may have the step; its handler was not called."""


def ours(attempt: Attempt, exc: BaseException) -> BaseException:
    """In a stage that asks the ledger: what is said of the lease or the outage is passed on."""
    if isinstance(exc, Blamed | LostBeforeStart | LeaseLost | GaveUp) or not isinstance(exc, Exception):
        return exc
    return Unrecordable(exc)


def inputs(attempt: Attempt, exc: BaseException) -> BaseException:
    """Where inputs are read: an expression that cannot be evaluated is a failure of the step."""
    return HandlerFailed(exc) if isinstance(exc, InputInvalid) else ours(attempt, exc)


def handlers(attempt: Attempt, exc: BaseException) -> BaseException:
    """In the handler's own code: all of it, SystemExit and KeyboardInterrupt too. Not so a cold shutdown, what the
    handler asked of a ledger that stayed away, and what the loss of its transaction made it raise."""
    if isinstance(exc, GaveUp) or (isinstance(exc, SystemExit) and attempt.worker.stopping):
        return exc
    if attempt.tx is not None and is_broken(attempt.tx):
        return TransactionLost(exc, charged=True)
    return HandlerFailed(exc)


def results(attempt: Attempt, exc: BaseException) -> BaseException:
    """Where a step that polls looks at its result: that it is not the one, the handler might have said itself."""
    return HandlerFailed(exc) if isinstance(exc, NotYet | UntilInvalid) else ours(attempt, exc)


def transactions(attempt: Attempt, exc: BaseException) -> BaseException:
    """Between the handler's return and the commit of its transaction."""
    if isinstance(exc, SQLAlchemyError) and passing(exc):
        return TransactionLost(exc, charged=is_disconnect(exc))
    return ours(attempt, exc)


def commits(attempt: Attempt, exc: BaseException) -> BaseException:
    """At the commit, which also does what the handler's tables defer. If that takes too long, it may do so each time:
    it is charged."""
    if not isinstance(exc, SQLAlchemyError):
        return ours(attempt, exc)
    if not passing(exc):
        return HandlerFailed(exc)
    return TransactionLost(exc, charged=is_disconnect(exc) or sqlstate(exc) in IN_THE_WAY)
