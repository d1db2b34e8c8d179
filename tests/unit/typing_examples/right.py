"""Everything here is right: `mypy --strict` must accept it without a cast."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, assert_type

from pydantic import BaseModel
from typing_extensions import TypedDict

from orchestrator import (
    AsyncClient,
    Client,
    Context,
    Cron,
    Every,
    Flow,
    Manifest,
    NotYet,
    Outcome,
    Poll,
    Schedule,
    Secret,
    Step,
    StepError,
    after,
    all_of,
    always,
    answered_by,
    any_of,
    approval,
    block,
    contains,
    each,
    either,
    ended,
    failed,
    first_of,
    flow,
    header,
    is_null,
    none_of,
    on_failure,
    otherwise,
    require,
    schedule,
    skipped,
    sleep,
    start_run,
    step,
    succeeded,
    until,
    wait_for_signal,
    when,
)
from orchestrator.testing import SimRun, World


class Order(BaseModel):
    id: int
    lines: list[str]


class Report(TypedDict):
    order: int
    prices: list[Decimal]


@step
def load(order_id: int, source: str = "db") -> Order:
    return Order(id=order_id, lines=[source])


@step(retries=3, backoff="1s..5m", never_retry=(ValueError,), timeout="30s", queue="slow", priority=1)
async def price(line: str, factor: float = 1.0) -> Decimal:
    return Decimal(factor) * len(line)


@step(poll=Poll(every="10s", timeout=timedelta(hours=1), until=lambda seen: seen.id > 0), retries=3)
def arrived(ctx: Context, order_id: int) -> Order:
    if ctx.poll is not None and ctx.poll.number < 3:
        raise NotYet("on its way", after="1m")
    return Order(id=order_id, lines=[])


@step(retries=2, backoff=["1s", 10], key="store")
def save(ctx: Context, order: Order, total: Decimal) -> None:
    ctx.log.info("saving", extra={"order": order.id, "total": total})


@step
async def notify(ctx: Context, text: str) -> bool:
    ctx.progress(1, total=2, note=text)
    return not ctx.cancelled


@step
def total(prices: list[Decimal]) -> Decimal:
    return sum(prices, Decimal(0))


@step
def anything(value: Any, times: int = 1) -> int:
    return times


@step
def any_object(value: object, times: int = 1) -> int:
    return times


@step
def nothing() -> None: ...


@block
def priced(line: str, factor: float) -> Decimal:
    return price(line, factor=factor)


@flow(name="checkout", version="2", deadline="1h", tags=["shop"], queue="default")
def checkout(order_id: int, note: str = "") -> Report:
    order = load(order_id, source=note)
    assert_type(order, Order)
    first = price(order.lines[0])
    assert_type(first, Decimal)
    prices = each(price, order.lines, concurrency=3, factor=2.0)
    assert_type(prices, list[Decimal])
    tried = each(price, order.lines, errors="collect")
    assert_type(tried, list[Outcome[Decimal]])
    assert_type(tried[0].error, StepError | None)
    assert_type(each(price, None, stop_on_failure=True), list[Decimal])
    assert_type(each(priced, order.lines, factor=2.0), list[Decimal])
    assert_type(each(priced, order.lines, errors="collect", key="tried", factor=2.0), list[Outcome[Decimal]])
    sum_ = total(prices=prices)
    saved = save.options(key="keep", after=[first, prices], retries=1, timeout="5s")(order, total=sum_)
    each(save, [order, load(2)], total=sum_, key="save_all")
    each(notify.options(priority=0), order.lines)
    done = notify(text=note)
    assert_type(done, bool)
    idle = nothing.options(after=[saved])()
    anything(idle, times=order.id)
    any_object(value=prices[0])
    any_object(prices, 3)
    any_object.options(retries=1)(value=1)
    each(any_object, ["x"], times=2)
    each(anything, ["x"], times=2, key="all")
    return {"order": order.id, "prices": [*[first], prices[0]]}


@flow
def a_run_for_each(order_ids: list[int], note: str) -> list[Report]:
    assert_type(each(checkout, order_ids), list[Report])
    assert_type(each(checkout, order_ids, concurrency=2, note=note, key="again"), list[Report])
    tried = each(checkout.options(retries=2), order_ids, errors="collect", key="tried")
    assert_type(tried, list[Outcome[Report]])
    return each(checkout, order_ids, stop_on_failure=True, key="last")


@flow
def bare(order_id: int) -> Order:
    return load(order_id)


@flow
def calling(order_id: int) -> Order:
    found = bare(order_id)
    assert_type(found, Order)
    run_id = start_run(bare, found.id)
    assert_type(run_id, str)
    again = bare.options(key="again", retries=2, after=[run_id], version=1)(order_id=found.id)
    assert_type(again, Order)
    return again


@step
def apologise(problem: StepError, text: str = "") -> str:
    return problem.message


@flow(when_errors="skip")
def decides(order_id: int, vip: bool, note: str | None) -> Decimal:
    order = load(order_id)
    with when((order.id > 1000) & ~contains(order.lines, "vip")):
        high = price("a")
    with otherwise(all_of(vip, any_of(order.id == 3, none_of(vip)))):
        middle = price("b")
    with otherwise():
        low = price("c")
    assert_type(either(high, middle, low), Decimal)
    with when(vip), when(is_null(note) | (header("x-kind") == "big") | contains(["a", "b"], header("x-kind"))):
        notify.options(when=order.id > 1, may_fail=True)(text="big")
    quick = first_of(price("x"), price("y"), rest="leave")
    assert_type(quick, Decimal)
    with on_failure(order, quick) as problem:
        assert_type(problem, StepError)
        apologise(problem, text=problem.message)
    with always(order), after(quick):
        notify.options(after=[succeeded(order), ended(quick), skipped(low), failed(high)], join="some")(text="end")
    checked = require(quick > 0, "the price is not positive")
    notify.options(after=[checked])(text="checked")
    return either(high, Decimal(0))


data: Flow[..., Any] = Flow.from_manifest(Manifest(name="x", steps={}), steps=[load, price, save, notify])


@flow(schedules=[Cron("@daily", tz="Europe/Paris"), Every("15m"), Schedule(Every(timedelta(hours=1)), key="hourly")])
def timed() -> None: ...


@flow(schedules=(Schedule(rule, input={"order_id": 1}, key=rule.expression[1:]) for rule in [Cron("@weekly")]))
def timed_too(order_id: int) -> None: ...


assert_type(timed, Flow[[], None])
nightly = schedule(bare, Cron("0 7 * * 1-5", "Europe/Paris", gap="skip", fold="both"), input={"order_id": 1}, jitter=30)
assert_type(nightly, Schedule)
schedule(data, Every("1h", anchor="2026-01-01T00:00:00Z"), key="hourly", overlap="queue", missed="all", window="1d")
schedule(
    checkout,
    Every(timedelta(days=1), anchor=datetime(2026, 1, 1, tzinfo=UTC)),
    input={"order_id": 1},
    start=datetime(2026, 1, 1, tzinfo=UTC),
    end="2027-01-01T00:00:00Z",
    paused=True,
    description="Once a day.",
)
assert_type(Cron("@daily").after(datetime.now(UTC)), datetime | None)


def in_a_program(client: Client, task: Callable[[str, int], Decimal]) -> None:
    assert_type(client.start(load, order_id=1).result(), Order)
    assert_type(client.start(load, order_id=1, start_after="10m").result(), Order)
    assert_type(client.start(load, order_id=1, headers={"via": "a"}).result(), Order)
    client.start_many(
        load, [{"order_id": 1}], headers=[("via", "a"), ("via", "b")], start_after=datetime(2100, 1, 1, tzinfo=UTC)
    )
    assert_type(client.start(price.options(retries=1), {"line": "x"}).result(), Decimal)
    assert_type(client.start_many(notify, [{"text": "x"}])[0].result(), bool)
    assert_type(client.start(any_object, value=1).result(), int)
    assert_type(client.run("1234", load).result(), Order)
    made = step.from_task(task, ignoring=["rate_limit"], retries=3, timeout="5s")
    assert_type(made, Step[[str, int], Decimal, Callable[[str, int], Decimal]])
    assert_type(client.start(made, line="x", pieces=1).result(), Decimal)


async def in_an_async_program(client: AsyncClient) -> None:
    assert_type(await (await client.start(load, order_id=1)).result(), Order)
    assert_type(await (await client.start_many(notify, [{"text": "x"}]))[0].result(), bool)


async def outside() -> Decimal:
    assert_type(bare.fn(1), Order)
    assert_type(load(1), Order)
    await notify.fn(Context(), "hello")
    return await price.fn("x")


def in_a_test(world: World) -> None:
    world.fake(load, returns=Order(id=1, lines=[]))
    world.fake(total, calls=lambda prices: Decimal(1), raises=[ValueError, ValueError("twice")])
    world.fake(notify, raises=ValueError)
    run = world.start(checkout, order_id=1)
    assert_type(run, SimRun[Report])
    assert_type(world.finish(run).result(), Report)
    assert_type(world.start(load, order_id=1).result(), Order)


@flow
def waits(order_id: int, at: datetime, pause: timedelta) -> Order:
    first = sleep("1d", after=[load(order_id)])
    assert_type(wait_for_signal(Order, name="paid", key=order_id, timeout="2d"), Order)
    assert_type(wait_for_signal(Order, name="paid", until=at, default=None, after=[first]), Order | None)
    said = approval(Order, title="Ship?", to="store", show={"id": order_id}, within="1h")
    assert_type(said, Order)
    assert_type(approval(Order, title="Ship?", to="store", late=None), Order | None)
    assert_type(answered_by(said), str | None)
    with after(first, until(at, key="then"), until(datetime(2026, 1, 1, tzinfo=UTC)), sleep(pause), sleep(90)):
        return load(order_id)


@block
def picked_up(order: Order) -> str | None:
    paid = wait_for_signal(Order, name="paid", key=order.id)
    return answered_by(approval(Order, title="Hand out?", to="store", after=[paid]))


@flow
def pickups(orders: list[Order]) -> list[str | None]:
    return assert_type(each(picked_up, orders), list[str | None])


@step
def sign(key: Secret[str], order: Order) -> Secret[bytes]:
    assert_type(key.reveal(), str)
    return Secret(b"")


@flow
def signs(key: Secret[str], order_id: int) -> Secret[bytes]:
    return sign(key, load(order_id))


def signed(client: Client) -> bytes:
    return client.start(signs, key=Secret("x"), order_id=1).result().reveal()
