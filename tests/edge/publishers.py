"""Publishers of webhooks. Each sends until it is acknowledged, with growing pauses; some send twice, at once to two
replicas, again after the acknowledgement, and not in the order in which things happened; and somebody forges."""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from tests.edge.caller import Caller
from tests.edge.client import EdgeClient
from tests.edge.flows import HOOKED, ORDERED, PAID, body
from tests.edge.journal import Exchange, Journal
from tests.edge.signing import MANNERS, compact

_PATIENCE_S: Final = 60.0
"""How long it insists when everything is healed."""
_GIVES_UP: Final = 8
"""Refusals of one delivery in a row: it is too late for it."""
_PAUSES_S: Final = (0.2, 0.4, 0.8, 1.5, 3.0)


@dataclass
class Event:
    """Something that happened at a publisher."""

    slug: str
    id: str
    body: dict[str, Any]
    genuine: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    """Of the first try."""
    tries: int = 0
    refused: int = 0
    due: float = 0.0

    @property
    def facts(self) -> dict[str, Any]:
        """For the journal."""
        signal = PAID if self.slug == "order-paid" else ""
        flow = ORDERED if self.slug.startswith("order-") else HOOKED
        facts = {"slug": self.slug, "flow": flow, "event": self.id, "body": self.body, "genuine": self.genuine}
        return {**facts, "signal": signal, "order": self.body.get("order", "")}


class Publisher(EdgeClient):
    """Of these webhooks. `doubles`: how often it sends something twice that it need not."""

    def __init__(
        self,
        doors: Sequence[str],
        journal: Journal,
        seed: str,
        pause_s: float,
        *,
        slugs: Sequence[str],
        doubles: float = 0.05,
        forges: float = 0.03,
    ) -> None:
        super().__init__(doors, journal, f"publisher {seed}", pause_s)
        self._seed, self._slugs, self._doubles, self._forges = seed, slugs, doubles, forges
        self._second = Caller(doors, journal, self.rng)
        """For what is sent twice at once."""
        self._pending: list[Event] = []
        self._sent: deque[Event] = deque(maxlen=50)
        self._count = 0

    def act(self) -> None:
        """Something happened; and one of those is sent that are due, whichever."""
        if len(self._pending) < 20:
            self._pending += self._happened()
        if self._sent and self.rng.random() < self._doubles:
            self._deliver(self.rng.choice(self._sent))
        self._send_one()

    def finish(self) -> None:
        """Everything that was not acknowledged."""
        ends = monotonic() + _PATIENCE_S
        while self._pending and monotonic() < ends:
            if not self._send_one():
                threading.Event().wait(0.05)
        self._second.close()

    # ---- what happens ----

    def _happened(self) -> list[Event]:
        slug = self.rng.choice(self._slugs)
        if slug.startswith("order-"):
            return self._order()
        id = self._id("evt")
        forged = self.rng.random() < self._forges
        return [Event(slug, id, body(self.rng, id=id), genuine=not forged)]

    def _order(self) -> list[Event]:
        """Its payment may be told before it is."""
        order = self._id("order")
        created, paid = self._id("evt"), self._id("evt")
        payment = {"id": paid, "order": order, "n": self.rng.randint(1, 3), "token": f"p{paid}"}
        events = [
            Event("order-created", created, body(self.rng, id=created, order=order)),
            Event("order-paid", paid, payment, due=monotonic() + self.rng.uniform(0, 1)),
        ]
        self.rng.shuffle(events)
        return events

    def _id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._seed}-{self._count}"

    # ---- what is sent ----

    def _send_one(self) -> bool:
        """Whether anything was due."""
        due = [event for event in self._pending if event.due <= monotonic()]
        if not due:
            return False
        event = self.rng.choice(due)
        answer = self._deliver(event)
        if answer.taken or not event.genuine or event.refused >= _GIVES_UP:
            self._pending.remove(event)
            self._sent.append(event)
        else:
            event.due = monotonic() + _PAUSES_S[min(event.tries, len(_PAUSES_S)) - 1] * self.rng.uniform(0.5, 1)
        return True

    def _deliver(self, event: Event) -> Exchange:
        """Once, or twice at the same moment."""
        event.tries += 1
        content, headers = self._signed(event)
        path = f"/api/webhook/{event.slug}"
        if self.rng.random() < self._doubles:
            facts = event.facts
            send = threading.Thread(target=self._second.send, args=("deliver", path, content, headers, facts))
            send.start()
            answer = self.caller.send("deliver", path, content, headers, facts)
            send.join()
        else:
            answer = self.caller.send("deliver", path, content, headers, event.facts)
        event.refused = event.refused + 1 if 400 <= answer.status < 500 else 0
        return answer

    def _signed(self, event: Event) -> tuple[bytes, Mapping[str, str]]:
        manner, content = MANNERS[event.slug], compact(event.body)
        if manner.anew or not event.headers:
            key = manner.key if event.genuine else manner.key.replace("MDEy", "MDEz").replace("key", "kex")
            event.headers = {"Content-Type": "application/json", **manner.sign(event.id, content, key)}
        return content, event.headers
