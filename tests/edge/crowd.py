"""All who come by HTTP to the processes of one API: they are opened, told to stop, and asked what they saw."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import psycopg

from orchestrator.core.access import Actor, Grant, Role
from orchestrator.engine.access import keys
from orchestrator.ledger.tx import Ledger
from tests.edge import journal, told
from tests.edge.client import EdgeClient
from tests.edge.flows import ORDERS
from tests.edge.journal import Exchange, Journal
from tests.edge.publishers import Publisher
from tests.edge.starters import Body, Starter
from tests.proof.history import Call, Delivery, Heard
from tests.support.listener import Listener

_CATCH_UP_S: Final = 20.0
_ROLES: Final[Sequence[tuple[Sequence[str], float]]] = (
    (["hook-stripe", "hook-github"], 0.05),
    ([*ORDERS], 0.15),
    (["hook-standard", "hook-generic", "hook-slack"], 0.3),
    (["hook-github", "hook-slack", "hook-stripe"], 0.1),
)
"""The webhooks of each publisher, and how often it sends what it need not."""


class Crowd:
    """`doors`: the URLs of the API's processes."""

    def __init__(self, url: str, doors: Sequence[str], folder: Path, seed: str) -> None:
        self._url, self._doors, self._seed = url, doors, seed
        self._file = folder / "edge.jsonl"
        self._journal = Journal(self._file)
        self._headers = {"Authorization": f"Bearer {_key(url)}", "X-Big": "yes"}
        self._clients: list[EdgeClient] = []
        self.listener = Listener(doors, headers={"Authorization": self._headers["Authorization"]})
        self._read: list[Exchange] | None = None

    def open(self, starters: int, publishers: int, pause_s: float, flows: Mapping[str, Body]) -> None:
        """So many clients, each of which acts once in `pause_s` on the average; `flows` are those that they start."""
        self.listener.__enter__()
        given = (self._doors, self._journal)
        for n in range(starters):
            name = f"{self._seed}.{n}"
            self._clients.append(Starter(*given, name, pause_s, flows=flows, headers=self._headers))
        for n in range(publishers):
            slugs, doubles = _ROLES[n % len(_ROLES)]
            name = f"{self._seed}.{n}"
            self._clients.append(Publisher(*given, name, pause_s, slugs=slugs, doubles=doubles))
        for client in self._clients:
            client.start()

    def call_off(self) -> None:
        """Nothing new; what was not acknowledged is sent on."""
        for client in self._clients:
            client.call_off()

    def stop(self) -> None:
        """Wait until all have what they insist on, and the listener what is in the ledger."""
        self.call_off()
        for client in self._clients:
            client.stop()

    def hear_out(self) -> None:
        """Let the listener come to the end of what is in the ledger, and leave. Nothing happens any more by then."""
        ends = monotonic() + _CATCH_UP_S
        while not self._has_heard_all() and monotonic() < ends:
            sleep(0.1)
        self.listener.__exit__()

    def _has_heard_all(self) -> bool:
        with psycopg.connect(self._url, autocommit=True) as connection:
            row = connection.execute("SELECT max(id) FROM flow_events").fetchone()
        return row is not None and any(data["id"] == row[0] for data in reversed(self.listener.events))

    # ---- what they saw ----

    @property
    def exchanges(self) -> list[Exchange]:
        """When they have stopped."""
        if self._read is None:
            self._read = journal.read(self._file)
        return self._read

    @property
    def calls(self) -> list[Call]:
        return [*told.calls(self.exchanges)]

    @property
    def deliveries(self) -> list[Delivery]:
        return [*told.deliveries(self.exchanges)]

    @property
    def heard(self) -> list[Heard]:
        return [Heard(data["id"], data["run_id"], data["type"]) for data in self.listener.events]

    @property
    def lost_places(self) -> int:
        return self.listener.types.count("resync")


def _key(url: str) -> str:
    ledger = Ledger.connect(url, name="edge")
    try:
        return keys.create(ledger, "edge", Grant(Role.ADMIN, frozenset(), frozenset()), Actor("edge")).text
    finally:
        ledger.close()
