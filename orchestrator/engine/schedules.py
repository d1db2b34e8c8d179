"""What operators do to schedules. Each change is an event with the actor; a bad request writes nothing."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from orchestrator.core.facts import Dispatch, Started
from orchestrator.ledger.tx import Ledger


@dataclass(frozen=True, slots=True)
class Backfill:
    """A backfill as it was asked for. `times`: what it starts, in order; `taken`: how many of the span have a run
    already. `id` is None for a dry run, and when there is nothing to start."""

    id: UUID | None
    flow: str
    key: str
    since: datetime
    until: datetime
    times: tuple[datetime, ...]
    taken: int
    max_parallel: int
    reverse: bool


def pause(ledger: Ledger, flow: str, key: str, *, by: str, reason: str | None = None) -> None:
    """No tick is decided after this commit; what was due and undecided is recorded as missed."""
    raise NotImplementedError


def resume(ledger: Ledger, flow: str, key: str, *, by: str) -> None:
    """It fires again from the first time after now: paused time is not made up for."""
    raise NotImplementedError


def trigger(ledger: Ledger, flow: str, key: str, *, by: str) -> Started:
    """Start a run with the schedule's input now, whatever its rule, pause and overlap say; publish its dispatches.

    Raises:
        FlowDisabled: nothing was started.
        Conflict: the current manifest does not have the schedule.
    """
    raise NotImplementedError


def set_cron(
    ledger: Ledger, flow: str, key: str, expression: str, *, zone: str | None = None, by: str
) -> tuple[Dispatch, ...]:
    """Override the rule until `reset`; without `zone` it is read in the zone the schedule has now.

    What is due by the old rule is decided first: its dispatches are for the caller to publish (a keeper would too).

    Raises:
        ScheduleInvalid: the expression or the zone is wrong; nothing was written.
    """
    raise NotImplementedError


def reset(ledger: Ledger, flow: str, key: str, *, by: str) -> tuple[Dispatch, ...]:
    """Back to the rule of the code; dispatches as of `set_cron`."""
    raise NotImplementedError


def backfill(
    ledger: Ledger,
    flow: str,
    key: str,
    since: datetime,
    until: datetime,
    *,
    by: str,
    max_parallel: int = 1,
    reverse: bool = False,
    dry_run: bool = False,
) -> Backfill:
    """Note a run for every time in [since, until) that has none; `tick.waiting` starts them, in order.

    Raises:
        ScheduleInvalid: the span is empty, in the future, or holds more than 10,000 times; nothing was written.
    """
    raise NotImplementedError


def cancel_backfill(ledger: Ledger, backfill_id: UUID, *, by: str) -> int:
    """Start no more of it; how many were taken back. Runs that were started go on.

    Raises:
        ScheduleNotFound: no such backfill.
    """
    raise NotImplementedError
