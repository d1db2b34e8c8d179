"""Which versions of each flow a process takes steps of: those that it can read and whose inputs its handlers accept.

It is decided before a claim, and once per version: a step that this code cannot run costs no attempt, and goes to a
worker that can.
"""

import threading
from collections.abc import Mapping
from typing import Final

from orchestrator.authoring.step import AnyStep
from orchestrator.core.facts import pair
from orchestrator.core.manifest import Manifest, StepDef
from orchestrator.errors import ManifestUnreadable
from orchestrator.ledger.tx import Ledger

_KEPT: Final = 50
"""Versions of a flow that are claimed for at a time; one that is met again after that is read again."""


class Versions:
    """What this process has read so far. Threads may share it: a reader sees whole values, writers take turns."""

    def __init__(self) -> None:
        self.after_fork()
        self._handlers: dict[str, AnyStep] = {}
        self._accepted: dict[str, tuple[str, ...]] = {}
        self._tasks: dict[str, frozenset[str]] = {}
        self.refused: Mapping[str, str] = {}
        """Why this code does not take such steps, by task@manifest hash."""

    def after_fork(self) -> None:
        """In a new pool child: a lock that another thread of the parent held is held by nobody here."""
        self._writing = threading.Lock()

    def add(self, manifest: Manifest, handlers: Mapping[str, AnyStep]) -> None:
        """A flow of the loaded code, with its handlers by task."""
        self.know(handlers)
        self._judge(manifest)

    def know(self, handlers: Mapping[str, AnyStep]) -> None:
        """Handlers by task, of flows whose versions are judged when they are met."""
        self._handlers |= handlers

    def accepted(self, task: str) -> tuple[str, ...]:
        """The manifest hashes to claim a step of this task for."""
        return self._accepted.get(task, ())

    def tasks(self, manifest_hash: str) -> frozenset[str]:
        """The tasks of a version that may be claimed for."""
        return self._tasks.get(manifest_hash, frozenset())

    def accepts(self, ledger: Ledger, task: str, manifest_hash: str) -> bool:
        """Read a version that was met for the first time; whether steps of this task are taken from now on."""
        try:
            self._judge(ledger.manifest(manifest_hash))
        except ManifestUnreadable as exc:
            with self._writing:
                self.refused = {**self.refused, pair(task, manifest_hash): exc.message.partition(" Fix: ")[0]}
        return manifest_hash in self._accepted.get(task, ())

    def _judge(self, manifest: Manifest) -> None:
        found = misfits(manifest, self._handlers)
        fitting = [task for task, why in found.items() if why is None]
        refused = {pair(task, manifest.hash): why for task, why in found.items() if why is not None}
        with self._writing:
            for task in fitting:
                others = [known for known in self._accepted.get(task, ()) if known != manifest.hash]
                self._accepted[task] = (*others[-_KEPT + 1 :], manifest.hash)
            self._tasks[manifest.hash] = frozenset(fitting)
            self.refused = {**self.refused, **refused}


def misfits(manifest: Manifest, handlers: Mapping[str, AnyStep]) -> dict[str, str | None]:
    """Per task of the manifest that has a handler: the input that keeps it from running there; None, it fits."""
    found: dict[str, str | None] = {}
    for definition in _plain(manifest.steps):
        task = f"{manifest.name}.{definition.type}"
        if task in handlers:
            found[task] = found.get(task) or handlers[task].misfit(definition.inputs.keys())
    return found


def _plain(steps: Mapping[str, StepDef]) -> list[StepDef]:
    """The steps that have a handler, those in loops too."""
    return [one for step in steps.values() for one in (_plain(step.steps) if step.is_loop else (step,))]
