"""The order flow: whatever dies, money and goods move once."""

import sqlite3
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from examples.orders import shop
from examples.orders.flow import Line, Order, place_order
from orchestrator import Client, RunFailed, RunStatus
from orchestrator.settings import Settings
from tests.support.worker_process import WorkerProcess, running

FLOWS = "examples.orders.flow"
Query = Callable[[str], list[Any]]


def order(number: str = "A-1", **more: Any) -> Order:
    lines = [Line(sku="tea", quantity=3, price=Decimal("2.50")), Line(sku="cup", quantity=1, price=Decimal("7.00"))]
    return Order(**{"number": number, "customer": "ada@example.org", "lines": lines, **more})


@pytest.fixture
def shop_file(tmp_path: Path) -> Path:
    return tmp_path / "shop.sqlite3"


@pytest.fixture
def outside(shop_file: Path) -> Query:
    """Asks the fake world."""

    def ask(query: str) -> list[Any]:
        connection = sqlite3.connect(shop_file)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    return ask


@pytest.fixture
def books(db_url: str) -> Query:
    """Asks the ledger's database."""

    def ask(query: str) -> list[Any]:
        with psycopg.connect(db_url.replace("+psycopg", "")) as connection:
            return connection.execute(query).fetchall()

    return ask


@pytest.fixture
def worker(settings: Settings, tmp_path: Path, shop_file: Path) -> WorkerProcess:
    return WorkerProcess(settings, FLOWS, tmp_path, env={"SHOP_FILE": str(shop_file)})


def assert_sold_once(outside: Query, books: Query) -> None:
    assert outside("SELECT sku, available FROM stock ORDER BY sku") == [("cup", 999), ("kettle", 1000), ("tea", 997)]
    assert outside("SELECT amount FROM payments") == [("14.50",)]
    assert books("SELECT number, amount FROM orders") == [("A-1", Decimal("14.50"))]
    assert len(outside("SELECT * FROM parcels")) == 1


def test_an_order_is_confirmed(settings: Settings, worker: WorkerProcess, outside: Query, books: Query) -> None:
    """The plain case, from typed input to typed result."""
    with running(worker), Client(settings) as client:
        confirmation = client.start(place_order, order=order()).result(timeout=60)
    assert_sold_once(outside, books)
    assert confirmation.order == "A-1"
    assert [confirmation.payment] == [row[0] for row in outside("SELECT reference FROM payments")]
    assert [confirmation.tracking] == [row[0] for row in outside("SELECT tracking FROM parcels")]


def test_money_is_taken_once_when_the_reply_is_lost(
    settings: Settings, worker: WorkerProcess, outside: Query, books: Query
) -> None:
    """The retry asks with the same key, and the provider answers with the first payment."""
    with running(worker), Client(settings) as client:
        run = client.start(place_order, order=order(card=shop.LOSES_REPLY))
        run.result(timeout=60)
        assert {step.key: step.attempts for step in run.steps()}["charge"] == 2
    assert len(outside("SELECT * FROM calls WHERE what = 'charge'")) == 2
    assert_sold_once(outside, books)


def test_a_declined_card_is_not_tried_again(settings: Settings, worker: WorkerProcess, outside: Query) -> None:
    """`never_retry` ends the step at its first attempt, and what needs it is skipped."""
    with running(worker), Client(settings) as client:
        run = client.start(place_order, order=order(card=shop.DECLINED))
        with pytest.raises(RunFailed, match="the bank said no"):
            run.result(timeout=60)
        assert run.status() is RunStatus.FAILED
        steps = {step.key: step for step in run.steps()}
        assert steps["charge"].attempts == 1
        assert {steps[key].status for key in ("record_invoice", "dispatch_parcel", "notify")} == {"skipped"}
    assert outside("SELECT * FROM payments") == []


@pytest.mark.parametrize("moment", ["before commit", "after commit"])
def test_effects_happen_once_when_the_worker_dies_at_the_transactional_step(
    moment: str, settings: Settings, tmp_path: Path, shop_file: Path, outside: Query, books: Query
) -> None:
    """Before the commit neither the row nor the completion is there, after it both are."""
    env = {"SHOP_FILE": str(shop_file), "DIE_AT": moment}
    worker = WorkerProcess(settings, "tests.examples.deadly_orders", tmp_path, env=env)
    with running(worker), Client(settings) as client:
        run = client.start(place_order, order=order())
        confirmation = run.result(timeout=60)
        attempts = {step.key: step.attempts for step in run.steps()}["record_invoice"]
    assert (tmp_path / "died").exists(), "the worker died"
    assert attempts == (2 if moment == "before commit" else 1)
    assert_sold_once(outside, books)
    assert books("SELECT id FROM orders") == [(confirmation.invoice,)]


def test_the_stock_is_not_oversold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused reservation leaves nothing behind, so a later attempt with the same key is refused too."""
    monkeypatch.setenv("SHOP_FILE", str(tmp_path / "shop.sqlite3"))
    for _ in range(2):
        with pytest.raises(shop.OutOfStock):
            shop.reserve("k", "tea", 1001)
    shop.reserve("k", "tea", 1000)
    shop.reserve("k", "tea", 1000)
