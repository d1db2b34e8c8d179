"""A step is started alone: a flow of one step, with the step's own types."""

from datetime import timedelta
from typing import Any

import pytest

from orchestrator import AuthoringError, Context, InputInvalid, each, flow, step
from orchestrator.authoring.alone import alone, by_name
from orchestrator.testing import World


@step(retries=2, backoff=["1m"])
def add(ctx: Context, one: int, other: int = 2) -> int:
    """Adds.

    And no more.
    """
    if ctx.attempt < 2:
        raise ConnectionError("not yet")
    return one + other


@step(queue="slow", key="told")
async def tell(text: str) -> None: ...


def test_a_step_is_a_run_of_its_own(world: World) -> None:
    run = world.start(add, one=1)
    assert run.status == "waiting"
    world.advance("1m")
    assert run.result() == 3
    assert (run.handle.row().flow, run.steps) == ("tests-testing-test_alone-add", {"add": "succeeded"})
    assert world.client.runs(flow=add)[0].id == run.id
    assert world.client.run(run.id, add).result() == 3
    assert world.start("tests-testing-test_alone-add", {"one": 4, "other": 5}).status == "waiting"


def test_its_input_is_checked(world: World) -> None:
    with pytest.raises(InputInvalid, match="unknown input `uno`"):
        world.start(add, uno=1)
    with pytest.raises(InputInvalid):
        world.start(add, one="x")


def test_a_key_gives_the_same_run(world: World) -> None:
    first = world.start(add, one=1, idempotency_key="k")
    assert world.start(add, one=1, other=2, idempotency_key="k").id == first.id


def test_options_of_a_call_hold(world: World) -> None:
    run = world.start(add.options(retries=1, backoff=["1h"]), one=1)
    world.advance("30m")
    assert run.status == "waiting"
    world.advance("30m")
    assert run.result() == 3


def test_the_flow_is_the_same_each_time_and_has_the_steps_own_options() -> None:
    assert alone(add) is alone(add)
    manifest = alone(tell).manifest
    assert (manifest.name, manifest.queue, list(manifest.steps)) == ("tests-testing-test_alone-told", "slow", ["told"])
    assert alone(add).manifest.description == "Adds."
    assert alone(add.options(timeout="5s")).manifest.steps["add"].timeout == timedelta(seconds=5)


def test_a_step_that_depends_on_others_is_not_started_alone() -> None:
    with pytest.raises(AuthoringError, match=r"depends on other steps\. Fix: leave `after`, "):
        alone(add.options(after=["tell"]))


def test_two_functions_of_one_name_serve_nobody() -> None:
    def made(number: int) -> Any:
        @step(key="same")
        def inner() -> int:
            return number

        return inner

    known, unclear = by_name([made(1), add, made(2), add.options(retries=1)])
    assert known == {"tests-testing-test_alone-add": add}
    assert unclear == {"tests-testing-test_alone-same"}


@step
def listed() -> list[int]:
    return [1, 2]


@step
def doubled(number: int) -> int:
    return 2 * number


@flow
def doubles() -> list[int]:
    return each(doubled, listed())


def test_a_step_of_a_flow_goes_both_ways(world: World) -> None:
    assert world.start(doubles).result() == [2, 4]
    assert world.start(doubled, number=4).result() == 8
