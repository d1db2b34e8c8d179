"""What a world does, what it says, and what befalls the workers in it."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from orchestrator import Context, RunFailed, RunTimedOut, flow, wait_for_signal
from orchestrator.errors import AuthoringError, Conflict, IdempotencyConflict, InputInvalid, OutputInvalid, UsageError
from orchestrator.testing import SimRun, World, check_flow, sim
from tests.testing import flows
from tests.testing.flows import (
    BankDown,
    Order,
    chain,
    charge,
    count,
    hurried,
    later,
    note,
    noting,
    price,
    quick,
    quickly,
    shop,
    thank,
)

ORDER = Order(customer="ada", amounts=[Decimal(1), Decimal(2), Decimal(3)])


# ---- runs ----


def test_a_run_goes_as_far_as_it_can(world: World) -> None:
    run = world.start(shop, order=ORDER)
    assert run.status == "succeeded"
    assert run.ended
    assert run.result() == "thank you: ada paid 12 as 1"
    assert run.output(charge) == "ada paid 12 as 1"
    assert run.steps["each.1.price" if "each.1.price" in run.steps else "price.1.price"] == "succeeded"
    assert [event.type for event in run.events][-1] == "run.succeeded"
    assert world.now == datetime(2026, 1, 1, tzinfo=UTC)


def test_the_input_is_checked_and_nothing_is_started(world: World) -> None:
    with pytest.raises(InputInvalid, match="unknown input `basket`"):
        world.start(shop, basket=1)
    assert world.client.runs() == []


def test_a_key_gives_the_same_run(world: World) -> None:
    first = world.start(chain, n=1, idempotency_key="k")
    assert world.start(chain, n=1, idempotency_key="k").id == first.id
    with pytest.raises(IdempotencyConflict):
        world.start(chain, n=2, idempotency_key="k")


@pytest.mark.parametrize("what", [len, 5, None])
def test_what_is_not_a_flow_is_refused_as_by_the_client(world: World, what: Any) -> None:
    with pytest.raises(UsageError, match="Fix: "):
        world.start(what)


def test_a_flow_is_checked_without_a_database() -> None:
    @flow
    def waits(order: str) -> str:
        return wait_for_signal(str, name="paid", key=order)

    (found,) = check_flow(waits)
    assert found.startswith("step paid waits for signal paid without an end")
    assert check_flow(chain) == []


def test_a_flow_that_was_added_starts_by_name() -> None:
    with sim(chain) as world:
        assert world.start("chain", {"n": 1}).result() == 6


def test_worlds_know_nothing_of_each_other() -> None:
    with sim(chain) as one, sim(chain) as other:
        one.start(chain, n=1)
        one.advance(days=1)
        assert other.client.runs() == []
        assert other.now < one.now
    with sim() as third:
        assert third.client.runs() == []
        assert third.now == datetime(2026, 1, 1, tzinfo=UTC)


def test_the_seed_decides_the_order() -> None:
    def order(seed: int) -> list[Any]:
        with sim(seed=seed) as world:
            fake = world.fake(price, calls=lambda amount: amount)
            world.start(shop, order=Order(customer="ada", amounts=[Decimal(n) for n in range(12)]))
            return [call.inputs["amount"] for call in fake.calls]

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(4)}) > 1
    assert sorted(order(2)) == list(range(12))


def test_a_step_is_skipped_or_done_by_hand(world: World) -> None:
    world.fake(charge, raises=ValueError("bank"))
    run = world.start(shop, order=ORDER)
    assert run.status == "waiting"
    run.mark(charge, "paid in cash")
    assert run.result() == "thank you: paid in cash"
    other = world.start(shop, order=ORDER)
    other.skip(charge, "nobody pays")
    assert other.skipped == {
        "charge": "skipped by the test: nobody pays",
        "thank": "charge was skipped, `run_after` asks for succeeded",
    }
    with pytest.raises(OutputInvalid, match="Input should be a valid string"):
        world.start(shop, order=ORDER).mark(charge, 7)  # type: ignore[arg-type]


def test_what_failed_is_retried(world: World) -> None:
    """All that failed, or one step; what has succeeded is not called once more."""
    bank = world.fake(charge, returns="paid")
    world.fake(thank, raises=ValueError("no mail"))
    run = world.start(shop, order=ORDER)
    run.retry()
    assert run.status == "failed"
    world.fake(thank, returns="thanks")
    run.retry(thank)
    assert run.result() == "thanks"
    assert (len(bank.calls), len(run.attempts(thank))) == (1, 3)
    assert [event.facts["by"] for event in run.events if event.type == "run.retried"] == ["the test"] * 2
    with pytest.raises(Conflict, match="`orchestrator run rerun"):
        run.retry()


def test_a_run_is_run_again_from_a_step_on(world: World) -> None:
    """What is kept is not called once more."""
    bank = world.fake(charge, returns="paid")
    world.fake(thank, raises=ValueError("no mail"))
    run = world.start(shop, order=ORDER)
    assert run.status == "failed"
    mail = world.fake(thank, returns="thanks")
    again = run.rerun(thank)
    assert again.result() == "thanks"
    assert (len(bank.calls), len(mail.calls)) == (1, 1)
    assert again.attempts(charge) == []
    assert again.explain(charge).sentence == f"Step charge has succeeded: kept from run {run.id}."
    whole = run.rerun(input={"order": {"customer": "bob", "amounts": []}})
    assert whole.result() == "thanks"
    assert bank.calls[-1].inputs == {"customer": "bob", "amount": Decimal(0)}


# ---- fakes ----


def test_a_fake_stands_for_a_function(world: World) -> None:
    bank = world.fake(charge, returns="paid")
    assert world.start(shop, order=ORDER).result() == "thank you: paid"
    (call,) = bank.calls
    assert call.inputs == {"customer": "ada", "amount": Decimal(12)}
    assert call.context.step_key == "charge"
    assert call.context.idempotency_key == f"{call.context.run_id}:charge"


def test_a_fake_of_an_async_step(world: World) -> None:
    world.fake(thank, calls=lambda receipt: receipt.upper())
    assert world.start(shop, order=ORDER).result() == "ADA PAID 12 AS 1"


def test_a_fake_may_want_the_context(world: World) -> None:
    def pay(ctx: Context, customer: str, amount: Decimal) -> str:
        return f"{ctx.step_key} {customer}"

    world.fake(charge, calls=pay)
    assert world.start(shop, order=ORDER).result() == "thank you: charge ada"


def test_a_fake_raises(world: World) -> None:
    world.fake(charge, raises=BankDown("closed"))
    run = world.finish(world.start(shop, order=ORDER))
    assert [attempt.error_message for attempt in run.attempts(charge)] == ["closed"] * 3
    assert run.skipped == {"thank": "charge failed, `run_after` asks for succeeded"}
    with pytest.raises(RunFailed, match="BankDown: closed"):
        run.result()


def test_a_fake_answers_per_attempt(world: World) -> None:
    bank = world.fake(charge, raises=[BankDown("closed")], returns="paid at last")
    run = world.start(shop, order=ORDER)
    assert run.waiting == {
        "charge": "Step charge failed attempt 1 (tests.testing.flows.BankDown: closed) and waits for its back-off; "
        "the next attempt is due in 60 s."
    }
    world.advance(seconds=59)
    assert len(bank.calls) == 1
    world.advance("2s")
    assert run.result() == "thank you: paid at last"
    assert [call.context.attempt for call in bank.calls] == [1, 2]


def test_a_fake_without_an_answer_left_says_so(world: World) -> None:
    world.fake(charge, raises=[BankDown("closed")])
    run = world.finish(world.start(shop, order=ORDER))
    assert "Attempt 2 of charge has no answer" in str(run.attempts(charge)[1].error_message)


def test_what_a_fake_returns_is_checked_like_a_result(world: World) -> None:
    world.fake(count, returns="seven")  # type: ignore[call-overload]
    run = world.start(chain, n=1)
    assert run.status == "failed"
    assert run.attempts("count")[0].error_type == "orchestrator.errors.OutputInvalid"


def test_a_fake_is_given_one_answer(world: World) -> None:
    for how in ({}, {"returns": 1, "calls": abs}, {"gives": 1}):
        with pytest.raises(UsageError, match="Fix: give `returns=` or `calls=`, `raises=`"):
            world.fake(count, **how)  # type: ignore[call-overload]


# ---- time ----


def test_time_stands_still_until_it_is_told(world: World) -> None:
    world.fake(charge, raises=BankDown)
    run = world.start(shop, order=ORDER)
    for _ in range(3):
        world.work()
    assert run.status == "waiting"
    assert world.now == datetime(2026, 1, 1, tzinfo=UTC)


def test_each_timer_goes_off_in_its_turn(world: World) -> None:
    at: list[datetime] = []

    def fails(amount: Decimal) -> Decimal:
        at.append(world.now)
        raise BankDown

    world.fake(price, calls=fails)
    run = world.start(shop, order=Order(customer="ada", amounts=[Decimal(1)]))
    world.advance(days=3)
    assert run.status == "failed"
    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(at)]
    assert [round(pause) for pause in pauses] == [10, 60, 600]
    assert world.now == datetime(2026, 1, 4, tzinfo=UTC)


def test_a_deadline_passes(world: World) -> None:
    run = world.start(hurried, n=1)
    assert run.status == "waiting"
    world.advance(hours=1)
    assert run.status == "timed_out"
    with pytest.raises(RunTimedOut):
        run.result()


def test_a_step_that_is_slow_keeps_its_lease(world: World) -> None:
    def slow(n: int) -> int:
        world.advance(seconds=100)
        return n

    fake = world.fake(count, calls=slow)
    run = world.start(chain, n=1)
    assert run.result() == 1
    assert len(fake.calls) == 5


def test_a_step_that_is_too_slow_times_out(world: World) -> None:
    def slow(n: int) -> int:
        world.advance(minutes=3)
        return n

    world.fake(count, calls=slow)
    run = world.start(chain, n=1)
    assert run.status == "failed"
    assert run.attempts("count")[0].error_type == "StepTimeout"


def test_time_does_not_go_back(world: World) -> None:
    for at in (world.now - timedelta(seconds=1), datetime(2027, 1, 1)):  # noqa: DTZ001
        with pytest.raises(UsageError, match="time does not go back"):
            world.advance_to(at)


def test_finish_says_what_does_not_end(world: World) -> None:
    run = SimRun(world.client.start(noting, n=1), world.work)  # the worker does not have this flow
    with pytest.raises(AssertionError, match=r"does not end by time alone"):
        world.finish(run)


def test_a_result_that_is_not_there_says_what_it_waits_for(world: World) -> None:
    run = world.start(hurried, n=1)
    with pytest.raises(AssertionError, match=r"has not ended\. Step later .* Fix: `world\.advance"):
        run.result()


# ---- what befalls a worker ----


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", [price, charge, thank], ids=lambda step: step.type)
def test_a_worker_that_dies_is_replaced(world: World, step: Any, after: bool) -> None:
    world.kill(step, after=after)
    run = world.start(shop, order=ORDER)
    assert run.status == "running"
    assert not run.ended
    world.advance(seconds=29)
    assert not run.ended
    world.advance(seconds=2)
    assert run.result() in {"thank you: ada paid 12 as 1", "thank you: ada paid 12 as 2"}
    crashed = [row for key in run.steps for row in _attempts(run, key) if row.status == "crashed"]
    assert len(crashed) == 1


def _attempts(run: Any, key: str) -> list[Any]:
    return [] if key in {"each", "price"} else run.attempts(key)


def test_a_worker_that_dies_each_time_fails_the_step(world: World) -> None:
    world.kill(charge, times=10)
    run = world.finish(world.start(shop, order=ORDER))
    assert run.status == "failed"
    with pytest.raises(RunFailed, match="WorkerLost"):
        run.result()


@pytest.mark.parametrize("after", [False, True])
def test_a_worker_that_dies_in_a_step_of_a_short_timeout_is_replaced(world: World, after: bool) -> None:
    """The timeout is the dead worker's to keep; what is left of it is the lease."""
    world.kill(quick, after=after)
    run = world.start(quickly, n=1)
    assert world.finish(run).result() == 1
    assert [row.status for row in run.attempts(quick)] == ["crashed", "succeeded"]


