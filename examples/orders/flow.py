"""The flow `order`: reserve, charge, record the invoice, ship, notify.

open_books ──────────────────────────────┐
reserve (× line) ─▶ charge ─▶ record_invoice ─▶ dispatch_parcel ─▶ notify
"""

from datetime import datetime
from decimal import Decimal

from pydantic import BaseModel, Field
from sqlalchemy import text

from examples.orders import shop
from orchestrator import Context, each, flow, step


class Line(BaseModel):
    sku: str
    quantity: int = Field(gt=0)
    price: Decimal = Field(gt=0)


class Order(BaseModel):
    number: str
    customer: str
    card: str = "tok_visa"
    lines: list[Line] = Field(min_length=1)


class Payment(BaseModel):
    reference: str
    amount: Decimal
    attempts: int


class Invoice(BaseModel):
    id: int
    recorded_at: datetime


class Confirmation(BaseModel):
    order: str
    invoice: int
    payment: str
    tracking: str


BOOKS = """
CREATE TABLE IF NOT EXISTS orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    number text NOT NULL,
    customer text NOT NULL,
    amount numeric NOT NULL,
    payment text NOT NULL,
    recorded_at timestamptz NOT NULL
)
"""


@step(transactional=True)
def open_books(ctx: Context) -> None:
    """Make the table `orders` if it is not there. In a project of yours this is a migration."""
    if ctx.tx.scalar(text("SELECT to_regclass('orders')")) is not None:
        return
    ctx.tx.execute(text("SELECT pg_advisory_xact_lock(hashtext('orders'))"))  # two CREATE IF NOT EXISTS can collide
    ctx.tx.execute(text(BOOKS))


@step(retries=3, backoff="200ms..5s", never_retry=(shop.OutOfStock,))
def reserve(ctx: Context, line: Line) -> str:
    """Exactly once, because the warehouse knows the key, which holds the line's place in the loop."""
    shop.reserve(ctx.idempotency_key, line.sku, line.quantity)
    return ctx.idempotency_key


@step(retries=5, backoff="200ms..30s", never_retry=(shop.CardDeclined,), timeout="1m")
def charge(ctx: Context, order: Order) -> Payment:
    """Exactly once, because the provider knows the key: it is the same for every attempt."""
    amount = sum((line.price * line.quantity for line in order.lines), Decimal(0))
    return Payment(reference=shop.charge(ctx.idempotency_key, order.card, amount), amount=amount, attempts=ctx.attempt)


@step(transactional=True, retries=3, backoff="200ms..5s")
def record_invoice(ctx: Context, order: Order, payment: Payment) -> Invoice:
    """Exactly once without any key: the row and this step's completion are one commit."""
    row = ctx.tx.execute(
        text(
            "INSERT INTO orders (number, customer, amount, payment, recorded_at) "
            "VALUES (:number, :customer, :amount, :payment, now()) RETURNING id, recorded_at"
        ),
        {"number": order.number, "customer": order.customer, "amount": payment.amount, "payment": payment.reference},
    ).one()
    return Invoice(id=row.id, recorded_at=row.recorded_at)


@step(retries=5, backoff=["500ms", "2s", "10s"])
def dispatch_parcel(ctx: Context, order: Order) -> str:
    """Exactly once, by the carrier's key; the tracking number."""
    ctx.log.info("parcel", extra={"order": order.number})
    return shop.ship(ctx.idempotency_key)


@step(retries=2)
def notify(ctx: Context, order: Order, payment: Payment, invoice: Invoice, tracking: str) -> Confirmation:
    """At least once: a worker that dies right after the mail was sent makes it be sent again."""
    shop.mail(ctx.idempotency_key, order.customer, f"order {order.number} is on its way: {tracking}")
    return Confirmation(order=order.number, invoice=invoice.id, payment=payment.reference, tracking=tracking)


@flow(name="order", version="1", deadline="1h", tags=["example"])
def place_order(order: Order) -> Confirmation:
    """Sell something: money and goods move once, whatever dies on the way."""
    books = open_books()
    reserved = each(reserve, order.lines)
    paid = charge.options(after=[reserved])(order)
    invoice = record_invoice.options(after=[books])(order, paid)
    tracking = dispatch_parcel.options(after=[invoice])(order)
    return notify(order, paid, invoice, tracking)
