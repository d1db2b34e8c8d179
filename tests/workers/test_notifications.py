"""Workers tell subscriptions what happened, whoever of them is killed, whatever endpoints do."""

import json
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.core.access import Actor
from orchestrator.core.states import RunStatus
from orchestrator.core.subscriptions import NotificationState
from orchestrator.delivery import outbound
from orchestrator.engine.subscriptions import manage
from orchestrator.ledger import reads
from orchestrator.ledger.reads.rows import NotificationCount
from orchestrator.settings import Settings
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess
from tests.webhooks.listeners import Listener, listening, speaking
from tests.workers.conftest import Bench

ANN = Actor("ann")


@pytest.fixture
def endpoint() -> Iterator[Listener]:
    with listening() as made:
        yield made


@pytest.fixture
def settings(settings: Settings, endpoint: Listener) -> Settings:
    """As on a machine that may send to itself."""
    return settings.model_copy(update=_allowed(endpoint.port))


def _allowed(*ports: int) -> dict[str, Any]:
    return {
        "webhook_plain_http": True,
        "webhook_networks": ("127.0.0.1",),
        "webhook_ports": ports,
        "signing_key": "k" * 40,
    }


def subscribe(bench: Bench, name: str, port: int) -> None:
    wanted = manage.wanted_of(address=f"http://127.0.0.1:{port}/", types=["run.succeeded"])
    keys = outbound.keyring(Settings(signing_key="k" * 40), {})
    manage.create(bench.ledger, name, wanted, keys, ANN)


def told(endpoint: Listener) -> Counter[str]:
    """How often it was told of each run."""
    return Counter(json.loads(taken.body)["data"]["run_id"] for taken in endpoint.taken)


def test_a_healthy_endpoint_is_told_each_once_by_the_first_try(
    bench: Bench, worker: Callable[..., WorkerProcess], endpoint: Listener
) -> None:
    """Two workers, of which one leads and may be replaced: 95 of a hundred at the first try at least."""
    subscribe(bench, "crm", endpoint.port)
    worker(pool="threads"), worker(pool="threads")
    made = bench.start_many("chain", [{"n": 1}] * 200)
    eventually(lambda: len(told(endpoint)) == 200, timeout=90, message="all are told")
    assert told(endpoint) == {str(run_id): 1 for run_id in made}
    row = manage.get(bench.ledger, "crm")

    def counts() -> dict[NotificationState, NotificationCount]:
        return reads.notifications.counts(bench.ledger, row.id, timedelta(hours=1))

    eventually(lambda: counts().keys() == {"delivered"}, message="all are written down")
    (count,) = counts().values()
    print(f"at the first try: {count.at_first} of {count.n}")
    assert count.n == 200
    assert count.at_first >= 0.95 * count.n


def test_an_endpoint_that_hangs_keeps_neither_others_nor_runs_waiting(
    bench: Bench, worker: Callable[..., WorkerProcess], endpoint: Listener
) -> None:
    over = threading.Event()

    def hang(connection: socket.socket) -> None:
        over.wait(60)

    with speaking(hang) as port:
        allowed = bench.settings.model_copy(update=_allowed(endpoint.port, port))
        subscribe(bench, "slow", port)
        subscribe(bench, "crm", endpoint.port)
        worker(pool="threads", settings=allowed)
        made = bench.start_many("chain", [{"n": 1}] * 30)
        try:
            eventually(lambda: len(told(endpoint)) == 30, message="the other one is told")
            assert [bench.ended(run_id) for run_id in made] == [RunStatus.SUCCEEDED] * 30
            slow = reads.notifications.page(bench.ledger, "slow")
            assert {row.state for row in slow} == {"pending"}
            assert sum(row.claims > 0 for row in slow) <= 4
        finally:
            over.set()


def test_what_a_killed_worker_had_sent_is_sent_again_with_the_same_id(
    bench: Bench, worker: Callable[..., WorkerProcess], endpoint: Listener
) -> None:
    subscribe(bench, "crm", endpoint.port)
    first = worker(pool="threads", faults={"notification.sent": "kill"})
    (run_id,) = bench.start_many("chain", [{"n": 1}])
    eventually(lambda: endpoint.taken, message="it is sent")
    assert first.wait() == -signal.SIGKILL
    with bench.ledger.auto() as tx:
        tx.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION flow_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE "
            "AS $$SELECT clock_timestamp() + interval '2 minutes'$$"
        )
    worker(pool="threads")
    eventually(lambda: len(endpoint.taken) == 2, message="it is sent again")
    assert told(endpoint) == {str(run_id): 2}
    assert len({taken.headers["webhook-id"] for taken in endpoint.taken}) == 1
    (row,) = eventually(
        lambda: found if (found := reads.notifications.page(bench.ledger))[0].state == "delivered" else []
    )
    assert row.claims == 2
