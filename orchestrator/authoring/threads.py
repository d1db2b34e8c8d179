"""Threads of a step that its log lines know."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ContextExecutor(ThreadPoolExecutor):
    """A `ThreadPoolExecutor` whose work runs in a copy of the context of whoever submits it, as `asyncio.to_thread`
    does: what it logs and prints carries the run, the step and the attempt, with every kind of pool."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """As that of `ThreadPoolExecutor`; `map` uses it, too."""
        run: Callable[..., Any] = copy_context().run
        return super().submit(run, fn, *args, **kwargs)
