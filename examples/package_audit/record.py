"""One distribution's RECORD against the files on disk. Plain Python: nothing here knows of flows."""

import base64
import csv
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Literal

State = Literal["intact", "modified", "missing", "unverifiable"]
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A line of RECORD: a path relative to the installation folder, and what its content must be."""

    path: str
    hash: str
    """`sha256=…` in URL-safe base64 without padding; empty where the installer could not know."""
    size: str


@dataclass(frozen=True)
class Verdict:
    state: State
    reason: str = ""


def find(paths: tuple[str, ...]) -> Iterator[tuple[Distribution, Path]]:
    """Every distribution in `paths` (none: this environment's own) with its installation folder, each once."""
    seen = set()
    for one in distributions(path=list(paths)) if paths else distributions():
        folder = Path(os.path.abspath(str(one.locate_file(""))))
        mark = (folder, one.metadata["Name"], one.version)
        if mark not in seen:  # sys.path may hold a folder twice
            seen.add(mark)
            yield one, folder


def entries(folder: Path, name: str) -> list[Entry] | None:
    """The lines of its RECORD; None when it has none, as one that an operating system's packages brought.

    `Distribution.files` would be shorter, but leaves out the files that are missing from Python 3.12 on.
    """
    for one in distributions(name=name, path=[str(folder)]):
        text = one.read_text("RECORD")
        if text is not None:
            rows = ([*row, "", ""] for row in csv.reader(text.splitlines()) if row)
            return [Entry(path, digest, size) for path, digest, size, *_ in rows]
    return None


def verify(folder: Path, entry: Entry) -> Verdict:
    """Read the file and say what became of it."""
    file = folder / entry.path
    if not entry.hash:
        return _without_hash(file)
    algorithm, _, expected = entry.hash.partition("=")
    if algorithm not in hashlib.algorithms_guaranteed or algorithm.startswith("shake"):
        return Verdict("unverifiable", f"hash {algorithm} is not known")
    try:
        size, digest = _read(file, lambda: hashlib.new(algorithm))
    except FileNotFoundError:
        return Verdict("missing")
    except OSError as exc:
        return Verdict("unverifiable", exc.strerror or type(exc).__name__)
    if entry.size.isdigit() and size != int(entry.size):
        return Verdict("modified", f"{size:,} bytes, should be {int(entry.size):,}")
    found = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return Verdict("intact") if found == expected.rstrip("=") else Verdict("modified", f"{algorithm} differs")


def _without_hash(file: Path) -> Verdict:
    """RECORD cannot hold its own hash; compiled files come and go, so an absent one is not missed."""
    if file.suffix == ".pyc":
        return Verdict("unverifiable", "compiled")
    if not file.exists():
        return Verdict("missing")
    return Verdict("unverifiable", "RECORD itself" if file.name == "RECORD" else "no hash recorded")


def _read(file: Path, new: "Callable[[], hashlib._Hash]") -> tuple[int, bytes]:
    size, digest = 0, new()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            size += len(chunk)
            digest.update(chunk)
    return size, digest.digest()
