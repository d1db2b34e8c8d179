"""Catches what a handler logs and prints: a handler of the root logger, and a layer over stdout and stderr.

Both pass everything on. Whose line it is says `observe.scope`, as it does of every line of the log; a line of `ctx.log`
from a thread of the handler's own says it itself.
"""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO

from orchestrator.observe.correlation import STEP_LOGGER, correlate
from orchestrator.observe.scope import Kept, Scope, current
from orchestrator.workers.run.lines import Lines

_open: dict[tuple[object, ...], Lines] = {}
"""By run, step and attempt."""
_install: Final = threading.Lock()
_OURS: Final = ("orchestrator.", "celery.", "kombu.")
_KEYS: Final = ("run_id", "flow", "step_key", "attempt")
_FORMAT: Final = logging.Formatter()


@contextmanager
def capturing(scope: Scope, lines: Lines) -> Iterator[None]:
    """What is logged and printed in the attempt's scope goes to these lines, until the end of the block."""
    install()
    key = tuple(scope.keys.values())
    _open[key] = scope.lines = lines
    try:
        yield
    finally:
        scope.lines = None
        del _open[key]
        lines.close()


def install() -> None:
    """Into this process, once; again where stdout, stderr or the handlers were replaced."""
    root = logging.getLogger()
    if not any(isinstance(one, _ToLines) for one in root.handlers):
        with _install:
            root.addHandler(_ToLines())
    correlate(root.handlers)
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


def _of(record: logging.LogRecord) -> Kept | None:
    facts = record.__dict__
    if record.name == STEP_LOGGER and (said := _open.get(tuple(map(facts.get, _KEYS)))) is not None:
        return said
    if record.name.startswith(_OURS) and record.name != STEP_LOGGER:
        return None
    return _here()


def _here() -> Kept | None:
    scope = current()
    return None if scope is None else scope.lines


class _Tee:
    """A stream that passes all on, and what is written in a handler to its lines, too."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        written = self._stream.write(text)
        lines = _here()
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
