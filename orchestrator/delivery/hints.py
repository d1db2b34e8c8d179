"""Hints that runs ended, through Redis: published after the commit, to whoever waits for the run.

A hint says which run to look at, and no more. A lost one costs time, a wrong one a look.
"""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from orchestrator import forks
from orchestrator.delivery.line import ERRORS, Line
from orchestrator.settings import Settings

_KEPT: Final = 1000
"""Hints that wait for a connection; the oldest are dropped, since their waiters have looked by now."""
_CLOSE_S: Final = 1.0


def channel(settings: Settings, run_id: UUID) -> str:
    """The channel on which the end of this run is announced."""
    return f"{settings.key_prefix}ended:{run_id.hex}"


def every(settings: Settings) -> str:
    """The pattern of all those channels."""
    return f"{settings.key_prefix}ended:*"


def payload(run_id: UUID) -> str:
    """The message."""
    return run_id.hex


class EndHints:
    """Announces that runs ended. One per process; safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._line = Line(settings, self._flush)
        self._begin()
        forks.watch(self)

    def _begin(self) -> None:
        self._guard = threading.Lock()
        self._unsent: deque[UUID] = deque(maxlen=_KEPT)

    def after_fork(self) -> None:
        """See `forks.Forked`: what was not sent is the parent's."""
        self._line.after_fork()
        self._begin()

    def announce(self, run_ids: Sequence[UUID]) -> None:
        """These have ended, and that is committed. Never raises, and waits for no answer."""
        forks.notice()
        with self._guard:
            self._unsent.extend(run_ids)
        self._flush()

    def close(self) -> None:
        """Send what waits, if a connection comes soon; nothing may be announced afterwards."""
        if self._unsent:
            self._line.settle(_CLOSE_S)
        with self._guard:  # nobody is sending
            self._line.close()

    def _flush(self) -> None:
        connection = self._line.get()
        if connection is None:
            return
        with self._guard:
            try:
                self._send(connection)
            except ERRORS as exc:
                self._line.lost(connection, exc)

    def _send(self, connection: Any) -> None:
        """The answers to earlier messages are read first: they show whether the connection has ended."""
        while connection.can_read(0):
            connection.read_response()
            self._line.works()
        if self._unsent:
            commands = [("PUBLISH", channel(self._settings, one), payload(one)) for one in self._unsent]
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            self._unsent.clear()
