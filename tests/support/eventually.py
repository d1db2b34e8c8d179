"""Wait for something to become true, with a deadline instead of a guess.

The deadline ends a test that hangs; it says nothing about speed, since a loaded machine may be ten times slower.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(check: Callable[[], T], *, timeout: float = 60.0, interval: float = 0.02, message: str = "") -> T:
    """The first truthy answer of `check`, asked every `interval` seconds.

    An AssertionError inside `check` counts as "not yet"; any other error is passed on.

    Raises:
        AssertionError: nothing truthy came within `timeout` seconds; the last answer or reason is in the message.
    """
    deadline = time.monotonic() + timeout
    last: object = None
    while True:
        try:
            answer = check()
            if answer:
                return answer
            last = answer
        except AssertionError as exc:
            last = exc
        if time.monotonic() >= deadline:
            raise AssertionError(f"{message or 'It did not become true'} within {timeout} s; last: {last!r}")
        time.sleep(interval)
