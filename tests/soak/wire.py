"""A link that can be slow, stuck, or lose what it carries."""

import threading
import time

from tests.support.proxy import Loss, Proxy


class Wire(Proxy):
    """What a client sends waits, or is lost; replies pass unless they are held. `free` lets everything pass again."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._open = threading.Event()
        self._open.set()
        self._replies = threading.Event()
        self._replies.set()
        self._delay_s = 0.0
        self._resets = False

    def slow(self, delay_s: float) -> None:
        """Every request comes so much later."""
        self._delay_s = delay_s

    def stall(self) -> None:
        """Nothing arrives, and nobody is told."""
        self._open.clear()

    def hold(self) -> None:
        """Everything arrives and is done, and nobody hears of it before `free`."""
        self._replies.clear()

    def reset(self) -> None:
        """Every connection ends at its next request."""
        self._resets = True

    def free(self) -> None:
        """No more of it. What was stuck arrives now."""
        self._delay_s = 0.0
        self._resets = False
        self._open.set()
        self._replies.set()
        with self._guard:
            self._rule = None

    def pass_reply(self) -> None:
        self._replies.wait()

    def meant(self, request: bytes, words: list[bytes] | None) -> tuple[list[bytes] | None, Loss | None]:
        if self._delay_s:
            time.sleep(self._delay_s)
        self._open.wait()
        if self._resets:
            return None, "request"
        return super().meant(request, words)
