"""What the API says of queues: out of the ledger, and of the broker as long as that answers."""

from kombu import Connection as Broker
from starlette.testclient import TestClient

from orchestrator import flow, step
from orchestrator.client import Client
from orchestrator.core.facts import Claimant
from orchestrator.engine.flows import register
from orchestrator.engine.steps import claim_step
from orchestrator.servers.broker import transport_options
from orchestrator.servers.depths import depths
from orchestrator.settings import Settings
from tests.support import play
from tests.support.eventually import eventually


@step(queue="slow", priority=6)
def slowly(name: str) -> str:
    return name


@flow
def slow(name: str) -> str:
    return slowly(name)


def listed(api: TestClient) -> dict[str, dict[str, object]]:
    answer = api.get("/api/queues")
    assert answer.status_code == 200, answer.text
    return {one["queue"]: one for one in answer.json()["items"]}


def test_queues_are_told_with_what_waits_runs_and_serves(api: TestClient, stack: Client) -> None:
    register.register(stack.ledger, slow.manifest)
    first = stack.start("slow", name="a")
    stack.start("slow", name="b")
    assert claim_step.claim(stack.ledger, first.id, "slowly", 1, Claimant("test/1/a", play.LEASE)) is not None
    with stack.ledger.auto() as tx:
        tx.exec_driver_sql(
            "INSERT INTO flow_workers (id, host, pid, pool, concurrency, prefetch, queues, handlers, release, seen_at)"
            " VALUES ('h/1/r', 'h', 1, 'prefork', 1, 1, '{slow,idle}', '{}', '1', flow_now()),"
            " ('h/2/r', 'h', 2, 'prefork', 1, 1, '{gone}', '{}', '1', flow_now() - interval '1 hour')"
        )
    found = listed(api)
    assert set(found) == {"slow", "idle"}
    queue = found["slow"]
    assert (queue["ready"], queue["running"], queue["workers"]) == (1, 1, ["h/1/r"])
    assert queue["oldest"] is not None
    assert (found["idle"]["ready"], found["idle"]["oldest"], found["idle"]["messages"]) == (0, None, 0)
    eventually(lambda: listed(api)["slow"]["messages"] == 2)  # nobody took any


def test_messages_are_counted_as_kombu_counts_them(settings: Settings, stack: Client) -> None:
    """In the lists of all priorities."""
    register.register(stack.ledger, slow.manifest)
    for n in range(3):
        stack.start("slow", name=str(n))
        stack.start("hello", name=str(n))
    queue = "default"
    eventually(lambda: depths(settings, ["slow"]) == {"slow": 3})
    with Broker(settings.require_broker_url(), transport_options=transport_options(settings)) as broker:
        kombu = {name: broker.default_channel._size(name) for name in ("slow", queue)}
    assert depths(settings, ["slow", queue]) == kombu
