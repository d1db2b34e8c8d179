"""Operations on many runs: one of them, and what a client does with them."""

import time
from collections.abc import Sequence
from typing import Final, Unpack
from uuid import UUID

from pydantic import JsonValue
from uuid_utils.compat import uuid7

from orchestrator.client.access import Access
from orchestrator.client.given import at_least_one, known, user
from orchestrator.client.waits import Timeout, deadline, left_s, seconds
from orchestrator.client.walks import OutcomeWalks
from orchestrator.client.wanted import Wanted, asked_of, filter_of
from orchestrator.core.operations import Action, Foreseen, Outcome
from orchestrator.engine.operations import operate
from orchestrator.errors import UsageError, WaitTimeout
from orchestrator.ledger.operations import Job, OperationRow, OutcomeRow, Which
from orchestrator.ledger.reads import runs as reads

_PAUSE_S: Final = 0.25


def pause_s(row: OperationRow, limit_s: float | None, ends: float) -> float:
    """How long whoever waits for the end may rest.

    Raises:
        WaitTimeout: the time is over.
    """
    left = left_s(ends)
    if left == 0:
        raise WaitTimeout(
            f"Operation {row.id} is {row.state} after {limit_s:g} s, with {row.pending:,} of {row.total:,} runs to do; "
            f"it goes on. Fix: `orchestrator operation watch {row.id}` follows it."
        )
    return _PAUSE_S if left is None else min(_PAUSE_S, left)


class OperationHandle(OutcomeWalks):
    """One operation. Keepers of workers work it off; what is asked here is asked of the ledger. `created` is False when
    an idempotency key gave one that had been made before."""

    def __init__(self, client: Access, operation_id: UUID, *, created: bool = False) -> None:
        self.client = client
        self.id = operation_id
        self.created = created

    def __repr__(self) -> str:
        return f"<operation {self.id}>"

    def row(self) -> OperationRow:
        """Everything the ledger says of it: what is done to how many runs, and how many have which outcome by now."""
        return self.client.call(operate.get, self.id)

    def wait(self, timeout: Timeout = None) -> OperationRow:
        """Until every run has its outcome, or it is cancelled; as it stands then. A paused one is waited for, too.

        Raises:
            WaitTimeout: it is not over after `timeout`; it goes on.
            DurationInvalid: `timeout` is not a length of time.
        """
        limit_s = seconds(timeout)
        ends = deadline(limit_s)
        while not (row := self.row()).is_over:
            time.sleep(pause_s(row, limit_s, ends))
        return row

    def pause(self, *, by: str | None = None) -> OperationRow:
        """Begin nothing more until it is resumed.

        Raises:
            Conflict: it is over.
        """
        return self.client.call(operate.pause, self.id, by=by or user())

    def resume(self, *, by: str | None = None) -> OperationRow:
        """Go on with it.

        Raises:
            Conflict: it is over.
        """
        return self.client.call(operate.resume, self.id, by=by or user())

    def cancel(self, *, by: str | None = None) -> OperationRow:
        """Leave the runs alone that have no outcome yet; what was done stays done.

        Raises:
            Conflict: every run has its outcome.
        """
        return self.client.call(operate.cancel, self.id, by=by or user())

    def outcomes(
        self, *, outcome: Outcome | str | None = None, after: UUID | None = None, limit: int = 50
    ) -> list[OutcomeRow]:
        """A page of what became of its runs, in the order of their ids, from the one after the run `after`; with
        `outcome`, only of those."""
        wanted = None if outcome is None else known(Outcome, outcome)
        return self.client.call(operate.outcomes, self.id, after, at_least_one(limit), wanted)


def options_of(action: Action, force: bool, fresh: bool) -> dict[str, bool]:
    """Those of a retry that are set.

    Raises:
        UsageError: this is none.
    """
    options = {name: True for name, on in (("force", force), ("fresh", fresh)) if on}
    if options and action is not Action.RETRY:
        raise UsageError(f"`{min(options)}` is of a retry, and this is a {action}. Fix: leave it out.")
    return options


def asked_unless_named(runs: Sequence[UUID | str] | None, wanted: Wanted) -> dict[str, JsonValue]:
    """What is asked for, as JSON; nothing of runs that are named.

    Raises:
        UsageError: they are named and asked for.
    """
    asked = asked_of(wanted)
    if asked and runs is not None:
        raise UsageError("Runs are named, and asked for as well. Fix: name them, or say which are meant.")
    return asked


class Operations(Access):
    """What a client does with operations."""

    def operate(
        self,
        action: Action | str,
        runs: Sequence[UUID | str] | None = None,
        *,
        reason: str,
        token: str | None = None,
        force: bool = False,
        fresh: bool = False,
        idempotency_key: str | None = None,
        by: str | None = None,
        **wanted: Unpack[Wanted],
    ) -> OperationHandle:
        """Do something to many runs: `cancel`, `retry` or `delete` them, by their ids or by what `runs` takes. They are
        listed now, and keepers work the list off: it goes on when this program ends. A run that does not allow it any
        more when its turn comes is left out, and told in the outcomes. `force` and `fresh` are those of a retry.

        With the `token` of `operate_plan` the row says how many runs had been foreseen. The same idempotency key within
        a day, and the same request, give the first operation again.

        Raises:
            UsageError: there is no such action; no runs are named, or all; there are more than 100,000; there is no
                reason; the token is of something else.
            FlowNotFound, QueryInvalid: as `runs`.
            IdempotencyConflict: the key was used for something else.
            RunNotFound, Conflict: an id is a part of none, or of several.
        """
        act = known(Action, action)
        job = Job(uuid7(), act, reason, by or user(), options_of(act, force, fresh), idempotency_key)
        row = self.call(operate.create, job, self._which(runs, wanted), token=token)
        return OperationHandle(self, row.id, created=row.id == job.id)

    def operate_plan(
        self, action: Action | str, runs: Sequence[UUID | str] | None = None, **wanted: Unpack[Wanted]
    ) -> Foreseen:
        """What `operate` would do: to how many runs, and how many it would leave out and why. Nothing is written.

        Raises: as `operate`.
        """
        return self.call(operate.foresee, known(Action, action), self._which(runs, wanted))

    def operation(self, operation_id: UUID | str) -> OperationHandle:
        """An operation by its id, or by the first or last (at least four) characters of it.

        Raises:
            OperationNotFound: there is none.
            Conflict: several match.
        """
        return OperationHandle(self, self.call(operate.find, str(operation_id)))

    def operations(self, *, limit: int = 50, after: UUID | None = None, only_open: bool = False) -> list[OperationRow]:
        """A page of operations, newest first, from the one after the operation `after`; or those that are not over."""
        return self.call(operate.page, after, at_least_one(limit), only_open=only_open)

    def _which(self, runs: Sequence[UUID | str] | None, wanted: Wanted) -> Which:
        asked = asked_unless_named(runs, wanted)
        if runs is None:
            return Which(filter_of(wanted), asked=asked)
        return Which(ids=tuple(one if isinstance(one, UUID) else self._id(one) for one in runs))

    def _id(self, text: str) -> UUID:
        try:
            return UUID(text)
        except ValueError:
            return self.call(reads.find, text)
