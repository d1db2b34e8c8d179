"""The channels that a watcher subscribes to: for as long as somebody waits, whatever becomes of the connection."""

import math
import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final
from uuid import UUID

from orchestrator.delivery.line import ERRORS, Line

_TIDY_S: Final = 1.0
"""How often channels that nobody waits on are unsubscribed from."""
_QUIET_S: Final = 10.0
"""A server that is silent for this long is asked for an answer,"""
_ANSWER_S: Final = 5.0
"""and has this long to give one."""


@dataclass(slots=True)
class Heard:
    """What came in."""

    told: list[UUID] = field(default_factory=list)
    """Runs that may have ended."""
    stood: list[UUID] = field(default_factory=list)
    """Runs that are subscribed to from now on."""
    lost: bool = False
    """The connection was lost: no hints, until channels are subscribed to again."""


class Subscriptions:
    """For one thread, which alone uses the connection."""

    def __init__(self, line: Line, bell: socket.socket, channel: Callable[[UUID], str]) -> None:
        self._line = line
        self._bell = bell
        self._channel = channel
        self._wanted: dict[str, set[UUID]] = {}
        self._asked: set[str] = set()
        self._standing: set[str] = set()
        self._connection: Any = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(bell, selectors.EVENT_READ)
        self._heard_at = 0.0
        self._pinged_at: float | None = None
        self._tidy_at = 0.0

    def want(self, run_id: UUID) -> None:
        """Listen for this run."""
        self._wanted.setdefault(self._channel(run_id), set()).add(run_id)

    def drop(self, run_id: UUID) -> None:
        """Nobody waits for this run any more. Its channel is unsubscribed from some time later, with others."""
        self._wanted.get(self._channel(run_id), set()).discard(run_id)

    def stands(self, run_id: UUID) -> bool:
        """Whether a hint of its end would arrive: its channel is subscribed to."""
        return self._channel(run_id) in self._standing

    @property
    def coming(self) -> bool:
        """Whether what is wanted will probably be subscribed to within a moment."""
        return self._connection is not None or self._line.coming

    def doubt(self) -> None:
        """A hint did not come: ask the server for an answer now."""
        self._heard_at = -math.inf

    def close(self) -> None:
        """Stop listening; the connection belongs to the line, which keeps it."""
        self._selector.close()

    def hear(self, timeout_s: float) -> Heard:
        """What comes in within that time; back at once when the bell rings."""
        heard = Heard()
        try:
            self._renew(heard)
            self._ask()
            self._selector.select(max(0.0, min(timeout_s, self._silence_s())))
            self._quiet_bell()
            self._read(heard)
        except ERRORS as exc:
            self._line.lost(self._connection, exc)
            self._renew(heard)
        return heard

    def _renew(self, heard: Heard) -> None:
        connection = self._line.get()
        if connection is self._connection:
            return
        if self._connection is not None:
            heard.lost = True
            self._selector.close()
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._bell, selectors.EVENT_READ)
        self._asked.clear()
        self._standing.clear()
        self._connection = connection
        self._heard_at, self._pinged_at = monotonic(), None
        if connection is not None:
            self._selector.register(connection._sock, selectors.EVENT_READ)  # kombu does it like this, too

    def _ask(self) -> None:
        if self._connection is None:
            return
        now = monotonic()
        if new := self._wanted.keys() - self._asked:
            self._asked |= new
            self._send("SUBSCRIBE", *new)
        if now >= self._tidy_at:
            self._tidy_at = now + _TIDY_S
            self._tidy()
        if self._pinged_at is None:
            if self._wanted and now - self._heard_at >= _QUIET_S:
                self._pinged_at = now
                self._send("PING")
        elif now - self._pinged_at >= _ANSWER_S:
            raise TimeoutError(f"no answer within {_ANSWER_S:g} s")

    def _tidy(self) -> None:
        if left := [channel for channel, runs in self._wanted.items() if not runs]:
            for channel in left:
                del self._wanted[channel]
            self._asked -= set(left)
            self._standing -= set(left)
            self._send("UNSUBSCRIBE", *left)

    def _silence_s(self) -> float:
        """How long nothing may come in before something is done about it."""
        if self._connection is None or not (self._wanted or self._pinged_at):
            return math.inf
        until = self._heard_at + _QUIET_S if self._pinged_at is None else self._pinged_at + _ANSWER_S
        return until - monotonic()

    def _send(self, *words: str) -> None:
        self._connection.send_command(*words, check_health=False)

    def _quiet_bell(self) -> None:
        with suppress(BlockingIOError):
            self._bell.recv(4096, socket.MSG_DONTWAIT)

    def _read(self, heard: Heard) -> None:
        connection = self._connection
        while connection is not None and connection.can_read(0):
            reply = connection.read_response()
            self._line.works()
            self._heard_at, self._pinged_at = monotonic(), None
            if isinstance(reply, list):
                self._understand(reply, heard)

    def _understand(self, reply: list[Any], heard: Heard) -> None:
        kind, about = reply[:2]
        if kind == "message":
            with suppress(ValueError):  # somebody else's
                heard.told.append(UUID(hex=reply[2]))
        elif kind == "subscribe" and about in self._asked:
            self._standing.add(about)
            heard.stood += self._wanted[about]
