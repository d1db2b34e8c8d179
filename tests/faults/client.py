"""A client in a process of its own."""

from orchestrator.client import Client
from tests.faults import flows  # noqa: F401  arms the fault points
from tests.faults.arena import WIDTH


def start(key: str) -> int:
    """Start `mix` under an idempotency key and print the run's id."""
    with Client.from_env() as client:
        handle = client.start("mix", {"width": WIDTH, "plan": {}}, idempotency_key=key)
        print(f"run {handle.id}", flush=True)
    return 0


def again(run_id: str) -> int:
    """Run it again from `pay` on."""
    with Client.from_env() as client:
        print(f"run {client.run(run_id).rerun('pay').id}", flush=True)
    return 0


def signal(run_id: str) -> int:
    """Send what it waits for."""
    with Client.from_env() as client:
        print(client.run(run_id).signal("paid", 5, id="evt-1"), flush=True)
    return 0


def mark(run_id: str) -> int:
    """Its step `right` was done by hand."""
    with Client.from_env() as client:
        client.run(run_id).mark("right", 7, "by hand")
        print("marked", flush=True)
    return 0
