"""The state file of a running `orchestrator dev`, and how a command in the same project finds it."""

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from orchestrator.servers.embedded.process import Identity
from orchestrator.servers.embedded.server import write_private

DATA_DIR: Final = ".orchestrator"
STATE_FILE: Final = "dev.json"


@dataclass(frozen=True)
class Pids:
    """None: not ours to run (a URL of the user's replaces it), or not running now."""

    postgres: int | None = None
    broker: int | None = None
    flower: int | None = None
    beat: int | None = None
    api: int | None = None
    workers: tuple[int, ...] = ()


@dataclass(frozen=True)
class DevState:
    """What a running `orchestrator dev` lets others know. The URLs hold passwords, and the key is one."""

    pid: int
    started: str
    """Start mark of `pid`, see `orchestrator.servers.embedded.process`."""
    token: str
    """In the environment of every process that this `dev` started, except its servers."""
    data_dir: str
    database_url: str
    broker_url: str
    flower_url: str | None = None
    api_url: str | None = None
    api_key: str | None = None
    flows: tuple[str, ...] = ()
    ready: bool = False
    pids: Pids = field(default_factory=Pids)

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.started)

    def public(self) -> dict[str, Any]:
        """The line of `orchestrator dev -o json`."""
        names = ("ready", "database_url", "broker_url", "api_url", "api_key", "flower_url", "data_dir", "pids")
        everything = asdict(self)
        return {name: everything[name] for name in names}

    def write(self) -> None:
        """Replace the state file; only its owner can read it."""
        write_private(Path(self.data_dir) / STATE_FILE, json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The state in `path`, running or not; None when there is none that we may trust."""
        try:
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                return None  # a folder above may be someone else's, and would send us to their server
            values = json.loads(path.read_text())
            pids = values.pop("pids")
            flows = tuple(values.pop("flows"))
            return cls(**values, flows=flows, pids=Pids(**{**pids, "workers": tuple(pids["workers"])}))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None


def find_running(start: Path) -> DevState | None:
    """The ready `orchestrator dev` of the project that `start` lies in, or whose data directory `start` is.

    Folders above are searched as git does. A state file of another user, or of a process that ended, does not count.
    """
    for path in _places(start.absolute()):
        state = DevState.read(path)
        if state is not None and state.ready and state.identity.is_alive():
            return state
    return None


def _places(start: Path) -> Iterator[Path]:
    yield start / STATE_FILE
    for folder in (start, *start.parents):
        yield folder / DATA_DIR / STATE_FILE
