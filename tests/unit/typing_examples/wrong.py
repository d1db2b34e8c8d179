"""Each line that ends in `# wrong: code` must be reported by `mypy --strict` with that code, and no other line."""

from collections.abc import Callable
from decimal import Decimal

from pydantic import BaseModel

from orchestrator import (
    Client,
    Context,
    Cron,
    Every,
    Poll,
    Schedule,
    Secret,
    answered_by,
    approval,
    contains,
    each,
    either,
    first_of,
    flow,
    header,
    on_failure,
    require,
    schedule,
    sleep,
    start_run,
    step,
    until,
    wait_for_signal,
    when,
)
from orchestrator.testing import World


class Order(BaseModel):
    id: int
    lines: list[str]


@step
def load(order_id: int, source: str = "db") -> Order:
    return Order(id=order_id, lines=[source])


@step(retries=3)
async def price(line: str, factor: float = 1.0) -> Decimal:
    return Decimal(factor) * len(line)


@step
def save(ctx: Context, order: Order, total: Decimal) -> None: ...


@step(retires=3)  # wrong: call-overload, untyped-decorator
def misspelt() -> None: ...


@step(retries="3")  # wrong: call-overload, untyped-decorator
def mistyped() -> None: ...


@step(poll="10s")  # wrong: call-overload, untyped-decorator
def unasked() -> None: ...


@step(poll=Poll(every="10s"))  # wrong: call-arg
def endless() -> None: ...


@flow(versoin="2")  # wrong: call-overload, untyped-decorator
def misnamed() -> None: ...


@flow
def arguments(order_id: int) -> None:
    load("x")  # wrong: arg-type
    load()  # wrong: call-arg
    load(order_id, sauce="x")  # wrong: call-arg
    load(order_id, "db", 3)  # wrong: call-arg
    load(price("x"))  # wrong: arg-type
    save(load(1), 3)  # wrong: arg-type
    save(Context(), load(1), Decimal(1))  # wrong: call-arg, arg-type
    load.options(timeout=[3])(1)  # wrong: arg-type
    load.options(keys="x")(1)  # wrong: call-arg
    load.options(poll=Poll("10s", "1m", until=True))(1)  # wrong: arg-type
    load.options(key="x")("y")  # wrong: arg-type


@flow
def results(order_id: int) -> Order:
    order = load(order_id)
    price(order.lnies)  # wrong: attr-defined
    price(order.id)  # wrong: arg-type
    price(order.lines)  # wrong: arg-type
    number: int = price("x")  # wrong: assignment
    load(number)
    return price("x")  # wrong: return-value


@flow
def calling(order_id: int) -> str:
    arguments("x")  # wrong: arg-type
    arguments.options(retires=2)  # wrong: call-arg
    start_run(arguments, "x")  # wrong: arg-type
    start_run(load, 1)  # wrong: arg-type
    return start_run(arguments, order_id).id  # wrong: attr-defined, no-any-return


@flow
def fan_out(order_id: int) -> list[str]:
    order = load(order_id)
    each(price, [1, 2])  # wrong: arg-type
    each(price, order.id)  # wrong: call-overload
    each(price, order.lines, concurrency="3")  # wrong: call-overload
    each(price, order.lines, errors="ignore")  # wrong: call-overload
    each(price, order.lines, errors="collect", stop_on_failure=True)  # wrong: call-overload
    each(order, [1])  # wrong: call-overload
    each(arguments, ["x"])  # wrong: arg-type
    each(arguments, [1], errors="ignore")  # wrong: call-overload
    price(each(arguments.options(retries=1), [1]))  # wrong: arg-type
    each(save, order.lines, total=Decimal(1))  # wrong: arg-type
    price(each(price, order.lines, errors="collect")[0].ok)  # wrong: arg-type
    return each(price, order.lines)  # wrong: arg-type


@flow
def decides(order_id: int) -> str:
    order = load(order_id)
    with when(order.id == "x"):  # wrong: comparison-overlap
        price("a")
    with when("x"):  # wrong: arg-type
        price("b")
    with when(contains(order.lines, "x"), order.id > 1):  # wrong: call-arg
        price("c")
    with when(order.id < "x"):  # wrong: operator
        price("d")
    contains(3, 4)  # wrong: arg-type
    text: str = header("x")  # wrong: assignment
    total: int = either(price("a"), price("b"))  # wrong: assignment
    first_of(price("a"), price("b"), rest="kill")  # wrong: arg-type
    with on_failure(order) as problem:
        load(problem.message)  # wrong: arg-type
        load(problem.code)  # wrong: attr-defined
    require(order.id > 1)  # wrong: call-arg
    price.options(join="most")(text)  # wrong: arg-type
    price.options(may_fail="yes")(text)  # wrong: arg-type
    price.options(when="yes")(text)  # wrong: arg-type
    with when(order.id > total) as nothing:
        price(nothing)  # wrong: arg-type
    return price("x")  # wrong: return-value


arguments.fn("x")  # wrong: arg-type
load.fn("x")  # wrong: arg-type


schedule(arguments, "0 7 * * *")  # wrong: arg-type
schedule(load, Cron("@daily"))  # wrong: arg-type
schedule(arguments, Cron("@daily"), overlap="stop")  # wrong: arg-type
schedule(arguments, Cron("@daily"), inputs={"order_id": 1})  # wrong: call-arg
schedule(arguments, Every([1]))  # wrong: arg-type
schedule(arguments, Cron("@daily", gap="later"))  # wrong: arg-type
Schedule("0 7 * * *", key="x")  # wrong: arg-type


@flow(schedules=["0 7 * * *"])  # wrong: list-item
def scheduled_by_text() -> None: ...


def in_a_program(client: Client, task: Callable[[str, int], Decimal]) -> None:
    client.start(load, order_id=1).result().upper()  # wrong: attr-defined
    client.start(1)  # wrong: call-overload
    made = step.from_task(task)
    client.start(made).result().upper()  # wrong: attr-defined
    made(1, 1)  # wrong: arg-type
    step.from_task(task, rate_limit="1/s")  # wrong: call-arg
    step.from_task("bakery.bake")  # wrong: arg-type


def in_a_test(world: World) -> None:
    world.fake(load)  # wrong: call-overload
    world.fake(load, returns=1)  # wrong: misc
    world.fake(load, calls=price.fn)  # wrong: arg-type
    world.fake(load, raises="error")  # wrong: arg-type
    world.start(scheduled_by_text).result().upper()  # wrong: attr-defined


@flow
def waits(order_id: int) -> None:
    sleep()  # wrong: call-arg
    wait_for_signal(Order)  # wrong: call-overload
    load(wait_for_signal(Order, name="paid").total)  # wrong: attr-defined
    load(wait_for_signal(Order, name="paid", default=None).id)  # wrong: union-attr
    approval(Order, title="x")  # wrong: call-overload
    approval(Order, title=order_id, to="y")  # wrong: call-overload
    load(approval(Order, title="x", to="y", late=None).id)  # wrong: union-attr
    price(answered_by(load(order_id)))  # wrong: arg-type
    sleep(load(order_id))  # wrong: arg-type
    sleep(length="1d")  # wrong: call-arg
    until(17)  # wrong: arg-type
    until("2026-01-01T00:00:00Z", after=3)  # wrong: arg-type


@step
def sign(key: Secret[str]) -> Secret[bytes]:
    return key.reveal().encode()  # wrong: return-value


@flow
def signs(key: Secret[str], word: str) -> None:
    sign(word)  # wrong: arg-type
    price(key)  # wrong: arg-type
    sign(sign(key))  # wrong: arg-type
