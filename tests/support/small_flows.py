"""A few small flows, for tests of the client and of the command line; nothing here is run by a worker there."""

from dataclasses import dataclass

from orchestrator import block, each, flow, step


@dataclass
class Greeting:
    text: str
    length: int


@step
def greet(name: str) -> str:
    return f"hello {name}"


@step
def measure(text: str, times: int) -> Greeting:
    return Greeting(text * times, len(text) * times)


@step
def numbers(count: int) -> list[int]:
    return list(range(count))


@step
def double(number: int) -> int:
    return number * 2


@flow(tags=["small"])
def hello(name: str, times: int = 1) -> Greeting:
    """Greets somebody."""
    return measure(greet(name), times)


@flow
def fan(count: int) -> list[int]:
    return each(double, numbers(count))


@block
def welcomed(name: str) -> int:
    return double(hello(name).length)


@flow
def crowd_of(names: list[str]) -> list[int]:
    """Calls a flow for each item, and goes on with what it gives."""
    return each(welcomed, names)
