"""Whose failure it was: said where it happens, because an exception's class does not tell."""

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.workers.run.outage import GaveUp


class HandlerFailed(Exception):
    """The handler raised `error`, or its inputs or its result do not fit: its own failure, its own retries."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class TransactionLost(Exception):
    """The ledger's transaction of a transactional step ended before its commit, or nobody knows whether it was
    committed; `error` is what we were told. No failure of the handler. `charged`: its connection was lost, for which
    the handler may be the reason, so that it must not go on for ever."""

    def __init__(self, error: BaseException, *, charged: bool) -> None:
        super().__init__(error)
        self.error = error
        self.charged = charged


@contextmanager
def handler_fails() -> Iterator[None]:
    """Whatever the block raises, SystemExit and KeyboardInterrupt too, is the handler's. Not so when it asked for what
    the ledger holds and the ledger stayed away."""
    try:
        yield
    except GaveUp:
        raise
    except BaseException as exc:
        raise HandlerFailed(exc) from exc
