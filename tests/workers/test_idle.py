"""What workers ask that have nothing to do."""

import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from orchestrator.settings import Settings
from tests.support.eventually import eventually
from tests.support.servers import Server
from tests.support.worker_process import WorkerProcess
from tests.workers.conftest import Bench

SECONDS = 8


def _log(server: Server) -> Path:
    (found,) = server.embedded.folder.glob("*.log")
    return found


@pytest.mark.slow
def test_an_idle_worker_asks_three_statements_a_second(
    bench: Bench, worker: Callable[..., WorkerProcess], pg_server: Server, db_url: str, settings: Settings
) -> None:
    """As `log_statement` sees them, BEGIN and COMMIT included; with the intervals that a worker has by default. A
    second one asks for itself only."""
    fields = Settings.model_fields
    calm = settings.model_copy(
        update={
            name: fields[name].default
            for name in ("lease", "heartbeat", "sweep_interval", "redispatch_after", "worker_ttl", "watchdog_interval")
        }
    )
    database = db_url.rpartition("/")[2].partition("?")[0]
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {database} SET log_statement = 'all'")
    log = _log(pg_server)

    def statements() -> int:
        begun = log.stat().st_size
        time.sleep(SECONDS)
        with log.open("rb") as text:
            text.seek(begun)
            lines = text.read().decode(errors="replace").splitlines()
        return sum("LOG:  statement:" in line or "LOG:  execute " in line for line in lines)

    first = worker(pool="threads", concurrency=2, settings=calm)
    eventually(lambda: "keeper.leads" in first.log())
    alone = eventually(lambda: found if 0 < (found := statements()) <= 3 * SECONDS else 0, message="it is quiet soon")
    second = worker(pool="threads", concurrency=2, settings=calm)
    eventually(lambda: "worker.starts" in second.log())
    eventually(lambda: statements() - alone <= 1.2 * SECONDS, message="the second one is quiet soon")
