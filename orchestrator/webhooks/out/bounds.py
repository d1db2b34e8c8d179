"""How long a try may take, whatever the other side does."""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds: until a connection stands, between two pieces of an answer, and for all of a try."""

    connect_s: float = 5.0
    read_s: float = 10.0
    total_s: float = 15.0


BOUNDS: Final = Bounds()


class Deadline:
    """The end of one try."""

    def __init__(self, total_s: float) -> None:
        self.total_s = total_s
        self._began = time.monotonic()

    @property
    def spent_s(self) -> float:
        """Seconds since the try began."""
        return time.monotonic() - self._began

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return self.spent_s >= self.total_s

    def left(self, most: float) -> float:
        """Seconds that a part of the try may take; more than zero, since zero means no limit to a socket."""
        return max(0.001, min(most, self.total_s - self.spent_s))

    @contextmanager
    def cuts(self, connection: socket.socket) -> Iterator[None]:
        """Ends the connection at the deadline. The time limit of a socket begins anew with each piece that comes, so a
        server that sends one byte at a time would stretch it without end."""
        twin = connection.dup()  # of the connection, whatever TLS makes of the socket

        def end() -> None:
            with suppress(OSError):  # it has ended
                twin.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self.left(self.total_s), end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            twin.close()


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` gives, for what knows no time limit. It goes on in its thread when the time is over.

    Raises:
        TimeoutError: it took longer.
    """
    done: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as exc:
            done.put((None, exc))

    threading.Thread(target=run, name="webhook-resolve", daemon=True).start()
    try:
        found, raised = done.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if raised is not None:
        raise raised
    return found  # type: ignore[return-value] # None only where `work` gives that
