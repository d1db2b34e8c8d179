"""Releases of the flows' code: which workers are of one, and what only they can run."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from orchestrator.core.facts import pair

_DIGITS: Final = 8


class ReleaseState(StrEnum):
    """Whether a release may be stopped."""

    CURRENT = "current"  # its flows are the current versions
    DRAINING = "draining"  # open runs, or new ones, need it
    DRAINED = "drained"  # nothing needs it: its workers may be stopped


class Worker(Protocol):
    """Of a live worker, what tells its release."""

    @property
    def label(self) -> str | None: ...
    @property
    def release(self) -> str: ...
    @property
    def handlers(self) -> Sequence[str]: ...
    @property
    def versions(self) -> Mapping[str, str]: ...
    @property
    def refuses(self) -> Mapping[str, str]: ...
    @property
    def queues(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version of a flow that is current, or that open runs are pinned to."""

    flow: str
    manifest_hash: str
    ordinal: int | None
    current: bool
    runs: int
    """Open ones."""
    tasks: frozenset[str]
    """Those of its steps that have a handler; none, if this release cannot read the version."""


@dataclass(frozen=True, slots=True)
class Need:
    """A version, and why it needs what it needs: `runs` are open, or new ones get it (`current`)."""

    flow: str
    manifest_hash: str
    ordinal: int | None
    current: bool
    runs: int


@dataclass(frozen=True, slots=True)
class Release:
    """Workers of the same code. `needs`: what no other live worker can run."""

    name: str
    state: ReleaseState
    workers: int
    queues: tuple[str, ...]
    package: tuple[str, ...]
    """The releases of this package that they run on."""
    needs: tuple[Need, ...]


@dataclass(frozen=True, slots=True)
class Rollout:
    """All that live workers are of; and the versions that need code which no live worker has."""

    releases: tuple[Release, ...]
    unserved: tuple[Need, ...]


def name_of(worker: Worker) -> str:
    """What it was called (ORCHESTRATOR_RELEASE); else made of its flows' versions."""
    if worker.label is not None:
        return worker.label
    code = "\n".join(f"{flow} {version}" for flow, version in sorted(worker.versions.items()))
    return f"code-{hashlib.sha256(code.encode()).hexdigest()[:_DIGITS]}"


def judged(workers: Sequence[Worker], wanted: Sequence[Wanted]) -> Rollout:
    """Who needs whom. A worker is believed that takes a task if it has a handler for it and did not refuse it."""
    members: dict[str, list[Worker]] = {}
    for worker in workers:
        members.setdefault(name_of(worker), []).append(worker)
    only: dict[str, list[Need]] = {name: [] for name in members}
    unserved = []
    for version in wanted:
        need = Need(version.flow, version.manifest_hash, version.ordinal, version.current, version.runs)
        able = _able(version, members)
        if able and all(able):
            for name in set().union(*(names for names in able if len(names) == 1)):
                only[name].append(need)
        elif version.runs:
            unserved.append(need)
    current = {version.flow: version.manifest_hash for version in wanted if version.current}
    return Rollout(
        tuple(_release(name, members[name], only[name], current) for name in sorted(members)), tuple(unserved)
    )


def _able(version: Wanted, members: Mapping[str, Sequence[Worker]]) -> list[set[str]]:
    """For each task of the version, the releases that can run it."""
    if not version.tasks:
        having = {
            name
            for name, workers in members.items()
            if any(worker.versions.get(version.flow) == version.manifest_hash for worker in workers)
        }
        return [having]
    return [
        {name for name, workers in members.items() if any(_takes(one, task, version) for one in workers)}
        for task in version.tasks
    ]


def _takes(worker: Worker, task: str, version: Wanted) -> bool:
    return task in worker.handlers and pair(task, version.manifest_hash) not in worker.refuses


def _release(name: str, workers: Sequence[Worker], needs: Sequence[Need], current: Mapping[str, str]) -> Release:
    behind = any(current.get(flow) != version for one in workers for flow, version in one.versions.items())
    drains = ReleaseState.DRAINING if needs else ReleaseState.DRAINED
    return Release(
        name=name,
        state=drains if behind else ReleaseState.CURRENT,
        workers=len(workers),
        queues=tuple(sorted({queue for one in workers for queue in one.queues})),
        package=tuple(sorted({one.release for one in workers})),
        needs=tuple(needs),
    )
