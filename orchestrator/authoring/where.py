"""Which line of the user's code an authoring error is about."""

import os
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final

_PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def caller_frame() -> FrameType | None:
    """The innermost frame outside this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not is_user_code(frame):
        frame = frame.f_back
    return frame


def is_user_code(frame: FrameType) -> bool:
    return not is_own(frame.f_code.co_filename)


def is_own(file: str) -> bool:
    """Whether a source file is one of this package."""
    return os.path.abspath(file).startswith(_PACKAGE)


def caller() -> str:
    """`file:line` of the user's code that led here."""
    frame = caller_frame()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "<unknown>:0"


def place_of(fn: Callable[..., Any]) -> str:
    """`file:line` where a function is defined."""
    code = getattr(fn, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else caller()


def place_in(traceback: TracebackType | None, file: str) -> str | None:
    """`file:line` of the innermost frame of a traceback that is in `file`."""
    found = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == file:
            found = f"{file}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return found
