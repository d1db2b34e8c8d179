"""`@block`: traced once for each loop that uses it; a plain function everywhere else."""

from typing import Any

import pytest

from orchestrator import block, each, flow, step
from orchestrator.errors import AuthoringError


@step
def pick(line: str, n: int = 1) -> str:
    return line


@step
def pack(picked: str, who: str) -> str:
    return picked


@block
def fulfil(line: str, who: str) -> dict[str, str]:
    return {"packed": pack(pick(line, n=2), who), "who": who}


def test_a_block_is_the_body_of_a_loop() -> None:
    @flow
    def orders(lines: list[str], who: str) -> list[dict[str, str]]:
        return each(fulfil, lines, who=who, concurrency=3)

    loop = orders.manifest.steps["fulfil"]
    assert (loop.for_each, loop.concurrency) == ("@triggerBody().lines", 3)
    assert loop.steps["pick"].inputs == {"line": "@item('fulfil')", "n": 2}
    assert loop.steps["pack"].inputs == {"picked": "@steps('pick').output", "who": "@triggerBody().who"}
    assert loop.output == {"packed": "@steps('pack').output", "who": "@triggerBody().who"}
    assert orders.manifest.format == 2


def test_outside_of_each_it_is_a_function() -> None:
    @flow
    def one(line: str) -> str:
        each(fulfil, [line], who="ada")
        return fulfil(line, "bob")["packed"]

    assert list(one.manifest.steps) == ["fulfil", "pick_2", "pack_2"]
    assert fulfil("tea", who="ada") == {"packed": "tea", "who": "ada"}


def test_a_block_in_a_block_sees_the_item_around_it() -> None:
    @block
    def outer(lines: list[str]) -> list[str]:
        @block
        def inner(line: str) -> str:
            return pack(pick(line), who=lines[0])

        return each(inner, lines)

    @flow
    def nested(lists: list[list[str]]) -> list[list[str]]:
        return each(outer, lists)

    inner = nested.manifest.steps["outer"].steps["inner"]
    assert inner.for_each == "@item('outer')"
    assert inner.steps["pack"].inputs["who"] == "@item('outer')[0]"
    assert inner.steps["pick"].inputs["line"] == "@item('inner')"


@block
def without_steps(line: str) -> str:
    return line


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (lambda lines: each(without_steps, lines), "calls no step"),
        (lambda lines: each(fulfil, lines), "missing a required argument: 'who'"),
        (lambda lines: each(fulfil, lines, line="x", who="y"), "no parameter left for the item"),
        (lambda lines: each(fulfil, 5, who="x"), "is an int"),
    ],
)
def test_a_wrong_use_is_refused(body: Any, says: str) -> None:
    with pytest.raises(AuthoringError) as caught:

        @flow
        def wrong(lines: list[str]) -> None:
            body(lines)

    assert says in str(caught.value)


def test_a_block_is_a_plain_function() -> None:
    async def later(line: str) -> str:
        return line

    with pytest.raises(AuthoringError, match="is `async def`"):
        block(later)
