"""The flow `package_audit`: every file of every installed distribution, compared with the hash in its RECORD.

read_environment ─────────────────┐
list_distributions ─▶ check (×n) ─┴─▶ summarise
"""

import platform
import sys
from pathlib import Path

from pydantic import BaseModel

from examples.package_audit import record
from examples.package_audit.report import Checked, Environment, Finding, Report, merged
from orchestrator import Context, Cron, Schedule, each, flow, step

USUAL = frozenset({"compiled", "RECORD itself"})
"""Reasons why a file cannot be verified that every healthy environment has."""


class Installed(BaseModel):
    """Enough for a worker on this host to find the distribution again."""

    name: str
    version: str
    folder: Path


class HostBusy(Exception):
    """What a retry cures."""


@step
def list_distributions(paths: tuple[str, ...]) -> list[Installed]:
    """What is installed in these folders; none: in the environment of the worker."""
    found = [Installed(name=one.metadata["Name"], version=one.version, folder=at) for one, at in record.find(paths)]
    return sorted(found, key=lambda one: (one.name.lower(), str(one.folder)))


@step(retries=3, backoff="200ms..2s", never_retry=(PermissionError,))
def read_environment(ctx: Context) -> Environment:
    """Fails its first attempt, on purpose: the run goes on all the same."""
    if ctx.attempt == 1:
        raise HostBusy("the first attempt of this step always fails, to show a retry")
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        prefix=sys.prefix,
        attempts=ctx.attempt,
    )


@step(retries=2, timeout="5m")
def check(ctx: Context, installed: Installed) -> Checked:
    """Hash every file of one distribution."""
    result = Checked(name=installed.name, version=installed.version)
    entries = record.entries(installed.folder, installed.name)
    if entries is None:
        return result.model_copy(update={"unverifiable": {"no RECORD": 1}})
    for number, entry in enumerate(entries, start=1):
        if ctx.cancelled:
            raise InterruptedError("the run was cancelled")
        _count(result, entry, record.verify(installed.folder, entry))
        ctx.progress(number, len(entries), entry.path)
    return result


def _count(result: Checked, entry: record.Entry, verdict: record.Verdict) -> None:
    result.files += 1
    if verdict.state == "unverifiable":
        result.unverifiable[verdict.reason] = result.unverifiable.get(verdict.reason, 0) + 1
    else:
        setattr(result, verdict.state, getattr(result, verdict.state) + 1)
    if verdict.state != "intact" and verdict.reason not in USUAL:
        result.findings.append(
            Finding(distribution=result.name, path=entry.path, state=verdict.state, reason=verdict.reason)
        )


@step
def summarise(environment: Environment, checked: list[Checked]) -> Report:
    """The join: runs once, after the last check."""
    sums = merged(checked)
    return Report(
        headline=f"{len(checked):,} distributions, {sums.files:,} files, {sums.modified:,} modified",
        environment=environment,
        distributions=len(checked),
        files=sums.files,
        intact=sums.intact,
        modified=sums.modified,
        missing=sums.missing,
        unverifiable=sums.unverifiable,
        findings=[finding for one in checked for finding in one.findings],
        checked=[one.model_copy(update={"findings": []}) for one in checked],
    )


WEEKLY = Schedule(
    Cron("0 6 * * MON", tz="Europe/Paris"),
    key="weekly",
    jitter="10m",
    overlap="skip",
    paused=True,  # an example that starts by itself would surprise
    description="Monday mornings.",
)


@flow(name="package_audit", version="1", deadline="10m", tags=["example"], schedules=[WEEKLY])
def package_audit(paths: tuple[str, ...] = ()) -> Report:
    """Verify the files of the installed packages. `paths`: folders to look in; none: the worker's environment."""
    environment = read_environment()
    installed = list_distributions(paths)
    return summarise(environment, each(check, installed))
