"""A module with flows that makes a client and uses it when it is loaded: before the pool's children are forked."""

from orchestrator import Client, flow, step


@step
def add(n: int) -> int:
    return n + 1


@flow(name="inner")
def inner(n: int) -> int:
    return add(n)


@step
def outside(n: int) -> str:
    return str(client.start(inner, n=n).id)


@flow(name="outer")
def outer(n: int) -> str:
    return outside(n)


client = Client.from_env()
client.start(inner, n=0, tags=["early"])
