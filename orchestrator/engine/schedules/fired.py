"""What deciding ticks led to."""

from dataclasses import dataclass
from uuid import UUID

from orchestrator.core.facts import Dispatch, StartedRun
from orchestrator.core.happened import Ended, Run, Ticked
from orchestrator.ledger.schedules import ScheduleId


@dataclass(frozen=True, slots=True)
class Fired:
    """What ticks led to; the dispatches are for the caller to publish. `more`: call again. `unfinished`: schedules of
    which more ticks are due than one transaction starts. `unreadable`: others wait for a newer release."""

    decided: int = 0
    started: tuple[UUID, ...] = ()
    dispatches: tuple[Dispatch, ...] = ()
    doubles: int = 0
    more: bool = False
    unfinished: tuple[ScheduleId, ...] = ()
    unreadable: bool = False
    ended: tuple[Ended, ...] = ()
    """Runs that were cancelled for them, and had nothing running: to be reported after the commit. So are the next:"""
    runs: tuple[tuple[Run, StartedRun], ...] = ()
    ticked: tuple[Ticked, ...] = ()

    def __add__(self, other: "Fired") -> "Fired":
        return Fired(
            self.decided + other.decided,
            self.started + other.started,
            self.dispatches + other.dispatches,
            self.doubles + other.doubles,
            self.more or other.more,
            self.unfinished + other.unfinished,
            self.unreadable or other.unreadable,
            self.ended + other.ended,
            self.runs + other.runs,
            self.ticked + other.ticked,
        )
