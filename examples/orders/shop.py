"""The world outside: a warehouse, a payment provider, a carrier and a mail server, faked in one SQLite file.

It is a store of its own on purpose: nothing here can commit together with the ledger, as with a real provider.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS stock (sku TEXT PRIMARY KEY, available INTEGER NOT NULL CHECK (available >= 0));
CREATE TABLE IF NOT EXISTS reservations (key TEXT PRIMARY KEY, sku TEXT NOT NULL, quantity INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS payments (key TEXT PRIMARY KEY, reference TEXT NOT NULL, amount TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS parcels (key TEXT PRIMARY KEY, tracking TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS calls (what TEXT NOT NULL, key TEXT NOT NULL);
INSERT OR IGNORE INTO stock VALUES ('tea', 1000), ('cup', 1000), ('kettle', 1000);
"""
LOSES_REPLY = "tok_reply_lost"
DECLINED = "tok_declined"


class OutOfStock(Exception):
    """Waiting does not help: somebody has to buy more."""


class CardDeclined(Exception):
    """The answer is final."""


class ReplyLost(ConnectionError):
    """The provider may or may not have acted: the caller cannot know, and asks again with the same key."""


def place() -> Path:
    """Where the fake world lives: SHOP_FILE, or below the data of `orchestrator dev`."""
    return Path(os.environ.get("SHOP_FILE", ".orchestrator/shop.sqlite3"))


@contextmanager
def opened() -> Iterator[sqlite3.Connection]:
    """One transaction of the fake world."""
    place().parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(place(), timeout=30, isolation_level=None)
    try:
        db.executescript(SCHEMA)
        db.execute("BEGIN IMMEDIATE")
        yield db
        db.execute("COMMIT")
    finally:
        db.close()  # rolls back what is open


def reserve(key: str, sku: str, quantity: int) -> None:
    """Take from the stock, once per `key`."""
    with opened() as db:
        db.execute("INSERT INTO calls VALUES ('reserve', ?)", [key])
        if db.execute("INSERT OR IGNORE INTO reservations VALUES (?, ?, ?)", [key, sku, quantity]).rowcount == 0:
            return
        taken = db.execute(
            "UPDATE stock SET available = available - ? WHERE sku = ? AND available >= ?", [quantity, sku, quantity]
        )
        if taken.rowcount == 0:
            raise OutOfStock(f"there are no {quantity} of {sku!r}")


def charge(key: str, card: str, amount: Decimal) -> str:
    """Move money once per `key`; the payment's reference."""
    if card == DECLINED:
        raise CardDeclined("the bank said no")
    with opened() as db:
        db.execute("INSERT INTO calls VALUES ('charge', ?)", [key])
        new = db.execute("INSERT OR IGNORE INTO payments VALUES (?, ?, ?)", [key, f"pay-{key[-24:]}", str(amount)])
        reference: str = db.execute("SELECT reference FROM payments WHERE key = ?", [key]).fetchone()[0]
    if card == LOSES_REPLY and new.rowcount:
        raise ReplyLost("the money was taken, and then the line went dead")
    return reference


def ship(key: str) -> str:
    """Make one parcel per `key`; its tracking number."""
    with opened() as db:
        db.execute("INSERT INTO calls VALUES ('ship', ?)", [key])
        db.execute("INSERT OR IGNORE INTO parcels VALUES (?, ?)", [key, f"trk-{key[-24:]}"])
        tracking: str = db.execute("SELECT tracking FROM parcels WHERE key = ?", [key]).fetchone()[0]
    return tracking


def mail(key: str, to: str, text: str) -> None:
    """Send a message. Nobody looks at the key: called twice, it is sent twice."""
    with opened() as db:
        db.execute("INSERT INTO calls VALUES (?, ?)", [f"mail to {to}: {text}", key])
