"""Processes that a handler forks end when they are told to, from their first moment on."""

import os
import signal
from collections.abc import Callable
from types import FrameType

import pytest

from orchestrator.workers.app import signals
from tests.support.forked import in_child


def told(number: int, frame: FrameType | None) -> None:
    """As a worker handles it: by nothing that ends the process."""


def ending_of(child: Callable[[], None]) -> int:
    """The exit code of a fork of a worker that does this."""
    pid = os.fork()
    if pid == 0:
        child()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def as_a_worker(number: signal.Signals) -> None:
    signal.signal(number, told)
    signals.forget_in_children.__wrapped__()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_a_child_has_none_of_the_workers_handlers(number: signal.Signals) -> None:
    def worker() -> None:
        as_a_worker(number)
        assert ending_of(lambda: os.kill(os.getpid(), number)) == -number
        assert signal.getsignal(number) is told
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()

    assert in_child(worker) == 0


def test_a_signal_is_not_lost_that_comes_before_the_child_has_forgotten_the_handlers() -> None:
    def worker() -> None:
        parent = os.getpid()

        def at_once() -> None:
            if os.getpid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)

        os.register_at_fork(after_in_child=at_once)
        as_a_worker(signal.SIGTERM)
        assert ending_of(lambda: None) == -signal.SIGTERM

    assert in_child(worker) == 0
