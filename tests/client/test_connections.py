"""What a client does with its connections."""

import threading
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from orchestrator import flow, step
from orchestrator.client import Client
from orchestrator.engine.flows import switch
from orchestrator.errors import FlowDisabled, FlowNotFound, IdempotencyConflict, InputInvalid, OrchestratorError
from orchestrator.ledger import session
from orchestrator.ledger.statements import sql
from tests.support.race import race


@step
def one(n: int) -> int:
    return n


@flow(name="plain")
def plain(n: int) -> int:
    return one(n)


def test_a_refusal_costs_no_connection(client: Client) -> None:
    client.start(plain, n=1, idempotency_key="k")
    made: list[int] = []
    event.listen(client.ledger.engine, "connect", lambda *_: made.append(1))

    def refused(error: type[OrchestratorError], name: str, key: str | None = None, **given: object) -> None:
        for _ in range(5):
            with pytest.raises(error):
                client.start(name, idempotency_key=key, **given)

    refused(InputInvalid, "plain", n="x")
    refused(IdempotencyConflict, "plain", "k", n=2)
    refused(FlowNotFound, "nobody")
    switch.disable(client.ledger, "plain", "me")
    refused(FlowDisabled, "plain", n=1)
    assert made == []


def test_a_start_is_one_statement(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoded and checked once; with a key too, also when the key was used before."""
    client.start(plain, n=0)
    spoken: list[str] = []
    original = psycopg.Cursor.execute

    def execute(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        text = query.decode() if isinstance(query, bytes) else str(query)
        if threading.current_thread() is threading.main_thread():
            spoken.append(text)
        return original(self, query, *args, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", execute)
    client.start(plain, n=1)
    first = client.start(plain, n=1, idempotency_key="k")
    again = client.start(plain, n=1, idempotency_key="k")
    assert (first.created, again.created, again.id) == (True, False, first.id)
    client.start_many("plain", [{"n": n} for n in range(3)])
    assert spoken == [sql("start"), sql("start_keyed"), sql("start_keyed"), sql("definition"), sql("start")]


def test_a_start_without_a_key_works_after_idle_connections_were_ended(
    client: Client, db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing had been sent on them, so nothing is repeated."""
    monkeypatch.setattr(session, "IDLE_S", 0.0)
    of_client = "FROM pg_stat_activity WHERE application_name = 'orchestrator client'"
    with psycopg.connect(db_url, autocommit=True) as admin:
        for n in range(3):
            assert client.start(plain, n=n).created
            assert admin.execute(f"SELECT pg_terminate_backend(pid, 5000) {of_client}").fetchall()


@pytest.mark.parametrize("isolation", ["serializable", "repeatable read"])
def test_starts_with_shared_keys_do_not_see_the_databases_default_isolation(
    client: Client, db_url: str, isolation: str
) -> None:
    with psycopg.connect(db_url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {admin.info.dbname} SET default_transaction_isolation = '{isolation}'")  # type: ignore[arg-type]

    def start(me: int) -> int:
        return sum(client.start(plain, n=n, idempotency_key=f"{me % 2}-{n}").created for n in range(20))

    assert sum(race(*(lambda me=me: start(me) for me in range(8)))) == 40
