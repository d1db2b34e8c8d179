"""A handler's exception as people will read it: its own frames, not ours."""

import traceback
from pathlib import Path
from typing import Final

from orchestrator.authoring.modules import as_written
from orchestrator.core.facts import StepError

_MESSAGE_LIMIT: Final = 4_000
_OURS: Final = (str(Path(__file__).parent), str(Path(traceback.__file__).parent / "asyncio"))
_FUTURES: Final = str(Path(traceback.__file__).parent / "concurrent")


def step_error(exc: BaseException, message: str | None = None) -> StepError:
    """Name, message and the user's part of the traceback; fit to be stored."""
    kind = type(exc)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    text = message or str(exc) or name
    return StepError(
        type=as_written(name),
        message=storable(as_written(text)[:_MESSAGE_LIMIT]),
        traceback=storable(as_written(trimmed(exc))),
    )


def trimmed(exc: BaseException) -> str:
    """The traceback from the first frame that is not the worker's."""
    shown = traceback.TracebackException.from_exception(exc, compact=True)
    frames = list(shown.stack)
    while frames and frames[0].filename.startswith((*_OURS, _FUTURES)):
        del frames[0]
    shown.stack = traceback.StackSummary.from_list(frames)
    return "".join(shown.format())


def storable(text: str) -> str:
    """PostgreSQL text holds neither NUL nor lone surrogates."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
