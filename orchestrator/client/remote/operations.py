"""Operations on many runs, over HTTP."""

import time
from collections.abc import Sequence
from typing import Any, Unpack
from uuid import UUID

from orchestrator.client.given import at_least_one, known
from orchestrator.client.operations import asked_unless_named, options_of, pause_s
from orchestrator.client.remote.access import HttpAccess, nobody_else
from orchestrator.client.remote.transport import do, part, read
from orchestrator.client.waits import Timeout, deadline, seconds
from orchestrator.client.walks import OutcomeWalks
from orchestrator.client.wanted import Wanted
from orchestrator.core.operations import Action, Foreseen, Outcome
from orchestrator.ledger.operations import OperationRow, OutcomeRow
from orchestrator.ledger.reads.rows import RunRow


class HttpOperationHandle(OutcomeWalks):
    """As `OperationHandle`. Whoever has the API key is the author of what is done."""

    def __init__(self, client: HttpAccess, operation_id: UUID, *, created: bool = False) -> None:
        self.client = client
        self.id = operation_id
        self.created = created
        self._path = f"/operations/{operation_id}"

    def __repr__(self) -> str:
        return f"<operation {self.id}>"

    def row(self) -> OperationRow:
        """As `OperationHandle.row`."""
        return self.client.transport.get(OperationRow, self._path)

    def wait(self, timeout: Timeout = None) -> OperationRow:
        """As `OperationHandle.wait`."""
        limit_s = seconds(timeout)
        ends = deadline(limit_s)
        while not (row := self.row()).is_over:
            time.sleep(pause_s(row, limit_s, ends))
        return row

    def pause(self, *, by: str | None = None) -> OperationRow:
        """As `OperationHandle.pause`."""
        return self._do("pause", by)

    def resume(self, *, by: str | None = None) -> OperationRow:
        """As `OperationHandle.resume`."""
        return self._do("resume", by)

    def cancel(self, *, by: str | None = None) -> OperationRow:
        """As `OperationHandle.cancel`."""
        return self._do("cancel", by)

    def outcomes(
        self, *, outcome: Outcome | str | None = None, after: UUID | None = None, limit: int = 50
    ) -> list[OutcomeRow]:
        """As `OperationHandle.outcomes`."""
        wanted = None if outcome is None else known(Outcome, outcome).value
        query = {"outcome": wanted, "after": after}
        return self.client.listed(OutcomeRow, f"{self._path}/outcomes", query, at_least_one(limit))

    def _do(self, what: str, by: str | None) -> OperationRow:
        nobody_else(by)
        return self.client.transport.post(OperationRow, f"{self._path}/{what}")


class HttpOperations(HttpAccess):
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
    ) -> HttpOperationHandle:
        """As `Client.operate`. Deleting takes a key whose role is admin."""
        nobody_else(by)
        act = known(Action, action)
        asked = {"action": act.value, "reason": reason, "token": token, **options_of(act, force, fresh)}
        answer = self.transport.ask(do("/operations", {**asked, **self._which(runs, wanted)}, key=idempotency_key))
        return HttpOperationHandle(self, read(OperationRow, answer).id, created=answer.status_code == 202)

    def operate_plan(
        self, action: Action | str, runs: Sequence[UUID | str] | None = None, **wanted: Unpack[Wanted]
    ) -> Foreseen:
        """As `Client.operate_plan`."""
        asked = {"action": known(Action, action).value, "dry_run": True, **self._which(runs, wanted)}
        return self.transport.post(Foreseen, "/operations", asked, again=True)

    def operation(self, operation_id: UUID | str) -> HttpOperationHandle:
        """As `Client.operation`."""
        return HttpOperationHandle(self, self.transport.get(OperationRow, f"/operations/{part(operation_id)}").id)

    def operations(self, *, limit: int = 50, after: UUID | None = None, only_open: bool = False) -> list[OperationRow]:
        """As `Client.operations`."""
        query = {"after": after, "open": only_open or None}
        return self.listed(OperationRow, "/operations", query, at_least_one(limit))

    def _which(self, runs: Sequence[UUID | str] | None, wanted: Wanted) -> dict[str, Any]:
        asked = asked_unless_named(runs, wanted)
        return asked if runs is None else {"ids": [self._id(one) for one in runs]}

    def _id(self, run: UUID | str) -> str:
        try:
            return str(UUID(str(run)))
        except ValueError:
            return str(self.transport.get(RunRow, f"/runs/{part(run)}").id)
