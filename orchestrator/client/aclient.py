"""`AsyncClient`: the client for asyncio programs. A thin shell: every call runs the sync one in a thread."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeGuard, TypeVar, cast, overload

from orchestrator.client.acalls import AsyncCalls
from orchestrator.client.ahandles import AsyncRunHandle
from orchestrator.client.client import Client, Startable
from orchestrator.client.headers import Headers
from orchestrator.client.later import StartAfter
from orchestrator.client.run_handle import RunHandle
from orchestrator.ledger.borrowed import Borrowed
from orchestrator.settings import Settings

if TYPE_CHECKING:  # it needs greenlet, which only its users have installed
    from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")
R = TypeVar("R")


def _is_async(given: "Borrowed | AsyncConnection") -> "TypeGuard[AsyncConnection]":
    return hasattr(given, "run_sync")


class AsyncClient(AsyncCalls):
    """As `Client`, awaited. Use it in an `async with`, or await `close()`."""

    sync: Client

    def __init__(self, settings: Settings) -> None:
        """
        Raises:
            SettingsInvalid: there is no database URL.
        """
        self._of(Client(settings))

    def _of(self, client: Client) -> None:
        self._wrap(client, client.settings.database_pool_size)  # a call more would wait for a connection

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """As `Client.from_env`."""
        made = cls.__new__(cls)
        made._of(Client.from_env(env))
        return made

    @overload
    async def start(
        self,
        flow: Startable[R],
        input: Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        tags: Sequence[str] = (),
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
        connection: "Borrowed | AsyncConnection | None" = None,
        **parameters: Any,
    ) -> "AsyncRunHandle[R]": ...
    @overload
    async def start(
        self,
        flow: str,
        input: Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        tags: Sequence[str] = (),
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
        connection: "Borrowed | AsyncConnection | None" = None,
        **parameters: Any,
    ) -> "AsyncRunHandle[Any]": ...
    async def start(
        self,
        flow: Any,
        input: Mapping[str, Any] | None = None,
        /,
        *,
        connection: "Borrowed | AsyncConnection | None" = None,
        **given: Any,
    ) -> "AsyncRunHandle[Any]":
        """As `Client.start`. `connection` may also be one of SQLAlchemy for asyncio, with psycopg 3."""
        return AsyncRunHandle(self, await self._started(self.sync.start, connection, flow, input, **given))

    async def _started(
        self, call: Callable[..., T], connection: "Borrowed | AsyncConnection | None", /, *args: Any, **given: Any
    ) -> T:
        if connection is not None and _is_async(connection):
            return await connection.run_sync(lambda sync: call(*args, connection=sync, **given))
        return await self.thread(call, *args, connection=connection, **given)

    async def committed(self, *handles: "AsyncRunHandle[Any]") -> None:
        """As `Client.committed`."""
        await self.thread(self.sync.committed, *(cast(RunHandle[Any], handle.sync) for handle in handles))

    @overload
    async def start_many(
        self,
        flow: Startable[R],
        inputs: Sequence[Mapping[str, Any]],
        idempotency_keys: Sequence[str] | None = None,
        tags: Sequence[str] = (),
        *,
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
        connection: "Borrowed | AsyncConnection | None" = None,
    ) -> "list[AsyncRunHandle[R]]": ...
    @overload
    async def start_many(
        self,
        flow: str,
        inputs: Sequence[Mapping[str, Any]],
        idempotency_keys: Sequence[str] | None = None,
        tags: Sequence[str] = (),
        *,
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
        connection: "Borrowed | AsyncConnection | None" = None,
    ) -> "list[AsyncRunHandle[Any]]": ...
    async def start_many(
        self,
        flow: Any,
        inputs: Sequence[Mapping[str, Any]],
        idempotency_keys: Sequence[str] | None = None,
        tags: Sequence[str] = (),
        *,
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
        connection: "Borrowed | AsyncConnection | None" = None,
    ) -> "list[AsyncRunHandle[Any]]":
        """As `Client.start_many`."""
        start = partial(self.sync.start_many, start_after=start_after, headers=headers)
        handles = await self._started(start, connection, flow, inputs, idempotency_keys, tags)
        return [AsyncRunHandle(self, handle) for handle in handles]
