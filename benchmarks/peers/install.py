"""One virtual environment per peer, made before anything is measured. Measuring itself downloads nothing."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.peers.registry import Peer
from benchmarks.processes import BenchFailed
from benchmarks.workloads import Say

_INSTALL_S: Final = 600.0


class MissingProgram(Exception):
    """What to tell the user."""


def python_of(peer: Peer, folder: Path) -> Path:
    return folder / peer.name / "bin" / "python"


def install(peers: Sequence[Peer], folder: Path, say: Say) -> None:
    """Make each environment whose pins are not those it was made with.

    Raises:
        BenchFailed: pip could not install one.
        MissingProgram: an environment lacks a program of its peer.
    """
    for peer in peers:
        if not _up_to_date(peer, folder):
            say(f"installing {peer.title}")
            _make(peer, folder)
        _check(peer, folder)


def _stamp(peer: Peer, folder: Path) -> Path:
    return folder / peer.name / "installed"


def _wanted(peer: Peer) -> str:
    return hashlib.sha256(peer.pins.read_bytes()).hexdigest()


def _up_to_date(peer: Peer, folder: Path) -> bool:
    stamp = _stamp(peer, folder)
    return stamp.is_file() and stamp.read_text() == _wanted(peer)


def _make(peer: Peer, folder: Path) -> None:
    home = folder / peer.name
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    _run(peer, [sys.executable, "-m", "venv", str(home)])
    pip = [str(python_of(peer, folder)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run(peer, [*pip, "--requirement", str(peer.pins)])
    _stamp(peer, folder).write_text(_wanted(peer))


def _run(peer: Peer, command: list[str]) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_INSTALL_S
    )
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
        raise BenchFailed(
            f"{peer.title} could not be installed: {errors[-1]} Fix: see {peer.pins.name}, or leave it out with --only."
        )


def _check(peer: Peer, folder: Path) -> None:
    home = python_of(peer, folder).parent
    for program in ("python", *peer.programs):
        if not (home / program).exists():
            raise MissingProgram(
                f"{peer.title} has no program {program!r} in {home}. Fix: remove {home.parent} and run this again"
            )
