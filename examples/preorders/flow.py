"""The flow `preorder`: a person agrees to large orders, the customer pays within three days, and only then is shipped.

price ─▶ (above 500: approval) ─▶ ask_to_pay ─▶ wait for `paid` ─▶ ship
                     │ no                            │ not within 3 days
                     └──────────▶ call_off           └────────▶ call_off
"""

from decimal import Decimal

from pydantic import BaseModel, Field

from examples.orders import shop
from orchestrator import (
    Context,
    answered_by,
    approval,
    either,
    flow,
    on_failure,
    otherwise,
    step,
    wait_for_signal,
    when,
)


class Preorder(BaseModel):
    number: str
    customer: str
    item: str
    price: Decimal = Field(gt=0)
    quantity: int = Field(gt=0)


class Decision(BaseModel):
    """What a person says of a large order."""

    ok: bool
    why: str = ""


class Paid(BaseModel):
    """What the payment provider sends."""

    reference: str
    amount: Decimal


SILENCE = Decision(ok=False, why="nobody decided in time")


@step
def price(order: Preorder) -> Decimal:
    return order.price * order.quantity


@step
def wave_through(order: Preorder) -> Decision:
    """Small orders need nobody."""
    return Decision(ok=True, why="small")


@step(retries=5, backoff="200ms..30s")
def ask_to_pay(ctx: Context, order: Preorder, amount: Decimal, by: str | None) -> None:
    said = f", as {by} said" if by else ""
    shop.mail(ctx.idempotency_key, order.customer, f"{order.number}: please pay {amount}{said}")


@step(retries=5, backoff="200ms..30s")
def ship(ctx: Context, order: Preorder, paid: Paid) -> str:
    """Exactly once, by the carrier's key."""
    return f"{order.number}: shipped as {shop.ship(ctx.idempotency_key)}, paid by {paid.reference}"


@step(retries=5, backoff="200ms..30s")
def call_off(ctx: Context, order: Preorder, why: str) -> str:
    shop.mail(ctx.idempotency_key, order.customer, f"{order.number}: called off, {why}")
    return f"{order.number}: called off, {why}"


@flow(name="preorder", tags=["example"])
def preorder(order: Preorder) -> str:
    """Sell something that is paid for first. Nothing is held while people think and banks work."""
    amount = price(order)
    with when(amount > 500):
        said = approval(
            Decision,
            title="Accept this order?",
            to="sales",
            show={"order": order.number, "amount": amount},
            within="2d",
            late=SILENCE,
        )
    with otherwise():
        small = wave_through(order)
    word = either(said, small)
    with when(word.ok):
        asked = ask_to_pay(order, amount, answered_by(said))
        paid = wait_for_signal(Paid, name="paid", timeout="3d", after=[asked])
        with on_failure(paid):
            unpaid = call_off(order, "nobody paid")
        shipped = ship(order, paid)
    with otherwise():
        refused = call_off(order, word.why)
    return either(shipped, unpaid, refused)
