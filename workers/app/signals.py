"""A process that a handler forks is not a worker: it has none of the worker's own signal handlers.

With them SIGTERM would not end it, and `multiprocessing` waits for that. Pool children set up their own afterwards.
"""

import os
import signal
import threading
from functools import cache
from typing import Final

_HANDLED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_here = threading.local()


@cache
def forget_in_children() -> None:
    """In every process that is forked from now on. Once per process."""
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_forget)


def _hold() -> None:
    """What is sent to a child that has only just begun waits until it has no handler of ours, or it would be lost:
    a `multiprocessing.Pool` that is ended at once would wait for that child for ever."""
    _here.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)


def _let_go() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _here.mask)


def _forget() -> None:
    for number in _HANDLED:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    _let_go()
