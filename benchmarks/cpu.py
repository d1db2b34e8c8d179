"""CPU seconds by process role, of the living and of the children that ended."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psutil

TICK_S = 0.01
"""The kernel counts other processes' time in hundredths of a second; a round has to be long enough for that."""


@dataclass(frozen=True)
class Cpu:
    """Seconds by role: `worker`, `children`, `client`, `postgres`, `valkey`."""

    by_role: Mapping[str, float] = field(default_factory=dict)

    def __sub__(self, earlier: "Cpu") -> "Cpu":
        return Cpu({role: value - earlier.by_role.get(role, 0.0) for role, value in self.by_role.items()})

    @property
    def total(self) -> float:
        return sum(self.by_role.values())

    def ms_per(self, count: int) -> dict[str, float]:
        return {role: value * 1000 / count for role, value in self.by_role.items()}


def together(workers: Sequence[int], servers: Mapping[str, int]) -> Cpu:
    """As `read`, for several worker processes, each with all its children."""
    roles = {"client": time.process_time(), "worker": sum(_tree(pid) for pid in workers)}
    return Cpu({**roles, **{role: _tree(pid) for role, pid in servers.items()}})


def read(worker: int | None, servers: Mapping[str, int]) -> Cpu:
    """Now. `worker` is the pid of a worker's main process; `servers` maps roles to pids; the client is this process."""
    roles = {"client": time.process_time()}
    if worker is not None:
        main = psutil.Process(worker).cpu_times()
        roles["worker"] = main.user + main.system
        roles["children"] = _tree(worker) - roles["worker"]
    return Cpu({**roles, **{role: _tree(pid) for role, pid in servers.items()}})


def _tree(pid: int) -> float:
    """A process, its descendants, and what those had that ended and were waited for."""
    process = psutil.Process(pid)
    found = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found += times.user + times.system + times.children_user + times.children_system
    return found
