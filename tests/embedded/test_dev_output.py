"""What the processes of `dev` print arrives whole and in order, a batch at a time."""

import io
import json
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from orchestrator.dev.children import Child, Role
from orchestrator.dev.output import Lines
from tests.support.eventually import eventually

PRINTS = """
import os, sys
for number in range(8000):
    print("line", number)
sys.stdout.flush()
os.write(1, b"one\\r\\n\\ntwo \\xff\\nthe end")
"""


def test_every_line_of_a_process_is_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also those beyond what a pipe holds, an empty one, one that is not UTF-8, and a last one without an end."""
    lines = Lines()
    role = Role("worker-1", [sys.executable, "-c", PRINTS], dict(os.environ), signal.SIGTERM, tmp_path)
    child = Child(role, lines)
    child.start()
    try:
        eventually(lambda: not child.is_running(), timeout=60)
        child.finish()
        assert child.tail.splitlines()[-3:] == ["  ", "  two \N{REPLACEMENT CHARACTER}", "  the end"]
    finally:
        child.send(signal.SIGKILL)
    lines.close(60)
    said = capfd.readouterr().err.splitlines()
    wanted = [f"worker-1 | {text}" for text in (*(f"line {number}" for number in range(8000)), "one", "")]
    assert said == [*wanted, "worker-1 | two \N{REPLACEMENT CHARACTER}", "worker-1 | the end"]


def test_as_json_the_objects_of_processes_are_passed_on_and_the_rest_is_made_one(
    capfd: pytest.CaptureFixture[str],
) -> None:
    lines = Lines(as_json=True)
    lines.put("worker-1", '{"event": "step.succeeded", "ms": 1.5}')
    lines.put("worker-1", "printed by a step")
    lines.put("worker-1", '{"not": "one", ')
    lines.say("stopped")
    lines.close(60)
    first, *rest = capfd.readouterr().err.splitlines()
    assert first == '{"event": "step.succeeded", "ms": 1.5}'
    told = [(one["level"], one["logger"], one["event"]) for one in map(json.loads, rest)]
    assert told == [
        ("INFO", "orchestrator.dev.worker-1", "printed by a step"),
        ("INFO", "orchestrator.dev.worker-1", '{"not": "one", '),
        ("INFO", "orchestrator.dev.dev", "stopped"),
    ]


class _Terminal(io.StringIO):
    """Somebody pressed Ctrl-S."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped, self.goes_on = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.stopped.set()
        assert self.goes_on.wait(60)
        return super().write(text)


def test_what_nobody_reads_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    lines = Lines()
    lines.say("first")
    assert terminal.stopped.wait(60)
    for number in range(10_007):
        lines.put("worker-1", f"line {number}")
    terminal.goes_on.set()
    eventually(lambda: "line 9999" in terminal.getvalue())
    lines.close(60)
    first, note, *rest = terminal.getvalue().splitlines()
    assert (first, note) == ("dev | first", "dev | 7 lines were dropped, because stderr was not read")
    assert rest == [f"worker-1 | line {number}" for number in range(10_000)]
