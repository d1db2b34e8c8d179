"""The observer port: what happened, reported after the commit that made it true and never inside a transaction."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from orchestrator.core.happened import (
    Accepted,
    Delivered,
    Dispatched,
    Ended,
    Fact,
    Failed,
    Operated,
    Polled,
    Refused,
    Skipped,
    Slow,
    Split,
    Started,
    Succeeded,
    Ticked,
    Waited,
)
from orchestrator.observe.lines import LogLines

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Called in the thread in which it happened, so it has to be quick; several threads may call at once. An exception
    that it raises does no harm, and is logged once for each of its methods."""

    def accepted(self, fact: Accepted) -> None:
        """A run was started. Not those that were started in a transaction of the caller's: only the caller knows
        whether that was committed."""

    def started(self, fact: Started) -> None:
        """An attempt was claimed."""

    def succeeded(self, fact: Succeeded) -> None:
        """An attempt succeeded."""

    def failed(self, fact: Failed) -> None:
        """An attempt failed, was lost, or its step was not claimed in time."""

    def polled(self, fact: Polled) -> None:
        """A step that polls was asked, and is not ready."""

    def skipped(self, fact: Skipped) -> None:
        """A step can never run."""

    def dispatched(self, fact: Dispatched) -> None:
        """A message was sent."""

    def refused(self, fact: Refused) -> None:
        """A start, a message or a result was refused."""

    def delivered(self, fact: Delivered) -> None:
        """A webhook's delivery or a signal was let in."""

    def split(self, fact: Split) -> None:
        """A run went on after a long wait."""

    def ended(self, fact: Ended) -> None:
        """A run ended."""

    def waited(self, fact: Waited) -> None:
        """A signal ended a wait."""

    def ticked(self, fact: Ticked) -> None:
        """Ticks were decided."""

    def operated(self, fact: Operated) -> None:
        """An operator did something."""

    def slow(self, fact: Slow) -> None:
        """A statement was slow. The one fact that is told inside a transaction."""


_observers: tuple[Observer, ...] = (LogLines(),)
_broken: set[tuple[int, str]] = set()
_held: ContextVar[list[Fact] | None] = ContextVar("held", default=None)


def listen(observer: Observer) -> None:
    """From now on it is notified of what happens in this process, and in those that this one forks."""
    global _observers
    _observers = (*_observers, observer)


def unlisten(observer: Observer) -> None:
    """It is not notified any more."""
    global _observers
    _observers = tuple(one for one in _observers if one is not observer)


def notify(fact: Fact) -> None:
    """Notify the observers that listen. Call it after the commit."""
    if (held := _held.get()) is not None:
        held.append(fact)
        return
    for observer in _observers:
        try:
            getattr(observer, fact.told)(fact)
        except Exception:
            which = (id(observer), fact.told)
            if which not in _broken:
                _broken.add(which)
                name = f"{type(observer).__name__}.{fact.told}"
                log.warning("observer.failed", extra={"observer": name}, exc_info=True)


def slow_statement(name: str, took_s: float) -> None:
    """Notify of a slow statement of the ledger."""
    notify(Slow(name, took_s))


@contextmanager
def held_back(facts: list[Fact]) -> Iterator[None]:
    """What happens in this block is part of a greater commit: it is added to `facts`, for whoever makes that to notify
    of it then."""
    token = _held.set(facts)
    try:
        yield
    finally:
        _held.reset(token)
