"""Which attempt runs here: what a log line, a printed line or a span made inside a step belongs to.

A context variable says so, which coroutines, `asyncio.to_thread` and `ContextExecutor` take along. A thread that a step
starts itself has a context of its own; where one step runs at a time, as in a pool child, a thread that began after the
step did is the step's all the same. An older one is nobody's: it may still do the work of an earlier step.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from orchestrator.core.happened import Step


class Kept(Protocol):
    """Where the lines of an attempt are kept."""

    def add(self, level: str, text: str) -> None:
        """What was logged: a line, or several."""

    def write(self, text: str) -> None:
        """What was printed: parts of lines."""


@dataclass(eq=False)
class Scope:
    """One attempt. `secrets`: the texts that must not be shown, as far as they are known by now."""

    step: Step
    secrets: Callable[[], set[str]] = set
    lines: Kept | None = None
    """While its handler runs."""
    older: frozenset[threading.Thread] = frozenset()
    """The threads that were there before it, where it is the only one."""
    ended: bool = False

    @cached_property
    def keys(self) -> Mapping[str, Any]:
        """What every line of it carries."""
        step = self.step
        return {"run_id": str(step.run_id), "flow": step.flow, "step_key": step.step_key, "attempt": step.attempt}


_current: ContextVar[Scope | None] = ContextVar("orchestrator attempt", default=None)
_only: Scope | None = None


@contextmanager
def inside(scope: Scope, *, alone: bool) -> Iterator[None]:
    """What happens in this block is the attempt's. `alone`: this process runs no other meanwhile."""
    global _only
    token, before = _current.set(scope), _only
    if alone:
        scope.older = frozenset(threading.enumerate())
        _only = scope
    try:
        yield
    finally:
        _current.reset(token)
        scope.ended = True
        if alone:
            _only, scope.older = before, frozenset()


def own() -> Scope | None:
    """The attempt that this thread runs. Not one that is over: where threads inherit their context, as Python 3.14 can
    have them do, those that we start once, amid some attempt, would be told to be that one's for ever."""
    scope = _current.get()
    return None if scope is None or scope.ended else scope


def current() -> Scope | None:
    """The same; of a thread that says nothing about it, the only attempt that runs here, if the thread is younger."""
    scope = _current.get()
    if scope is None and (only := _only) is not None and not only.ended:
        return only if threading.current_thread() not in only.older else None
    return scope
