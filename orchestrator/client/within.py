"""A client all of whose calls are one transaction."""

from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar, cast

from orchestrator.client.client import Client
from orchestrator.core.facts import Dispatch
from orchestrator.delivery.sender import Sender
from orchestrator.ledger.joined import Joined
from orchestrator.ledger.tx import Ledger

P = ParamSpec("P")
T = TypeVar("T")


class Within(Client):
    """As the client that it is made of. What is to be sent waits in `dispatches` for whoever commits."""

    def __init__(self, whole: Client, joined: Joined) -> None:
        vars(self).update(vars(whole))  # its settings, and what it has opened
        self._whole, self.ledger = whole, joined
        self.dispatches: list[Dispatch] = []

    def call(self, ask: Callable[Concatenate[Ledger, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Never again: a lost connection takes with it what was done before."""
        return self.call_once(ask, *args, **kwargs)

    def end(self, how: Callable[Concatenate[Joined, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The last call, which commits."""
        return self.call_once(cast(Callable[Concatenate[Ledger, P], T], how), *args, **kwargs)

    def sending(self) -> Sender:
        return self._whole.sending()

    def publish(self, dispatches: Sequence[Dispatch]) -> None:
        """After the commit."""
        self.dispatches += dispatches
