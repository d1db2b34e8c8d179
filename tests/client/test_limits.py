"""A server that is there and ends what takes too long is not one that cannot be reached."""

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import Connection

from orchestrator.client import Client
from orchestrator.errors import TookTooLong
from orchestrator.ledger.tx import Ledger
from orchestrator.settings import Settings


def sleep_in_a_statement(tx: Connection, url: str) -> None:
    tx.exec_driver_sql("SELECT pg_sleep(30)")


def sleep_between_statements(tx: Connection, url: str) -> None:
    tx.exec_driver_sql("SELECT 1")
    with psycopg.connect(url) as other:  # until the server has ended the other session
        other.execute(
            "DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_stat_activity WHERE state = 'idle in transaction'"
            " AND datname = current_database() AND pid <> pg_backend_pid())"
            " LOOP PERFORM pg_sleep(0.02), pg_stat_clear_snapshot(); END LOOP; END $$"
        )
    tx.exec_driver_sql("SELECT 1")


@pytest.mark.parametrize("sleep", [sleep_in_a_statement, sleep_between_statements])
def test_what_took_too_long_is_told_as_that(settings: Settings, sleep: Callable[[Connection, str], None]) -> None:
    """With what to do about it; and the client goes on."""
    limited = settings.model_copy(update={"statement_timeout": timedelta(seconds=1.5)})
    url = settings.require_database_url().replace("+psycopg", "", 1)

    def ask(ledger: Ledger) -> None:
        with ledger.tx() as tx:
            sleep(tx, url)

    with Client(limited) as client:
        with pytest.raises(TookTooLong) as caught:
            client.call(ask)
        said = str(caught.value)
        assert "timeout" in said
        assert "Fix: try again" in said
        assert "cannot be reached" not in said
        assert client.runs() == []
