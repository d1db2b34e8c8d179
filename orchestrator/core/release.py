"""Which release this is."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def release() -> str:
    """The version of the installed package."""
    try:
        return version("flow-orchestrator")
    except PackageNotFoundError:
        return "unknown"
