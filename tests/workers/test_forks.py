"""A client that a module with flows makes when it is loaded serves the steps of forked children."""

from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.client import Client
from tests.workers.conftest import Bench
from tests.workers.test_outages import Start


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_client_made_at_import_starts_runs_inside_steps(bench: Bench, worker: Start, pool: str) -> None:
    settings = bench.settings.model_copy(update={"redispatch_after": timedelta(minutes=5)})  # no keeper helps
    worker(settings=settings, flows=str(Path(__file__).with_name("early_client.py")), pool=pool, concurrency=2)
    with Client(settings) as client:
        handles = [client.start("outer", n=n) for n in range(5)]
        inner = [client.run(handle.result(timeout=60)) for handle in handles]
        assert [run.result(timeout=60) for run in inner] == [1, 2, 3, 4, 5]
        assert [run.status for run in client.runs(tag="early")] == ["succeeded"]
