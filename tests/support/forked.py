"""Work in a forked child of the test's process."""

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def in_child(work: Callable[[], object], *, timeout: float = 60.0) -> int | None:
    """The exit code of a forked child that does `work`; None: it did not come back, and was killed."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


@contextmanager
def staying_child() -> Iterator[int]:
    """The pid of a forked child that does nothing, until the block ends."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(told, b"!")  # hooks that run after a fork have run
        while True:
            signal.pause()
    try:
        os.read(ready, 1)
        yield pid
    finally:
        os.close(ready)
        os.close(told)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
