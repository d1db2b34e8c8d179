"""PostgreSQL has no room left under `orchestrator dev`: workers and `dev` stay, say so, and go on when it has.

A small file system cannot be mounted without rights, so the limit on the size of files stands for it: what is written
beyond it fails, with "File too large" for "No space left on device". It is put on running processes.
"""

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.acceptance.test_dev import orchestrator, running
from tests.support.dev import project_in
from tests.support.eventually import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FULL = "File too large"
MB = 1_000_000
FLOWS = """
import os
from orchestrator import flow, step

@step
def make(megabytes: int) -> str:
    with open("made", "a") as made:
        made.write("x")
    return os.urandom(megabytes * 500_000).hex()

@step
def measure(text: str) -> int:
    return len(text)

@flow(name="big")
def big(megabytes: int) -> int:
    return measure(make(megabytes))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return project_in(tmp_path, FLOWS)


@contextmanager
def limited(size: int, *pids: int) -> Iterator[None]:
    """No file of these processes, and of what they start meanwhile, becomes larger than `size` bytes."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    _limit(pids, size)
    try:
        yield
    finally:
        _limit(pids, hard)


def _limit(pids: tuple[int, ...], soft: int) -> None:
    """The parents first, so that no child is missed."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for pid in pids:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
            _limit(tuple(child.pid for child in psutil.Process(pid).children()), soft)


def test_a_table_that_cannot_grow_costs_the_step_nothing(project: Path) -> None:
    """What cannot be recorded yet is recorded later: its handler does not run again."""
    with running(project) as dev:
        with limited(20 * MB, dev.info["pids"]["postgres"]):
            started = orchestrator(project, "run", "start", "big", "-i", "megabytes=30")
            assert started.returncode == 0, started.stderr
            eventually(lambda: FULL in dev.messages, message="the worker says what is full")
        with psycopg.connect(dev.info["database_url"], autocommit=True) as connection:

            def status() -> str:
                (row,) = connection.execute("SELECT status FROM flow_runs").fetchall()
                return str(row[0])

            eventually(lambda: status() == "succeeded", timeout=120, message="it goes on")
            attempts = connection.execute("SELECT step_key, attempt, status FROM flow_step_attempts").fetchall()
        assert sorted(attempts) == [("make", 1, "succeeded"), ("measure", 1, "succeeded")]
        assert (project / "made").read_text() == "x"
        assert dev.state.pids.workers == tuple(dev.info["pids"]["workers"])
        for told in ("Traceback", "INSERT", "UPDATE"):
            assert told not in dev.messages


def test_a_server_that_ends_for_lack_of_room_comes_back(project: Path) -> None:
    """PostgreSQL ends when its log of changes cannot be written, and cannot be started until there is room."""
    with running(project) as dev:
        # `dev` too, whose limit a new PostgreSQL inherits; a megabyte is enough for its own files.
        with limited(MB, dev.process.pid):
            eventually(lambda: _refused(project), timeout=60, message="a start is refused")
            eventually(lambda: "because its disk is full" in dev.messages, timeout=60, message="dev says what is full")
            assert dev.process.poll() is None
        eventually(lambda: "PostgreSQL is back" in dev.messages, timeout=60)
        done = orchestrator(project, "run", "start", "big", "-i", "megabytes=1", "--wait", "--timeout", "60")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(MB)
        assert dev.state.pids.workers == tuple(dev.info["pids"]["workers"])
        assert "Traceback" not in dev.messages
        assert "SELECT" not in dev.messages


def _refused(project: Path) -> bool:
    """Whether a start was, in one line that a person can read."""
    done = orchestrator(project, "run", "start", "big", "-i", "megabytes=1")
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("error: PostgreSQL at ")
        assert "Fix: " in last
    for told in ("Traceback", "INSERT", "SELECT"):
        assert told not in done.stderr
    return done.returncode != 0
