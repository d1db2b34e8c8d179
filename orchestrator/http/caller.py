"""Who asks, and through which client of the ledger it is answered."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from orchestrator.client.client import Client


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request."""

    name: str
    """For the record: `by` of what it does."""


async def client_of(request: Request) -> Client:
    """The one of this process. (A coroutine, as all that needs no thread.)"""
    found = request.app.state.client
    assert isinstance(found, Client)
    return found


async def caller_of(request: Request) -> Caller:
    host = request.client.host if request.client is not None else "unknown"
    return Caller(f"api@{host}")


TheClient = Annotated[Client, Depends(client_of)]
TheCaller = Annotated[Caller, Depends(caller_of)]
