"""The data directory of `orchestrator dev`: one `dev` at a time, and what a killed one left is cleaned up."""

import fcntl
import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from orchestrator.errors import DevFailed, DevRunning
from orchestrator.servers.embedded import process
from orchestrator.servers.embedded.discovery import STATE_FILE, DevState
from orchestrator.servers.embedded.process import Identity
from orchestrator.servers.embedded.server import write_private
from orchestrator.servers.here import SIGNING_KEY

MARK: Final = "FLOW_ORCHESTRATOR_DEV"
"""Name of the variable that marks every process a `dev` starts, and all that those start."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the data directory and lock it; the kernel releases the lock however we end.

    Raises:
        DevRunning: another `dev` has locked it.
        DevFailed: it cannot be made or written.
    """
    try:
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        if not (folder / ".gitignore").exists():
            (folder / ".gitignore").write_text("*\n")
        lock = os.open(folder / "dev.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise DevFailed(
            f"The data directory {folder} cannot be used: {exc.strerror}. Fix: give another one with --data-dir."
        ) from exc
    try:
        _lock(lock, folder)
        yield
    finally:
        os.close(lock)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        state = DevState.read(folder / STATE_FILE)
        who = f" (pid {state.pid})" if state else ""
        raise DevRunning(
            f"Another `orchestrator dev`{who} uses {folder}. Fix: stop it, or give this one its own --data-dir.",
            pid=state.pid if state else None,
        ) from None


def clean_up_predecessor(folder: Path, say: Callable[[str], None]) -> None:
    """End the workers and Flower of a `dev` that was killed. Its servers are adopted or restarted by `stack`."""
    state = DevState.read(folder / STATE_FILE)
    if state is None:
        return
    left = end_marked(state.token)
    if left:
        say(f"ended {left} processes that a killed `orchestrator dev` (pid {state.pid}) had left")
    forget(folder)


def forget(folder: Path) -> None:
    (folder / STATE_FILE).unlink(missing_ok=True)


def end_marked(token: str, patience_s: float = 3.0) -> int:
    """End every process that carries `token`, and what it started meanwhile; the number found at first."""
    found = process.marked(MARK, token)
    first = len(found)
    for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0), (signal.SIGKILL, 5.0)):
        _signal_all(found, number, wait_s)
        found = process.marked(MARK, token)
        if not found:
            break
    return first


def _signal_all(processes: Sequence[Identity], number: signal.Signals, wait_s: float) -> None:
    for each in processes:
        each.send(number)
    deadline = time.monotonic() + wait_s
    for each in processes:
        each.wait(deadline - time.monotonic())


def remembered_port(folder: Path, name: str) -> int:
    """The port that `name` had last time in this data directory, 0 if none."""
    return _ports(folder).get(name, 0)


def remember_port(folder: Path, name: str, port: int) -> None:
    write_private(folder / "ports.json", json.dumps({**_ports(folder), name: port}))


def make_signing_key(folder: Path) -> None:
    """What secrets of subscriptions are made of; the same one at each start."""
    path = folder / SIGNING_KEY
    if not path.exists():
        write_private(path, secrets.token_hex(32))


def _ports(folder: Path) -> dict[str, int]:
    """By name; none where the file cannot be read."""
    try:
        return {name: int(port) for name, port in json.loads((folder / "ports.json").read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
