"""A flow whose results are long."""

from orchestrator import each, flow, step


@step
def make(n: int) -> str:
    return "x" * n


@step
def size(more: int, text: str) -> int:
    return len(text) + more


@step
def total(sizes: list[int], text: str) -> int:
    return sum(sizes) + len(text)


@flow
def report(n: int) -> str:
    text = make(n)
    total(each(size, [1, 2], text=text), text)
    return text
