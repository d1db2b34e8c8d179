"""`AsyncHttpClient`: the client over HTTP for asyncio programs."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Self, TypeVar, overload

from orchestrator.client.acalls import AsyncCalls
from orchestrator.client.ahandles import AsyncRunHandle
from orchestrator.client.client import Startable
from orchestrator.client.headers import Headers
from orchestrator.client.later import StartAfter
from orchestrator.client.remote.client import HttpClient

R = TypeVar("R")

_THREADS: Final = 10


class AsyncHttpClient(AsyncCalls):
    """As `HttpClient`, awaited: a thin shell, as `AsyncClient` is. Waits for runs hold no thread, and can be cancelled:
    then their requests are. Use it in an `async with`, or await `close()`."""

    sync: HttpClient

    def __init__(self, url: str, key: str | None = None) -> None:
        """As `HttpClient`."""
        self._wrap(HttpClient(url, key), _THREADS)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """As `HttpClient.from_env`."""
        made = cls.__new__(cls)
        made._wrap(HttpClient.from_env(env), _THREADS)
        return made

    async def health(self) -> Mapping[str, Any]:
        """As `HttpClient.health`."""
        return await self.thread(self.sync.health)

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
        **parameters: Any,
    ) -> "AsyncRunHandle[Any]": ...
    async def start(self, flow: Any, input: Mapping[str, Any] | None = None, /, **given: Any) -> "AsyncRunHandle[Any]":
        """As `HttpClient.start`."""
        return AsyncRunHandle(self, await self.thread(self.sync.start, flow, input, **given))

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
    ) -> "list[AsyncRunHandle[Any]]":
        """As `HttpClient.start_many`."""
        start = partial(self.sync.start_many, start_after=start_after, headers=headers)
        handles = await self.thread(start, flow, inputs, idempotency_keys, tags)
        return [AsyncRunHandle(self, handle) for handle in handles]
