"""A handler's exception as people will read it: its own frames, not ours."""

import sysconfig
import traceback
from pathlib import Path
from typing import Final

from orchestrator.authoring.modules import as_written
from orchestrator.core.facts import StepError

MESSAGE_LIMIT: Final = 4_000
_OURS: Final = (str(Path(__file__).parent), str(Path(traceback.__file__).parent / "asyncio"))
_FOREIGN: Final = (*_OURS, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), "<")
_PACKAGES: Final = frozenset({"site-packages", "dist-packages"})
_FUTURES: Final = str(Path(traceback.__file__).parent / "concurrent")


def step_error(exc: BaseException, message: str | None = None) -> StepError:
    """Name, message and the user's part of the traceback; fit to be stored, whatever the exception's own code does.
    Whoever records it cuts it, once it holds no secrets."""
    return StepError(
        type=as_written(named(exc)),
        message=storable(as_written(message or said(exc))),
        traceback=storable(as_written(trimmed(exc))),
        frame=storable(own_frame(exc)),
    )


def named(exc: BaseException) -> str:
    """The class, with its module unless it is a built-in."""
    kind = type(exc)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def said(exc: BaseException) -> str:
    """What the exception says; its name when that is nothing, and what is known when saying it fails."""
    try:
        return str(exc) or named(exc)
    except BaseException as failed:
        return f"{named(exc)} (its text cannot be shown: str() of it raised {named(failed)})"


def trimmed(exc: BaseException) -> str:
    """The traceback from the first frame that is not the worker's."""
    try:
        shown = traceback.TracebackException.from_exception(exc, compact=True)
        frames = list(shown.stack)
        while frames and frames[0].filename.startswith((*_OURS, _FUTURES)):
            del frames[0]
        shown.stack = traceback.StackSummary.from_list(frames)
        return "".join(shown.format())
    except BaseException as failed:
        return f"{named(exc)}: its traceback cannot be shown: {named(failed)}"


def own_frame(exc: BaseException) -> str:
    """File and function of the innermost frame that is the user's own, of no library; empty if none is."""
    found = ""
    trace = exc.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith(_FOREIGN) and not _PACKAGES & set(Path(code.co_filename).parts):
            found = f"{Path(code.co_filename).name} {code.co_qualname}"
        trace = trace.tb_next
    return as_written(found)


def storable(text: str) -> str:
    """PostgreSQL text holds neither NUL nor lone surrogates."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
