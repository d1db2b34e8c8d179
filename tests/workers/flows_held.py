"""A step that naps, and a signal that holds the main thread of its worker up: until a file is there."""

import os
import signal
import time
from pathlib import Path
from types import FrameType

from orchestrator import Context, flow, step

HOLD = signal.SIGRTMIN


@step
def nap(ctx: Context, seconds: float) -> str:
    time.sleep(seconds)
    return os.environ.get("NOTIFY_SOCKET", "none")


@flow(name="held")
def held(seconds: float) -> str:
    return nap(seconds)


def _hold(number: int, frame: FrameType | None) -> None:
    """As a bug would: other threads go on, this one does not."""
    go_on = Path(os.environ["TEST_GO_ON"])
    while not go_on.exists():
        time.sleep(0.05)


signal.signal(HOLD, _hold)
