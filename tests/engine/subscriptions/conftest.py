"""A lab with people who subscribe, and a process that sends."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.core.access import Actor
from orchestrator.core.subscriptions import NotificationState
from orchestrator.engine.subscriptions import deliver, feed, manage
from orchestrator.engine.subscriptions.deliver import Post
from orchestrator.engine.subscriptions.keyring import Keyring
from orchestrator.engine.subscriptions.manage import Told
from orchestrator.ledger import reads
from orchestrator.ledger.reads.rows import NotificationRow
from orchestrator.webhooks.out.model import AddressRules
from orchestrator.webhooks.out.send import send
from tests.support.factories import Lab, after, call
from tests.webhooks.listeners import Listener, listening

ANN = Actor("ann")
GIVE_UP = timedelta(days=3)
LOCAL = AddressRules.of(["127.0.0.0/8"], plain_http=True, ports=None)


@dataclass
class Outbox:
    """Subscriptions of a lab. `secrets` is what references name."""

    lab: Lab
    secrets: dict[str, str] = field(default_factory=dict)
    post: Post = field(init=False)

    def __post_init__(self) -> None:
        self.post = Post(send, Keyring(self.secrets.__getitem__, "k" * 40), LOCAL)

    def subscribe(self, name: str, address: str, types: Sequence[str] = ("run.succeeded",), **facts: Any) -> Told:
        wanted = manage.wanted_of(address=address, types=types, **facts)
        return manage.create(self.lab.ledger, name, wanted, self.post.keyring, ANN)

    def flow(self) -> None:
        self.lab.flow({"a": call(), "b": after("a")})

    def finish(self) -> str:
        """The id of a run that has just succeeded."""
        run_id = self.lab.start()
        self.lab.do(run_id, "a", "b")
        return str(run_id)

    def feed(self) -> int:
        """Write down what is to be sent; how many."""
        written = 0
        while True:
            swept = feed.page(self.lab.ledger, GIVE_UP, "https://flows.example.com")
            written += swept.changed
            if not swept.more:
                return written

    def send(self, limit: int = 100) -> list[NotificationState | None]:
        """One round of what is due."""
        return [deliver.deliver(self.lab.ledger, one, self.post) for one in deliver.claim(self.lab.ledger, limit)]

    def rows(self, name: str | None = None) -> list[NotificationRow]:
        """The oldest first."""
        return reads.notifications.page(self.lab.ledger, name, limit=1000)[::-1]


@pytest.fixture
def outbox(lab: Lab) -> Outbox:
    made = Outbox(lab)
    made.flow()
    return made


@pytest.fixture
def endpoint() -> Iterator[Listener]:
    """Takes what is sent to it."""
    with listening() as made:
        yield made


def url(listener: Listener) -> str:
    return f"http://127.0.0.1:{listener.port}/hook"
