"""The budget of connections, with workers that live and others that are said."""

import psycopg
import pytest

from orchestrator.client import Client
from tests.cli.conftest import Cli
from tests.support.bouncer import equip

WORKER = (
    "INSERT INTO flow_workers (id, host, pid, pool, concurrency, prefetch, queues, handlers, release, seen_at) VALUES "
    "(%s, 'h', 1, %s, %s, 1, '{}', '{}', '1', now() - %s::interval)"
)


@pytest.fixture
def owner(stack: Client) -> str:
    """Where two workers and a keeper live, and one is dead."""
    url = stack.settings.require_database_url().replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        for name, pool, slots, age in (
            ("h/1/a", "prefork", 8, "0s"),
            ("h/2/b", "threads", 16, "0s"),
            ("h/3/c", "keeper", 0, "0s"),
            ("h/4/d", "prefork", 50, "10min"),
        ):
            connection.execute(WORKER, [name, pool, slots, age])
    return url


def test_the_budget_adds_up_what_lives_and_what_is_said(owner: str, cli: Cli) -> None:
    said = cli("db", "connections", "--apis", "2", "--beats", "2", "--clients", "3", "-o", "json").json
    most = {one["what"]: one["most"] for one in said["processes"]}
    assert most == {
        "prefork h/1/a": 22 + 8 * 4,
        "threads h/2/b": 22 + 16 * 2 + 2,
        "keeper h/3/c": 22,
        "API": 2 * 12,
        "beat": 2,
        "exporter": 1,
        "client": 3 * 10,
    }
    assert said["most"] == said["sessions"] == sum(most.values())
    with psycopg.connect(owner) as connection:
        found = connection.execute("SHOW max_connections").fetchone()
    assert found is not None
    assert said["server"]["limit"] == int(found[0]) == said["server"]["allowed"] + said["server"]["reserved"]
    assert 1 <= said["server"]["busy"] <= said["server"]["here"] <= said["server"]["open"]


def test_a_budget_that_is_too_large_says_what_helps(owner: str, cli: Cli) -> None:
    said = cli("db", "connections", "--clients", "100")
    assert "prefork h/1/a" in said.out
    assert "Now: " in said.out
    assert "That is too close. Fix: fewer slots" in said.err
    assert "a pooler in transaction mode" in said.err
    assert cli("db", "connections", "--clients", "0", "--apis", "0").out.splitlines()[-2].startswith("To PostgreSQL: ")


def test_behind_a_pooler_in_transaction_mode_both_sides_are_counted(
    owner: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    equip(owner)
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_POOLER", "transaction")
    said = cli("db", "connections", "--clients", "100")
    assert "To the pooler (transaction): 1146" in said.out
    assert "To PostgreSQL: 25, " in said.out
    assert "too close" not in said.err
