"""How one of our programs ends when it cannot start."""

import sys
from types import TracebackType

from orchestrator.errors import OrchestratorError


class exit_with_message:
    """An error of ours ends the program with one line and its exit code, not with a traceback."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(exc, OrchestratorError):
            sys.stderr.write(f"{exc}\n")
            sys.stderr.flush()
            raise SystemExit(exc.exit_code) from None
