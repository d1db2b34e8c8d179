"""Catches what a handler logs and prints: a handler of the root logger, and a layer over stdout and stderr.

Both pass everything on. Whose line it is tells a context variable, which coroutines and `asyncio.to_thread` inherit; a
line of `ctx.log` from a thread of the handler's own says it itself.
"""

import logging
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TextIO

from orchestrator.workers.run.lines import Lines

_current: ContextVar[Lines | None] = ContextVar("step lines", default=None)
_open: dict[tuple[str, str, object], Lines] = {}
"""By run, step and attempt."""
_install: Final = threading.Lock()
_OURS: Final = ("orchestrator.", "celery.", "kombu.")
_STEP: Final = "orchestrator.step"
_FORMAT: Final = logging.Formatter()


@contextmanager
def capturing(lines: Lines) -> Iterator[None]:
    """What is logged and printed inside is the attempt's."""
    install()
    lease = lines.lease
    key = str(lease.run_id), lease.step_key, lease.attempt
    _open[key] = lines
    token = _current.set(lines)
    try:
        yield
    finally:
        _current.reset(token)
        del _open[key]
        lines.close()


async def within(lines: Lines, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The coroutine, in whose task the lines are the attempt's."""
    _current.set(lines)
    return await coroutine


def install() -> None:
    """Into this process, once; again where stdout, stderr or the handlers were replaced."""
    root = logging.getLogger()
    if not any(isinstance(one, _ToLines) for one in root.handlers):
        with _install:
            root.addHandler(_ToLines())
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Tee):
            setattr(sys, name, _Tee(stream))


class _ToLines(logging.Handler):
    """Never raises: a step does not fail because of what it logs."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            lines = _of(record)
            if lines is not None:
                lines.add(record.levelname, _FORMAT.format(record))
        except Exception:  # its arguments do not fit its text, or a str() raised: the other handlers say so
            return


def _of(record: logging.LogRecord) -> Lines | None:
    if record.name == _STEP:
        facts = record.__dict__
        key = str(facts.get("run_id")), str(facts.get("step_key")), facts.get("attempt")
        return _open.get(key) or _current.get()
    return None if record.name.startswith(_OURS) else _current.get()


class _Tee:
    """A stream that passes all on, and what is written in a handler to its lines, too."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        written = self._stream.write(text)
        lines = _current.get()
        if lines is not None and not _is_logging():
            lines.write(text)
        return written

    def writelines(self, texts: Any) -> None:
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _is_logging() -> bool:
    """Whether a handler of the logging module writes this: the line was caught before."""
    frame = sys._getframe(2)
    return frame.f_globals.get("__name__") == "logging"
