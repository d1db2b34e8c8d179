"""A run that is started in the caller's own transaction exists if and only if the caller commits."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from orchestrator import flow, step
from orchestrator.authoring.each import each
from orchestrator.client import AsyncClient, Client
from orchestrator.engine.flows import switch
from orchestrator.errors import FlowDisabled, FlowNotFound, IdempotencyConflict, InputInvalid, RunNotFound, UsageError
from orchestrator.settings import Settings
from tests.support.eventually import eventually


@step
def charge(n: int) -> int:
    return n


@flow(name="order")
def order(n: int) -> int:
    return charge(n)


@flow(name="orders")
def orders(items: list[int]) -> list[int]:
    return each(charge, items)


Given = Connection | psycopg.Connection[Any]
Open = Callable[[], Any]


def of_sqlalchemy(url: str) -> Iterator[tuple[Given, Callable[[str], Any]]]:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        yield connection, lambda statement: connection.execute(text(statement)).scalar()
    engine.dispose()


def of_psycopg(url: str) -> Iterator[tuple[Given, Callable[[str], Any]]]:
    def first(statement: str) -> Any:
        row = connection.execute(statement).fetchone()  # type: ignore[arg-type]
        return row and next(iter(row.values()))

    connection: psycopg.Connection[Any] = psycopg.connect(url, row_factory=dict_row)  # type: ignore[arg-type]
    yield connection, first
    connection.close()


@pytest.fixture(params=[of_sqlalchemy, of_psycopg], ids=["sqlalchemy", "psycopg"])
def opened(request: pytest.FixtureRequest, db_url: str) -> Iterator[tuple[Any, Callable[[str], Any]]]:
    with psycopg.connect(db_url) as connection:
        connection.execute("CREATE TABLE test_orders (n int)")
    yield from request.param(db_url)


@pytest.fixture
def published(db_url: str) -> Callable[[], int]:
    def ask() -> int:
        with psycopg.connect(db_url) as connection:
            row = connection.execute("SELECT count(published_at) FROM flow_step_dispatches").fetchone()
            assert row is not None
            return int(row[0])

    return ask


def test_the_run_is_there_when_the_caller_commits(client: Client, opened: Any, published: Callable[[], int]) -> None:
    connection, first = opened
    first("INSERT INTO test_orders VALUES (1) RETURNING n")
    run = client.start(order, n=1, connection=connection)
    assert run.created
    with pytest.raises(RunNotFound):
        client.run(run.id)
    connection.commit()
    assert client.run(run.id).status() == "pending"
    assert published() == 0, "nobody may find a message whose run is not there yet"
    client.committed(run)
    eventually(lambda: published() == 1)


def test_nothing_is_there_when_the_caller_rolls_back(client: Client, opened: Any) -> None:
    connection, first = opened
    first("INSERT INTO test_orders VALUES (1) RETURNING n")
    run = client.start(order, n=1, idempotency_key="k", connection=connection)
    connection.rollback()
    assert client.runs() == []
    assert first("SELECT count(*) FROM test_orders") == 0
    connection.rollback()
    again = client.start(order, n=2, idempotency_key="k")
    assert again.created
    assert again.id != run.id


def test_many_runs_of_a_flow_that_begins_with_a_loop(client: Client, opened: Any) -> None:
    connection, _ = opened
    runs = client.start_many(orders, [{"items": [1, 2]}] * 3, connection=connection)
    connection.commit()
    assert [len(run.dispatches) for run in runs] == [2, 2, 2]
    assert {row.id for row in client.runs()} == {run.id for run in runs}


def test_a_key_gives_the_run_of_before_also_within_the_transaction(client: Client, opened: Any) -> None:
    connection, _ = opened
    before = client.start(order, n=1, idempotency_key="old")
    assert client.start(order, n=1, idempotency_key="old", connection=connection).id == before.id
    new = client.start(order, n=1, idempotency_key="new", connection=connection)
    again = client.start(order, n=1, idempotency_key="new", connection=connection)
    assert (again.id, again.created) == (new.id, False)
    for key in ("old", "new"):
        with pytest.raises(IdempotencyConflict):
            client.start(order, n=2, idempotency_key=key, connection=connection)
    connection.commit()
    assert {row.id for row in client.runs()} == {before.id, new.id}


def test_a_refusal_leaves_the_transaction_usable(client: Client, opened: Any) -> None:
    connection, first = opened
    first("INSERT INTO test_orders VALUES (1) RETURNING n")
    client.start(order, n=0)
    switch.disable(client.ledger, "order", "me")
    with pytest.raises(FlowDisabled):
        client.start(order, n=1, connection=connection)
    with pytest.raises(FlowNotFound):
        client.start("nobody", connection=connection)
    switch.enable(client.ledger, "order", "me")
    with pytest.raises(InputInvalid):
        client.start("order", n="x", connection=connection)
    connection.commit()
    assert first("SELECT count(*) FROM test_orders") == 1


def test_an_error_of_the_database_leaves_the_transaction_usable(client: Client, opened: Any) -> None:
    connection, first = opened
    first("INSERT INTO test_orders VALUES (1) RETURNING n")
    first("SELECT set_config('lock_timeout', '50ms', TRUE)")
    with client.ledger.tx() as other:
        other.exec_driver_sql("LOCK TABLE flow_runs")
        with pytest.raises(Exception, match="lock timeout"):
            client.start(order, n=1, connection=connection)
    connection.commit()
    assert first("SELECT count(*) FROM test_orders") == 1


def test_a_connection_that_does_not_fit_is_refused(client: Client, db_url: str, empty_db_url: str) -> None:
    def refused(connection: Any, why: str) -> None:
        with pytest.raises(UsageError, match=why):
            client.start(order, n=1, connection=connection)
        assert client.runs() == []

    with psycopg.connect(db_url, autocommit=True) as by_itself:
        refused(by_itself, "commits each statement")
        with by_itself.transaction():
            assert client.start(order, n=1, connection=by_itself).created
            raise psycopg.Rollback
    with psycopg.connect(empty_db_url) as elsewhere:
        refused(elsewhere, "another database")
        assert elsewhere.execute("SELECT 1").fetchone(), "it is left usable"
    with psycopg.connect(db_url) as failed:
        with pytest.raises(psycopg.Error):
            failed.execute("SELECT 1 / 0")
        refused(failed, "has failed")
    refused("postgresql://", "is of type str")
    engine = create_engine(db_url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        refused(connection, "commits each statement")
    engine.dispose()
    sqlite = create_engine("sqlite://")
    with sqlite.connect() as connection:
        refused(connection, "one of sqlite3")
    with Session(sqlite) as session:
        refused(session, "of type Session")
    sqlite.dispose()


def test_a_session_of_the_orm_commits_its_runs(client: Client, db_url: str) -> None:
    engine = create_engine(db_url.replace("postgresql://", "postgresql+psycopg://"))
    with Session(engine) as session, session.begin():
        run = client.start(order, n=1, connection=session.connection())
    assert client.run(run.id).status() == "pending"
    engine.dispose()


def test_the_async_client_takes_sync_and_async_connections(settings: Settings, db_url: str) -> None:
    @contextmanager
    def opened() -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(db_url) as connection:
            yield connection

    async def main() -> list[Any]:
        engine = create_async_engine(db_url.replace("postgresql://", "postgresql+psycopg://"))
        async with AsyncClient(settings) as client:
            with opened() as sync:
                first = await client.start(order, n=1, connection=sync)
            async with engine.connect() as connection:
                second = await client.start(order, n=2, connection=connection)
                await connection.commit()
                gone = await client.start_many(orders, [{"items": [1]}], connection=connection)
                with pytest.raises(InputInvalid):
                    await client.start("order", n="x", connection=connection)
                await connection.rollback()
            await client.committed(first, second)
            found = {row.id for row in await client.runs()}
        await engine.dispose()
        assert gone[0].id not in found
        return [found, {first.id, second.id}]

    found, started = asyncio.run(main())
    assert found == started


def test_the_role_of_an_application_may_start_runs(client: Client, db_url: str) -> None:
    """The grants of the operators' page are enough."""
    client.start(order, n=0)
    with psycopg.connect(db_url) as admin:
        admin.execute("CREATE ROLE test_application")
        admin.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO test_application")
        admin.execute("SET ROLE test_application")
        assert client.start(order, n=1, connection=admin).created
        admin.rollback()
