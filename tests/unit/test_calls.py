"""Calls of flows in the body of a flow that are refused, and what is to be written instead."""

from typing import Any

import pytest

from orchestrator import block, each, flow, start_run, step
from orchestrator.errors import AuthoringError


@step
def count(number: int) -> int:
    return number


@flow
def child(number: int) -> int:
    return count(number)


@pytest.mark.parametrize(
    ("body", "says", "fix"),
    [
        (lambda n: child(n, 3), "flow `child`: too many positional arguments", "its parameters are `(number: int)"),
        (lambda n: child(m=n), "flow `child`: unknown argument `m`; use one of `number`.", "its parameters are"),
        (lambda n: child("x"), "argument `number` of flow `child` does not fit int", "a value of that type"),
        (lambda n: child.options(version="seven")(n), "flow `child` has `version='seven'`", "flow versions child"),
        (lambda n: child.options(version=True)(n), "flow `child` has `version=True`", "from 1"),
        (lambda n: child.options(version=0)(n), "flow `child` has `version=0`", "from 1"),
        (lambda n: child.options(retries=-1)(n), "flow `child` has `retries=-1`", "give a whole number from 0 to"),
        (lambda n: child.options(timeout="3s")(n), "unexpected keyword argument 'timeout'", "arguments of that call"),
        (lambda n: start_run(count, n), "`start_run` got something that is not a flow", "give a flow"),
        (lambda n: start_run("child", n), "`start_run` got something that is not a flow", "give a flow"),
        (lambda n: each(child, [n], colour=1), "unknown argument `colour`; use one of `number`.", "its parameters are"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_what_to_write(body: Any, says: str, fix: str) -> None:
    def sample(number: int) -> object:
        return body(number)

    with pytest.raises(AuthoringError) as caught:
        flow(sample)
    assert says in caught.value.message
    assert fix in caught.value.message
    assert ".." not in caught.value.message.replace("..1m", "").rpartition("/")[2]


def test_a_flow_that_names_itself_is_told_that_it_is_not_there_yet() -> None:
    def make() -> object:
        @flow
        def again(number: int) -> int:
            return again(number)

        return again

    with pytest.raises(AuthoringError, match=r"not there yet while its own body is read: .*\"flow\": \"again\""):
        make()


def test_a_block_may_call_flows() -> None:
    @block
    def both(number: int) -> int:
        return child(count(number))

    @flow
    def parent(numbers: list[int]) -> list[int]:
        return each(both, numbers)

    assert parent.manifest.steps["both"].steps["child"].flow == "child"
