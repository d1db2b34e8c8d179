"""The fixtures that all other tests stand on."""

import psycopg
import redis

from orchestrator.settings import Settings


def test_each_test_has_a_database_of_its_own(empty_db_url: str) -> None:
    with psycopg.connect(empty_db_url) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (0,)


def test_the_broker_is_empty_and_never_evicts(broker_url: str) -> None:
    with redis.Redis.from_url(broker_url) as client:
        assert client.dbsize() == 0
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_the_settings_fixture_names_a_migrated_database(settings: Settings) -> None:
    url = settings.require_database_url().replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM flow_runs").fetchone() == (0,)
