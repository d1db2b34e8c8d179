"""Flows whose attempts are compared with what observers are told."""

from typing import Any

from orchestrator import Context, Flow, each, flow, step
from orchestrator.core.manifest import Manifest

GO_WRONG: set[str] = set()
"""What is to fail, the next time it is called."""


def perhaps(what: str) -> None:
    if what in GO_WRONG:
        GO_WRONG.discard(what)
        raise ValueError(f"{what} went wrong")


@step
def plus(n: int) -> int:
    return n + 1


@step(retries=1, backoff=["0s"])
def shaky(n: int) -> int:
    perhaps("shaky")
    return n


@step
def bad(n: int) -> int:
    raise KeyError("no such thing")


@step(transactional=True)
def noted(ctx: Context, n: int) -> int:
    ctx.tx.exec_driver_sql("SELECT 1")
    return n


@flow(name="observed_chain")
def chain(n: int) -> int:
    return plus(plus(plus(n)))


@flow(name="observed_retry")
def retried(n: int) -> int:
    return plus(shaky(n))


@flow(name="observed_skip")
def skipping(n: int) -> int:
    return plus(plus(bad(n)))


@flow(name="observed_loop")
def looping(items: list[int]) -> Any:
    return each(plus, items)


@flow(name="observed_tx")
def transactional(n: int) -> int:
    return noted(plus(n))


@flow(name="observed_late", deadline="1h")
def late(n: int) -> int:
    return plus(n)


empty = Flow.from_manifest(Manifest(name="observed_empty", steps={}), [])
middle = Flow.from_manifest(
    Manifest(
        name="observed_middle",
        steps={
            "never": {"type": "plus", "inputs": {"n": 1}, "when": "false"},
            "deep": {"flow": "observed_empty"},
            "rest": {"type": "plus", "inputs": {"n": 1}},
        },
    ),
    [plus],
)
calling = Flow.from_manifest(
    Manifest(
        name="observed_calls",
        steps={"sub": {"flow": "observed_middle"}, "other": {"flow": "observed_chain", "inputs": {"n": 1}}},
    ),
    [],
)
