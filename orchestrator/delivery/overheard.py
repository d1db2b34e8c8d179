"""Hints that any run ended, for whoever looks at all of them: a reason to look now, and no more."""

import selectors
import socket
from contextlib import suppress
from typing import Any

from orchestrator.delivery.hints import every
from orchestrator.delivery.line import ERRORS, Line
from orchestrator.settings import Settings


class Overheard:
    """For one thread. Without a broker, or while it is away, no hints come, and that is logged once."""

    def __init__(self, settings: Settings) -> None:
        self._pattern = every(settings)
        self._bell, self._rope = socket.socketpair()
        self._line = Line(settings, self.ring)
        self._connection: Any = None

    def ring(self) -> None:
        """Have the thread look up; from any thread."""
        with suppress(OSError):  # it rings already, or nobody is there
            self._rope.send(b"!", socket.MSG_DONTWAIT)

    def wait(self, timeout_s: float) -> None:
        """Return when a hint comes or the bell rings, or after that time."""
        try:
            self._renew()
            with selectors.DefaultSelector() as selector:
                selector.register(self._bell, selectors.EVENT_READ)
                if self._connection is not None:
                    selector.register(self._connection._sock, selectors.EVENT_READ)
                selector.select(timeout_s)
            with suppress(BlockingIOError):
                self._bell.recv(4096, socket.MSG_DONTWAIT)
            while self._connection is not None and self._connection.can_read(0):
                self._connection.read_response()
                self._line.works()
        except ERRORS as exc:
            self._line.lost(self._connection, exc)

    def _renew(self) -> None:
        connection = self._line.get()
        if connection is not self._connection:
            self._connection = connection
            if connection is not None:
                connection.send_command("PSUBSCRIBE", self._pattern, check_health=False)

    def close(self) -> None:
        """Nothing may be asked afterwards."""
        self._line.close()
        self._bell.close()
        self._rope.close()
