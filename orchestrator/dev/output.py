"""What `orchestrator dev` prints: one ready block on stdout, lines on stderr."""

import contextlib
import json
import logging
import queue
import shlex
import sys
import threading
from collections.abc import Sequence

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from orchestrator.observe.formats import JsonFormatter
from orchestrator.servers.embedded.discovery import DevState
from orchestrator.settings import variable

_BACKLOG_LINES = 10_000
_JSON = JsonFormatter()
_START = "orchestrator run start FLOW --wait"


class Lines:
    """Writes lines to stderr from a thread of its own, and drops them when nobody reads.

    A full pipe on stderr would otherwise stop the readers of the workers' pipes, and then the workers.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        """`as_json`: each line is an object; those that the processes write already are passed on as they are."""
        self._render = _object if as_json else _line
        self._waiting: queue.Queue[str | None] = queue.Queue(_BACKLOG_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="dev-output", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """A line of `dev` itself."""
        self.put("dev", text)

    def put(self, source: str, text: str) -> None:
        try:
            self._waiting.put_nowait(self._render(source, text))
        except queue.Full:
            self._dropped += 1

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left, if someone reads it in time."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)

    def _write_all(self) -> None:
        while None not in (lines := self._taken()):
            self._write(lines)
        self._write(lines)

    def _taken(self) -> list[str | None]:
        """What waits, once something does."""
        lines = [self._waiting.get()]
        with contextlib.suppress(queue.Empty):
            while True:
                lines.append(self._waiting.get_nowait())
        return lines

    def _write(self, lines: Sequence[str | None]) -> None:
        dropped, self._dropped = self._dropped, 0
        note = self._render("dev", f"{dropped} lines were dropped, because stderr was not read") if dropped else ""
        with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
            sys.stderr.write(note + "".join(line for line in lines if line is not None))
            sys.stderr.flush()


def _line(source: str, text: str) -> str:
    return f"{source} | {text}\n"


def _object(source: str, text: str) -> str:
    with contextlib.suppress(ValueError):
        if isinstance(json.loads(text), dict):
            return text + "\n"
    record = logging.LogRecord(f"orchestrator.dev.{source}", logging.INFO, "", 0, text, (), None)
    return _JSON.format(record) + "\n"


def ready(state: DevState, flows: tuple[str, ...] | None, *, as_json: bool, found: bool) -> None:
    """The one thing on stdout. A reader that is gone does not matter. `flows`: their names, None: not known. `found`:
    whether commands in this folder find the servers by themselves."""
    with contextlib.suppress(OSError, ValueError):
        if as_json:
            print(json.dumps({**state.public(), "flows": flows}), flush=True)
        else:
            _block(state, flows, Console(file=sys.stdout), found)
            sys.stdout.flush()


def _block(state: DevState, flows: tuple[str, ...] | None, console: Console, found: bool) -> None:
    """Lines between two rules, and no box: a URL that is wrapped inside a box cannot be copied."""
    console.print(Rule("[bold green]orchestrator dev is ready[/]", align="left"))
    for name, value in (
        ("flows", _flows(state.flows, flows)),
        ("database", state.database_url),
        ("broker", state.broker_url),
        ("API", f"{state.api_url}/api" if state.api_url else "not running"),
        ("API key", state.api_key or "none"),
        ("Flower", state.flower_url or "not running"),
        ("data", state.data_dir),
        ("beat", f"pid {state.pids.beat}" if state.pids.beat else "not running"),
        ("workers", f"{len(state.pids.workers)} (pid {', '.join(map(str, state.pids.workers))})"),
    ):
        console.print(Text.assemble((f"{name:<10}", "bold"), value), soft_wrap=True)
    if found:
        console.print(f"Start a run from another terminal, in this folder: {_START}", soft_wrap=True)
    else:
        console.print("Start a run from another terminal:", soft_wrap=True)
        for command in (_export(state), _START):
            console.print(Text(f"  {command}"), soft_wrap=True)
    console.print("Ctrl-C stops everything.", soft_wrap=True)
    console.print(Rule())


def _export(state: DevState) -> str:
    """Names the servers to all commands that follow."""
    urls = {"database_url": state.database_url, "broker_url": state.broker_url}
    return "export " + " ".join(f"{variable(name)}={shlex.quote(url)}" for name, url in urls.items())


def _flows(sources: tuple[str, ...], names: tuple[str, ...] | None) -> str:
    if not sources and not names:
        return "none yet: give --flows module or --flows path/to/file.py"
    origin = ", ".join(sources) or "installed packages"
    return origin if names is None else f"{', '.join(names)} (of {origin}; restart to load a change)"
