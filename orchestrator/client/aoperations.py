"""As `operations`, awaited."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, Unpack
from uuid import UUID

from orchestrator.client.operations import OperationHandle, Operations, pause_s
from orchestrator.client.waits import Timeout, deadline, seconds
from orchestrator.client.wanted import Wanted
from orchestrator.core.operations import Action, Foreseen, Outcome
from orchestrator.ledger.operations import OperationRow, OutcomeRow

if TYPE_CHECKING:  # it needs an HTTP library, which only its users have installed
    from orchestrator.client.remote.operations import HttpOperationHandle, HttpOperations

P = ParamSpec("P")
T = TypeVar("T")
_PAGE = 500


class Threads(Protocol):
    """Whoever runs calls in threads of its own."""

    async def thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...


class AsyncOperationHandle:
    """As `OperationHandle`, awaited."""

    def __init__(self, client: Threads, handle: "OperationHandle | HttpOperationHandle") -> None:
        self.client = client
        self.sync = handle
        self.id = handle.id
        self.created = handle.created

    def __repr__(self) -> str:
        return repr(self.sync)

    async def row(self) -> OperationRow:
        """As `OperationHandle.row`."""
        return await self.client.thread(self.sync.row)

    async def wait(self, timeout: Timeout = None) -> OperationRow:
        """As `OperationHandle.wait`; holds no thread, and can be cancelled."""
        limit_s = seconds(timeout)
        ends = deadline(limit_s)
        while not (row := await self.row()).is_over:
            await asyncio.sleep(pause_s(row, limit_s, ends))
        return row

    async def pause(self, *, by: str | None = None) -> OperationRow:
        """As `OperationHandle.pause`."""
        return await self.client.thread(self.sync.pause, by=by)

    async def resume(self, *, by: str | None = None) -> OperationRow:
        """As `OperationHandle.resume`."""
        return await self.client.thread(self.sync.resume, by=by)

    async def cancel(self, *, by: str | None = None) -> OperationRow:
        """As `OperationHandle.cancel`."""
        return await self.client.thread(self.sync.cancel, by=by)

    async def outcomes(
        self, *, outcome: Outcome | str | None = None, after: UUID | None = None, limit: int = 50
    ) -> list[OutcomeRow]:
        """As `OperationHandle.outcomes`."""
        return await self.client.thread(self.sync.outcomes, outcome=outcome, after=after, limit=limit)

    async def all_outcomes(self, *, outcome: Outcome | str | None = None) -> AsyncIterator[OutcomeRow]:
        """As `OperationHandle.all_outcomes`, for `async for`."""
        async for row in each(self.client, self.sync.all_outcomes(outcome=outcome)):
            yield row


async def each(client: Threads, rows: Iterator[T]) -> AsyncIterator[T]:
    """A page of rows for each trip to a thread."""
    while page := await client.thread(lambda: list(islice(rows, _PAGE))):
        for row in page:
            yield row


class AsyncOperations:
    """What an asynchronous client does with operations."""

    sync: "Operations | HttpOperations"

    async def thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        raise NotImplementedError

    async def operate(
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
    ) -> AsyncOperationHandle:
        """As `Client.operate`."""
        more: dict[str, Any] = {"reason": reason, "token": token, "force": force, "fresh": fresh, "by": by}
        more |= {"idempotency_key": idempotency_key, **wanted}
        return AsyncOperationHandle(self, await self.thread(lambda: self.sync.operate(action, runs, **more)))

    async def operate_plan(
        self, action: Action | str, runs: Sequence[UUID | str] | None = None, **wanted: Unpack[Wanted]
    ) -> Foreseen:
        """As `Client.operate_plan`."""
        return await self.thread(self.sync.operate_plan, action, runs, **wanted)

    async def operation(self, operation_id: UUID | str) -> AsyncOperationHandle:
        """As `Client.operation`."""
        return AsyncOperationHandle(self, await self.thread(self.sync.operation, operation_id))

    async def operations(
        self, *, limit: int = 50, after: UUID | None = None, only_open: bool = False
    ) -> list[OperationRow]:
        """As `Client.operations`."""
        return await self.thread(self.sync.operations, limit=limit, after=after, only_open=only_open)
