"""`orchestrator drain` and `orchestrator resume`: stop what starts by itself, wait for what runs, and go on."""

import secrets
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated, Final

import typer

from orchestrator.cli.options import Who, connected, seconds
from orchestrator.cli.render import note, numbered, short
from orchestrator.core.states import FINAL_RUN, RunStatus
from orchestrator.core.wording import counted
from orchestrator.errors import Conflict, NotFound, UsageError, WaitTimeout

if TYPE_CHECKING:
    from orchestrator.cli.options import AnyClient
    from orchestrator.core.releases import Need

_MARK: Final = "drain:"
_LOOK_S: Final = 1.0
_SHOWN: Final = 20
_OPEN: Final = [status for status in RunStatus if status not in FINAL_RUN]

Flows = Annotated[list[str] | None, typer.Option("--flow", metavar="FLOW", help="Only these flows; may be repeated.")]


@dataclass(frozen=True, slots=True)
class Drain:
    """What is waited for, and how those who ended it are found: by the reason that all it stopped has."""

    client: "AnyClient"
    flows: tuple[str, ...]
    release: str | None = None
    """Only runs that other releases than this one are needed for."""

    def left(self) -> int:
        """How many runs are open."""
        if self.release is None:
            return sum(row.open_runs for row in self.client.flows.listed() if self._has(row.name))
        return sum(need.runs for need in self.needs())

    def needs(self) -> "list[Need]":
        """What other releases than the one of that name are needed for.

        Raises:
            UsageError: no live worker is of that release.
        """
        found = self.client.workers.releases()
        if self.release not in (names := [one.name for one in found.releases]):
            raise UsageError(
                f"No live worker is of release {self.release!r}. Fix: start it first, or name one of those that are "
                f"live: {', '.join(names) or 'there is none'}."
            )
        needs = [need for one in found.releases if one.name != self.release for need in one.needs]
        return [need for need in (*needs, *found.unserved) if need.runs and self._has(need.flow)]

    def stop(self, mark: str, by: str | None, *, starts: bool) -> int:
        """Pause the schedules, or with `starts` disable the flows, that are not so already; how many."""
        stopped = 0
        for flow in self.client.flows.listed() if starts else ():
            if flow.enabled and self._has(flow.name):
                self.client.flows.disable(flow.name, reason=mark, by=by)
                stopped += 1
        for row in self.client.schedules() if not starts else ():
            if row.active and row.paused_at is None and self._has(row.flow):
                self.client.schedule(row.flow, row.trigger_key).pause(mark, by=by)
                stopped += 1
        return stopped

    def _has(self, flow: str) -> bool:
        return not self.flows or flow in self.flows


def drain(
    flows: Flows = None,
    older: Annotated[
        str | None,
        typer.Option("--older-than-release", metavar="RELEASE", help="Only wait until others than it are not needed."),
    ] = None,
    refuse: Annotated[
        bool, typer.Option("--refuse-starts", help="Refuse every start, not only those of schedules.")
    ] = False,
    timeout: Annotated[str, typer.Option(help="Give up waiting after this time.")] = "30m",
    who: Who = None,
) -> None:
    """Pause the schedules, and wait until no run is open. What was paused goes on with `orchestrator resume ID`.

    With --older-than-release nothing is paused: new runs get the new code, and the old one is waited for. Exit code 6:
    runs were open at the end of the time; they are told, with what they wait for.
    """
    limit = seconds(timeout) or 0.0
    if older is not None and refuse:
        raise UsageError("--older-than-release stops nothing. Fix: leave out --refuse-starts.")
    with connected() as client:
        for flow in flows or ():
            client.flows.get(flow)
        found = Drain(client, tuple(flows or ()), older)
        resume = ""
        if older is None:
            number = secrets.token_hex(4)
            stopped = found.stop(_MARK + number, who, starts=refuse)
            print(number)
            note(f"{'Disabled' if refuse else 'Paused'} {counted(stopped, 'flow' if refuse else 'schedule')}.")
            resume = f" Go on with: orchestrator resume {number}"
        _wait(found, limit, resume)
    note(f"No {'such ' if older or flows else ''}run is open.{resume}")


def _wait(found: Drain, limit_s: float, resume: str) -> None:
    ends = monotonic() + limit_s
    told = None
    while (left := found.left()) > 0:
        if left != told:
            note(f"{counted(left, 'run')} open")
            told = left
        if monotonic() >= ends:
            _tell_left(found)
            raise WaitTimeout(f"{counted(left, 'run')} still open. Fix: see above; or wait longer: --timeout.{resume}")
        sleep(min(_LOOK_S, max(0.0, ends - monotonic())))


def _tell_left(found: Drain) -> None:
    if found.release is not None:
        for need in found.needs():
            note(f"{counted(need.runs, 'run')} of {need.flow} {numbered(need.ordinal, need.manifest_hash)}")
        return
    for flow in found.flows or (None,):
        for row in found.client.runs(status=_OPEN, flow=flow, limit=_SHOWN, inputs=False):
            told = found.client.run(row.id).explain()
            note(f"{short(row.id)} {row.flow}: {told.sentence}" + (f" ({told.command})" if told.command else ""))


def resume(
    number: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="What `drain` printed; else the only one.")
    ] = None,
    who: Who = None,
) -> None:
    """Let go on what a drain stopped, and nothing else."""
    with connected() as client:
        schedules = [row for row in client.schedules() if row.paused_at and _is_mark(row.pause_reason)]
        flows = [row for row in client.flows.listed() if not row.enabled and _is_mark(row.switch_reason)]
        known = sorted({str(row.pause_reason) for row in schedules} | {str(row.switch_reason) for row in flows})
        mark = _which(number, known)
        for flow in flows:
            if flow.switch_reason == mark:
                client.flows.enable(flow.name, by=who)
                note(f"{flow.name} is enabled.")
        for row in schedules:
            if row.pause_reason == mark:
                client.schedule(row.flow, row.trigger_key).resume(by=who)
                note(f"{row.flow}/{row.trigger_key} goes on.")


def _which(number: str | None, known: list[str]) -> str:
    names = ", ".join(mark.removeprefix(_MARK) for mark in known)
    if number is None:
        if len(known) > 1:
            raise Conflict(f"Several drains stopped something: {names}. Fix: name one.")
        if not known:
            raise NotFound("No drain stopped anything that is still stopped. Fix: see `orchestrator schedule ls`.")
        return known[0]
    mark = _MARK + number.removeprefix(_MARK)
    if mark not in known:
        others = f"those that did: {names}" if names else "none did"
        raise NotFound(
            f"No drain {number} stopped anything that is still stopped; {others}. Fix: see `orchestrator schedule ls`."
        )
    return mark


def _is_mark(reason: str | None) -> bool:
    return reason is not None and reason.startswith(_MARK)
