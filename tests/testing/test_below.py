"""What a test sees of steps inside of items, and of the runs that steps call."""

import pytest

from orchestrator import approval, block, each, flow, step, wait_for_signal, when
from orchestrator.testing import World


@step
def weigh(order: int) -> int:
    return order * 2


@step
def wrap(weight: int) -> str:
    return f"wrapped {weight}"


@step(retries=1, backoff="1m")
def carry(parcel: str) -> str:
    return f"{parcel}, carried"


@flow
def ship(parcel: str) -> str:
    fetched = wait_for_signal(bool, name="fetched", timeout="2d")
    return carry.options(after=[fetched])(parcel)


@block
def packed(order: int) -> str:
    weight = weigh(order)
    with when(weight > 4):
        approval(bool, key="heavy", title="Is it safe?", to="ada")
    return ship(wrap(weight))


@flow
def orders(numbers: list[int]) -> list[str]:
    return each(packed, numbers, key="each")


@flow
def nightly(numbers: list[int]) -> list[str]:
    return orders(numbers)


@block
def shelf(numbers: list[int]) -> list[int]:
    return each(weigh, numbers, key="in")


@flow
def shelves(all: list[list[int]]) -> list[list[int]]:
    return each(shelf, all, key="out")


def test_steps_of_items_and_of_called_runs_are_seen(world: World) -> None:
    run = world.start(orders, numbers=[1, 3])
    assert {path: str(status) for path, status in run.steps.items()} == {
        "each": "running",
        "each.0": "running",
        "each.0.weigh": "succeeded",
        "each.0.heavy": "skipped",
        "each.0.wrap": "succeeded",
        "each.0.ship": "running",
        "each.0.ship/fetched": "waiting",
        "each.0.ship/carry": "blocked",
        "each.1": "running",
        "each.1.weigh": "succeeded",
        "each.1.heavy": "waiting",
        "each.1.wrap": "succeeded",
        "each.1.ship": "running",
        "each.1.ship/fetched": "waiting",
        "each.1.ship/carry": "blocked",
    }
    assert run.skipped == {"each.0.heavy": "when: @steps('weigh').output > 4 is false, with 2 > 4"}
    assert set(run.waiting) == {"each.0.ship/fetched", "each.1.heavy", "each.1.ship/fetched"}
    assert run.waiting["each.0.ship/fetched"].startswith("Step fetched waits for signal fetched until")


def test_what_is_below_is_answered_asked_and_read_by_its_path(world: World) -> None:
    run = world.start(nightly, numbers=[3])
    assert world.answer(run, "orders/each.0.heavy", True).delivered
    world.fake(carry, raises=[OSError("a flat tyre")], returns="there")
    assert world.signal(run.called("orders/each.0.ship"), "fetched", True).delivered
    assert run.waiting.keys() == {"orders/each.0.ship/carry"}
    assert run.explain("orders/each.0.ship/carry").sentence in run.waiting.values()
    world.finish(run)
    assert run.result() == ["there"]
    assert run.output("orders/each.0.wrap") == "wrapped 6"
    tried = run.attempts("orders/each.0.ship/carry")
    assert [one.status for one in tried] == ["failed", "succeeded"]


def test_an_operator_acts_below(world: World) -> None:
    run = world.start(orders, numbers=[1])
    run.mark("each.0.ship/fetched", True)
    assert run.result() == ["wrapped 2, carried"]
    lost = world.start(orders, numbers=[1])
    world.finish(lost)
    assert lost.status == "failed"
    assert lost.skipped.keys() == {"each.0.heavy", "each.0.ship/carry"}


def test_a_step_that_called_nothing_says_so(world: World) -> None:
    run = world.start(orders, numbers=[3])
    with pytest.raises(AssertionError, match=r"Step each\.0\.weigh of run .* has called no run"):
        run.called("each.0.weigh")


def test_loops_in_loops_are_seen_once_and_in_order(world: World) -> None:
    run = world.start(shelves, all=[[1, 2], [], [3]])
    assert list(run.steps) == [
        *("out", "out.0", "out.0.in", "out.0.in.0.weigh", "out.0.in.1.weigh", "out.1", "out.1.in"),
        *("out.2", "out.2.in", "out.2.in.0.weigh"),
    ]


@flow
def weighing(order: int) -> int:
    return weigh(order)


@flow
def many(numbers: list[int]) -> list[int]:
    return each(weighing, numbers)


def test_more_runs_than_one_transaction_starts_are_called_at_once(world: World) -> None:
    assert world.start(many, numbers=list(range(40))).result() == [2 * number for number in range(40)]