def test_a_worker_that_wakes_too_late_is_refused(world: World) -> None:
    bank = world.fake(charge, calls=lambda customer, amount: f"receipt {len(bank.calls)}")
    world.late(charge)
    run = world.start(shop, order=ORDER)
    assert run.result() == "thank you: receipt 2"
    assert [attempt.status for attempt in run.attempts(charge)] == ["crashed", "succeeded"]


@pytest.fixture
def notes(world: World) -> Iterator[psycopg.Connection]:
    with psycopg.connect(world.settings.require_database_url().replace("+psycopg", ""), autocommit=True) as made:
        made.execute("CREATE TABLE IF NOT EXISTS sim_notes (n int)")
        made.execute("TRUNCATE sim_notes")
        made.execute("INSERT INTO sim_notes VALUES (0)")
        yield made
        made.execute("DROP TABLE sim_notes")


@pytest.mark.parametrize("how", ["before", "after", "late"])
def test_a_transactional_effect_happens_once(world: World, notes: psycopg.Connection, how: str) -> None:
    world.late(note) if how == "late" else world.kill(note, after=how == "after")
    run = world.finish(world.start(noting, n=5))
    assert run.result() == 5
    assert notes.execute("SELECT n FROM sim_notes").fetchall() == [(5,)]


# ---- operators ----


def test_a_run_is_cancelled_and_retried(world: World) -> None:
    world.fake(charge, raises=BankDown)
    run = world.start(shop, order=ORDER)
    assert run.cancel("enough") == "cancelled"
    world.fake(charge, returns="paid")
    run.handle.retry()
    world.work()
    assert run.result() == "thank you: paid"


def test_explain_in_a_world(world: World) -> None:
    world.kill(charge)
    run = world.start(shop, order=ORDER)
    assert "the step runs again in 30 s" in run.explain(charge).sentence


def test_a_world_in_a_running_loop() -> None:
    """An async test may use one, too."""

    async def inside() -> str:
        with sim() as world:
            return world.start(shop, order=ORDER).result()

    assert asyncio.run(inside()) == "thank you: ada paid 12 as 1"


def test_a_flow_that_cannot_be_traced_is_refused_as_ever(world: World) -> None:
    with pytest.raises(AuthoringError, match="called like a function"):
        flows.chain(1)
    assert later.type == "later"
