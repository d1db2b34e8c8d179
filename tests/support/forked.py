"""Work in a forked child of the test's process."""

import os
import signal
import time
import traceback
from collections.abc import Callable


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
