"""Noticing that this process is a forked child: what holds sockets, threads or locks of the parent starts afresh.

`os.fork`, `multiprocessing` and servers that load before they fork all run Python's hooks. A server that forks from C
without them (uWSGI without `py-call-osafterfork`) is noticed by the process id, at the next use.
"""

import encodings.idna  # noqa: F401  # by whom a host is looked up; a fork amid this import leaves the child without it
import os
from typing import Any, Final, Protocol
from weakref import WeakSet


class Forked(Protocol):
    """Something whose sockets, threads or locks must not be shared with the parent."""

    def after_fork(self) -> None:
        """Forget what the parent opened, its threads and locks included. Must not block, and must not close anything:
        the parent goes on using it."""


_known: Final[WeakSet[Forked]] = WeakSet()
_inherited: Final[list[Any]] = []
_pid = os.getpid()


def watch(one: Forked) -> None:
    """From now on `one.after_fork()` is called in each forked child, before anything else uses it there."""
    _known.add(one)


def inherited(*what: Any) -> None:
    """Keep these for as long as the child lives: collected, they would end a transaction or wake a thread that is the
    parent's."""
    _inherited.extend(what)


def notice() -> None:
    """To be called first by whatever is used in a child that ran no hooks. Costs a system call."""
    if os.getpid() != _pid:
        _in_child()


def _in_child() -> None:
    global _pid
    _pid = os.getpid()
    for one in list(_known):
        one.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
