"""Three releases beside one another: an older one, the one in the middle, whose steps take one parameter more, and a
newer one, which writes some flows in a format that the others cannot read.

The newest is the one that clients who start by name get; whoever stands by the older one's flows pins runs to it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

import pytest

from orchestrator import Flow, Manifest
from orchestrator.core import manifest as manifests
from orchestrator.ledger import definitions, schedules, ticks
from orchestrator.workers.state import AnyStep
from tests.proof.executions import pids_of
from tests.proof.history import History
from tests.proof.verdict import Violation
from tests.soak.plans import Plan
from tests.soak.steps import MORE, STEPS
from tests.support.releases import newer

Release = Literal["older", "middle", "newer"]
RELEASES: Final[tuple[Release, ...]] = ("older", "middle", "newer")
VARIABLE: Final = "SOAK_RELEASE"
UNREADABLE: Final = ("soak0", "soak3", "soak5", "timed_window")
"""Flows that the newer release writes in a format of its own."""


def here() -> Release:
    """Which release this process is of; a soak without releases is of the older one."""
    named = os.environ.get(VARIABLE, "older")
    return next(one for one in RELEASES if one == named)


def manifest_of(plan: Plan, release: Release) -> Manifest:
    if release == "older":
        return Manifest(**plan.manifest)
    readable = release == "middle" or plan.name not in UNREADABLE
    return newer(plan.manifest, readable=readable, more=release)


def flow_of(plan: Plan, release: Release) -> "Flow[..., object]":
    steps: Sequence[AnyStep] = STEPS if release == "older" else MORE
    return Flow.from_manifest(manifest_of(plan, release), steps=steps)


def read_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process reads what the newer release writes."""
    newest = manifests.FORMAT + 1
    for module in (manifests, definitions, schedules, ticks):
        monkeypatch.setattr(module, "FORMAT", newest)


def trespasses(history: History, plans: Sequence[Plan], posted: Mapping[int, Release]) -> Iterator[Violation]:
    """A worker claims only what its code can run, and no version becomes current again by itself. `posted`: of which
    release a worker's main process is."""
    versions = {manifest_of(plan, release).hash: release for plan in plans for release in RELEASES}
    current: dict[str, Release] = {}
    for change in history.changes:
        if change.table == "flow_step_claims" and change.op != "delete" and change.sets("owner", change.new["owner"]):
            run, owner = history.runs[change.run_id], change.new["owner"]
            (release,) = [posted[pid] for pid in pids_of(owner) if pid in posted]
            if not _runs(release, run["flow"], versions[run["manifest_hash"]]):
                said = f"a worker of the {release} release claimed it"
                yield Violation("releases", said, change.run_id, change.step_key, (f"{owner} {run}",))
        if change.table == "flow_definitions" and change.op != "delete":
            name, found = change.new["name"], versions[change.new["manifest_hash"]]
            if RELEASES.index(found) < RELEASES.index(current.get(name, "older")):
                yield Violation("releases", f"the current version of {name} went back", evidence=(str(change.new),))
            current[name] = found


def _runs(release: Release, flow: str, version: Release) -> bool:
    """Whether code of this release can run that release's version of a flow."""
    if release == "older":
        return version == "older"
    return release == "newer" or version != "newer" or flow not in UNREADABLE
