"""One client for many threads, with the connections that it has by default."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.client import Client
from orchestrator.core.manifest import Manifest
from orchestrator.engine.flows import register
from tests.support.factories import call

THREADS = 40


@pytest.mark.slow
def test_more_threads_than_connections_take_turns(client: Client) -> None:
    """None of them waits for a connection with one in its hand for which others wait."""
    register.register(client.ledger, Manifest(name="demo", steps={"a": call()}))

    def work(number: int) -> int:
        for _ in range(5):
            handle = client.start("demo")
            handle.cancel(reason="enough")
            client.runs(limit=3)
            assert handle.row().status == "cancelled"
        return number

    with ThreadPoolExecutor(THREADS) as threads:
        assert list(threads.map(work, range(THREADS))) == list(range(THREADS))
