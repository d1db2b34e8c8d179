"""What a running step may ask and report: the `Context` parameter."""

import logging
import math
import threading
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from orchestrator.core.wording import an
from orchestrator.errors import HandOverRefused, NotTransactional

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from orchestrator.authoring.polling import PollState

_NOTE_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step is. `total` is None when it is not known; `note` has at most 500 characters."""

    done: float
    total: float | None = None
    note: str | None = None


@dataclass(slots=True)
class Mailbox:
    """What passes between a running handler and the process around it. `progress` holds the last report only."""

    cancel: threading.Event = field(default_factory=threading.Event)
    progress: Progress | None = None


class HandedOver(BaseException):
    """Ends a handler that hands over. No Exception: what a handler does about its own errors leaves it alone."""

    __module__ = "orchestrator"


class StepLog(logging.LoggerAdapter[logging.Logger]):
    """Adds the facts of the attempt to each line, beside those that the line brings itself."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, {**kwargs, "extra": {**(kwargs.get("extra") or {}), **(self.extra or {})}}


class Context:
    """Given to a step whose first parameter is annotated `Context`; callers in a flow body leave it out."""

    def __init__(
        self,
        run_id: str = "test",
        step_key: str = "test",
        attempt: int = 1,
        deadline: datetime | None = None,
        signals: Mailbox | None = None,
        tx: "Connection | None" = None,
        log: "logging.LoggerAdapter[Any] | None" = None,
        scheduled_for: datetime | Callable[[], datetime | None] | None = None,
        poll: "PollState | Callable[[], PollState | None] | None" = None,
        stopping: bool | Callable[[], bool] = False,
        span: Any = None,
    ) -> None:
        """The defaults make a context for calling a step in a test."""
        self.run_id = run_id
        self.step_key = step_key
        self.attempt = attempt  # from 1
        self.deadline = deadline  # aware UTC; when this attempt is ended, None without a timeout
        self.signals = signals if signals is not None else Mailbox()
        self._tx = tx
        self._scheduled_for = scheduled_for
        self._poll = poll
        self._stopping = stopping
        self.span = span
        """OpenTelemetry's span of this attempt, to set attributes on and to link to; None where no spans are made."""
        facts = {"run_id": run_id, "step_key": step_key, "attempt": attempt}
        self.log = log if log is not None else StepLog(logging.getLogger("orchestrator.step"), facts)

    def __repr__(self) -> str:
        return f"Context(run_id={self.run_id!r}, step_key={self.step_key!r}, attempt={self.attempt})"

    @property
    def idempotency_key(self) -> str:
        """Stable over the attempts of this step; pass it on to make an outside effect happen once."""
        return f"{self.run_id}:{self.step_key}"

    @property
    def scheduled_for(self) -> datetime | None:
        """In a run that a schedule started: the time it is for, aware UTC, however late it runs; else None.

        The first use asks the ledger.
        """
        if callable(self._scheduled_for):
            self._scheduled_for = self._scheduled_for()
        return self._scheduled_for

    @property
    def poll(self) -> "PollState | None":
        """In a step that polls: the number of this poll, from 1, when the first began, and when the last is; else None.
        Attempts that fail, crashes and restarts move none of them.

        The first use asks the ledger.
        """
        if callable(self._poll):
            self._poll = self._poll()
        return self._poll

    @property
    def cancelled(self) -> bool:
        """Whether someone asked this step to stop; it learns so within one heartbeat."""
        return self.signals.cancel.is_set()

    @property
    def stopping(self) -> bool:
        """Whether this worker was told to stop. The step may go on until the grace is over, which its
        `ORCHESTRATOR_STOP_GRACE` says; one that cannot end by then saves its place and calls `hand_over`. Cheap: no
        server is asked."""
        return self._stopping() if callable(self._stopping) else self._stopping

    def hand_over(self) -> NoReturn:
        """End this attempt here, when `stopping`: another worker begins the step anew, at once, and nothing is charged.
        What the attempt did and saved outside stays; what it wrote with `tx` is rolled back. Never returns, so that
        `return ctx.hand_over()` says so too.

        Raises:
            HandedOver: caught by the worker; let it pass. `except Exception` does.
            HandOverRefused: nobody told this worker to stop.
        """
        if not self.stopping:
            raise HandOverRefused(
                f"Step `{self.step_key}` handed over, and its worker goes on: it would begin again at once. "
                "Fix: ask `ctx.stopping` first.",
                step_key=self.step_key,
            )
        raise HandedOver

    @property
    def tx(self) -> "Connection":
        """The ledger transaction that records this step's completion: what is written here commits with it, or not.

        Raises:
            NotTransactional: the step is not `@step(transactional=True)`.
        """
        if self._tx is None:
            raise NotTransactional(
                f"Step `{self.step_key}` asked for `ctx.tx` and is not transactional. "
                "Fix: declare it with `@step(transactional=True)`.",
                step_key=self.step_key,
            )
        return self._tx

    def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Report how far the step is. Cheap: only the last report before a heartbeat is kept.

        Raises:
            TypeError: `done` or `total` is not an int or a float, or `note` is not a string.
            ValueError: a number is not finite.
        """
        _check_number("done", done)
        if total is not None:
            _check_number("total", total)
        if note is not None and not isinstance(note, str):
            raise TypeError(
                f"ctx.progress: note is {an(type(note).__name__)}. Fix: give a string, such as `str(note)`."
            )
        short = note.replace("\x00", "")[:_NOTE_LIMIT] if note else None
        self.signals.progress = Progress(done, total, short)


def _check_number(name: str, value: object) -> None:
    """JSON has no other numbers: a Decimal, a numpy integer or a NaN would be lost later, where nobody looks."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(
            f"ctx.progress: {name} is {an(type(value).__name__)}. Fix: give an int or a float, such as `float({name})`."
        )
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise ValueError(f"ctx.progress: {name} is not a finite number. Fix: check what it was divided by.")
