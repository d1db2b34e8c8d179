"""What `orchestrator dev` prints: one ready block on stdout, lines on stderr."""

import contextlib
import json
import queue
import sys
import threading

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from orchestrator.embedded.discovery import DevState

_BACKLOG_LINES = 10_000


class Lines:
    """Writes lines to stderr from a thread of its own, and drops them when nobody reads.

    A full pipe on stderr would otherwise stop the readers of the workers' pipes, and then the workers.
    """

    def __init__(self) -> None:
        self._waiting: queue.Queue[str | None] = queue.Queue(_BACKLOG_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="dev-output", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """A line of `dev` itself."""
        self.put("dev", text)

    def put(self, source: str, text: str) -> None:
        try:
            self._waiting.put_nowait(f"{source} | {text}\n")
        except queue.Full:
            self._dropped += 1

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left, if someone reads it in time."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)

    def _write_all(self) -> None:
        while (line := self._waiting.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            note = f"dev | {dropped} lines were dropped, because stderr was not read\n" if dropped else ""
            with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
                sys.stderr.write(note + line)
                if self._waiting.empty():
                    sys.stderr.flush()


def ready(state: DevState, as_json: bool) -> None:
    """The one thing on stdout. A reader that is gone does not matter."""
    with contextlib.suppress(OSError, ValueError):
        if as_json:
            print(json.dumps(state.public()), flush=True)
        else:
            Console(file=sys.stdout, soft_wrap=True).print(_panel(state))
            sys.stdout.flush()


def _panel(state: DevState) -> Panel:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    flows = ", ".join(state.flows) or "none yet: give --flows module or --flows path/to/file.py"
    for name, value in (
        ("flows", flows),
        ("database", state.database_url),
        ("broker", state.broker_url),
        ("Flower", state.flower_url or "not running"),
        ("data", state.data_dir),
        ("workers", f"{len(state.pids.workers)} (pid {', '.join(map(str, state.pids.workers))})"),
    ):
        table.add_row(name, value)
    hint = "Start a run from another terminal: orchestrator run start FLOW --wait.  Ctrl-C stops everything."
    return Panel(table, title="orchestrator dev is ready", subtitle=hint, title_align="left", subtitle_align="left")
