"""Who asks, and through which client of the ledger it is answered."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from orchestrator.client.client import Client
from orchestrator.client.run_handle import RunHandle
from orchestrator.core.access import Actor, Grant, Role
from orchestrator.errors import Conflict
from orchestrator.ledger import reads


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request."""

    name: str
    """For the record: `by` of what it does. A user, or `key:` and the name of a key."""
    grant: Grant
    id: str | None = None
    """Of the key or the session."""
    groups: tuple[str, ...] = ()
    browser: bool = False
    """Whether a browser says who it is by itself, with every request, whatever page makes it send one."""
    session: bool = False

    def answers_for(self, to: str | None) -> bool:
        """Whether an approval that asks `to`, a user, a group or a role, asks this one; without, it asks anybody."""
        if to is None:
            return True
        if to in list(Role):  # whatever groups or users are called
            return self.grant.role.covers(Role(to))
        return to == self.name or to in self.groups

    def actor(self, request: Request) -> Actor:
        """For the audit."""
        return Actor(self.name, self.id, address_of(request), request.scope.get("request_id"))


def address_of(request: Request) -> str | None:
    """Where a request came from, as far as that can be told: behind proxies, what the trusted ones say."""
    found: str | None = request.app.state.gate.proxies.address(request)
    return found


def find_run(client: Client, caller: Caller, part: str) -> RunHandle[Any]:
    """A run by its id or a part of it. Which runs a part means is not told to whoever may not see all of them.

    Raises:
        RunNotFound, Conflict: no run or several are meant.
    """
    try:
        return client.run(part)
    except Conflict:
        if caller.grant.flows:
            raise reads.runs.no_run(part) from None
        raise


async def client_of(request: Request) -> Client:
    """The one of this process, or what a request with a key is done in. (A coroutine, as all that needs no thread.)"""
    found = getattr(request.state, "client", request.app.state.client)
    assert isinstance(found, Client)
    return found


async def caller_of(request: Request) -> Caller:
    """Whom the gate let in."""
    found = request.state.caller
    assert isinstance(found, Caller)
    return found


async def actor_of(request: Request) -> Actor:
    """The same, for the audit."""
    return (await caller_of(request)).actor(request)


TheClient = Annotated[Client, Depends(client_of)]
TheCaller = Annotated[Caller, Depends(caller_of)]
TheActor = Annotated[Actor, Depends(actor_of)]
