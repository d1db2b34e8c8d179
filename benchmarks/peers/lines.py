"""The driver's half of the protocol: one JSON object a line, requests on standard input, answers on standard output.

A driver says `{"ready": true}` once, when what answers its steps is running. After that every request
`{"do": NAME, "count": N}` gets `{"seconds": S}`, the time by the driver's own clock, or `{"error": TEXT}`. The end of
the input means: stop everything. This module runs under each peer's own Python, so it imports the standard library
only.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, Protocol

CHAIN: Final = 5
_STOP_S: Final = 10.0
_READY_S: Final = 150.0


class Driver(Protocol):
    """What every peer is asked for; each call returns seconds."""

    def chains(self, count: int) -> float:
        """Start that many chains of five at once and see the end of each."""

    def plain(self, count: int) -> float:
        """Start that many chains one by one, keep 64 open, see the end of each."""

    def chain(self, count: int) -> float:
        """One chain, from the call that starts it to its seen end; `count` does not matter."""

    def fan(self, count: int) -> float:
        """`count` steps side by side and their join, to its seen end."""

    def start_each(self, count: int) -> float:
        """Start chains one after the other where nobody works on them."""

    def start_many(self, count: int) -> float:
        """The same as fast as one client process can."""

    def close(self) -> None: ...


DONE: Final = ("chains", "plain", "chain", "fan", "start_each", "start_many")


def serve(make: Callable[[], Driver]) -> None:
    """Answer until the input ends. What a library prints goes to standard error, not between the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    driver = make()
    try:
        _answer(answers, ready=True)
        for line in sys.stdin:
            request = json.loads(line)
            if request["do"] not in DONE:
                _answer(answers, error=f"there is nothing called {request['do']!r}")
                continue
            try:
                _answer(answers, seconds=getattr(driver, request["do"])(request["count"]))
            except Exception as exc:
                _answer(answers, error=f"{type(exc).__name__}: {exc}")
    finally:
        driver.close()


def _answer(answers: IO[str], **facts: object) -> None:
    answers.write(json.dumps(facts) + "\n")
    answers.flush()


def timed(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


class Processes:
    """The processes a driver starts: workers, a server of the peer's own. They stay in the driver's process group."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._started.append(
            subprocess.Popen(command, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stdout=2, stderr=2)
        )

    def python(self, module: str, *arguments: str) -> None:
        self.start([sys.executable, "-m", module, *arguments])

    def wait_for(self, answers: Callable[[], bool], what: str) -> None:
        """Until `answers`; fails when one of the processes has ended."""
        deadline = time.monotonic() + _READY_S
        while not answers():
            if any(one.poll() is not None for one in self._started) or time.monotonic() > deadline:
                raise RuntimeError(f"{what} did not get ready")
            time.sleep(0.05)

    def stop(self) -> None:
        for one in self._started:
            if one.poll() is None:
                one.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        for one in self._started:
            try:
                one.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


def answers_http(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    """A port of the loopback address that nobody has now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def beside_python(program: str) -> str:
    """The path of a program of this virtual environment."""
    return str(Path(sys.executable).parent / program)
