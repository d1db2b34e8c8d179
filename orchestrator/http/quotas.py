"""Which bucket a request takes from, and what its answer says about that."""

from collections.abc import Mapping
from typing import Final

import anyio
import anyio.to_thread
from fastapi import Request

from orchestrator.http.browsers import SAFE
from orchestrator.http.caller import Caller
from orchestrator.http.problems import Refused
from orchestrator.http.rates import Rates, Taken, bucket_of
from orchestrator.settings import Settings

_KINDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("run_start", "run_start_many", "schedule_trigger"), "triggers"),
    **dict.fromkeys(("subscription_create",), "webhooks"),
    **dict.fromkeys(("key_create", "key_rotate"), "keys"),
}
"""By `operationId`; the others take from `reads` or `writes`, by their method."""
_SAID: Final[Mapping[str, str]] = dict.fromkeys(("sign_ins", "guesses"), "tries to sign in")
_ELSEWHERE: Final = 10
"""So many times as often as from one address may be tried to sign in with a name: whoever is guessed at can come in."""
_THREADS: Final = 8
"""Of their own: while Redis does not answer, no request waits for another one's count."""


class Quotas:
    """How much each key or session may ask for in a minute, by kind; 0: as much as it likes."""

    def __init__(self, settings: Settings, rates: Rates) -> None:
        self._rates = rates
        self._limits = {
            "reads": settings.rate_reads,
            "writes": settings.rate_writes,
            "triggers": settings.rate_triggers,
            "webhooks": settings.rate_webhooks,
            "keys": settings.rate_keys,
            "strangers": settings.rate_strangers,
            "sign_ins": settings.rate_sign_ins,
            "guesses": settings.rate_sign_ins * _ELSEWHERE,
        }
        self._threads: anyio.CapacityLimiter | None = None

    async def take(self, request: Request, operation: str, caller: Caller) -> None:
        """Count a request of somebody who is known.

        Raises:
            Refused: there were too many.
        """
        kind = _KINDS.get(operation, "reads" if request.method in SAFE else "writes")
        await self._take(request, kind, caller.id or caller.name)

    async def take_stranger(self, request: Request, address: str | None) -> None:
        """Count a request of somebody who is not.

        Raises:
            Refused: there were too many from that address.
        """
        await self._take(request, "strangers", address)

    async def take_sign_in(self, request: Request, name: str, address: str | None) -> None:
        """Count a try to sign in with a password: whoever tries many names from one address is stopped, and so are
        those who try one name from many.

        Raises:
            Refused: there were too many.
        """
        await self._take(request, "strangers", address)
        await self._take(request, "sign_ins", name, address)
        await self._take(request, "guesses", name)

    async def _take(self, request: Request, kind: str, *whose: str | None) -> None:
        limit = self._limits[kind]
        if not limit:
            return
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(_THREADS)
        bucket = bucket_of(kind, *whose)
        taken = await anyio.to_thread.run_sync(self._rates.take, bucket, limit, limiter=self._threads)
        request.scope["answer_headers"] = _told(kind, taken)
        if not taken.allowed:
            raise refused(kind, taken.limit, taken.retry_after_s)


def refused(kind: str, limit: int, retry_after_s: int) -> Refused:
    """Too many of a kind."""
    headers = {"Retry-After": str(retry_after_s)}
    return Refused(429, f"More than {limit} {_SAID.get(kind, kind)} came in a minute.", headers=headers)


def _told(kind: str, taken: Taken) -> Mapping[str, str]:
    """As the draft of the RateLimit headers has it."""
    return {
        "RateLimit-Policy": f'"{kind}";q={taken.limit};w=60',
        "RateLimit": f'"{kind}";r={taken.left};t={taken.reset_s}',
    }
