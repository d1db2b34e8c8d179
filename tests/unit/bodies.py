"""Steps, and functions that call them, for the bodies that `test_bodies.py` tries."""

import contextlib
import functools
import os
import random
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime

from orchestrator import step


@step
def charge(order: str) -> str:
    return order


@step
def ship(order: str) -> str:
    return order


@step
def refund(order: str) -> None: ...


@step
def find(order: str) -> str | None:
    return None


@step
def number(n: int, label: str = "") -> int:
    return n


def guarded(order: str) -> str:
    try:
        return ship(order)
    except ValueError:
        refund(order)
        raise


def by_kind(kind: str, order: str) -> str:
    return charge(order) if kind == "card" else ship(order)


def maybe(order: str | None, note: str | None = None) -> str:
    if note is None:
        note = "none"
    if order is None:
        return ship("nothing")
    return ship(order)


def noted(order: str, note: str | None = None) -> str:
    if note is None:
        note = "none"
    return ship(order)


def all_of(numbers: list[int]) -> list[int]:
    return [number(n) for n in numbers]


def label() -> str:
    return f"made at {datetime.now(UTC)}"


def twice(text: str) -> str:
    """Touches no step: plain Python may do as it likes."""
    with contextlib.suppress(ValueError):
        text = str(int(text))
    while len(text) < 3:
        text += text
    return text


class Shop:
    def sell(self, order: str) -> str:
        try:
            return ship(order)
        finally:
            refund(order)


class Lazy:
    @functools.cached_property
    def shipped(self) -> str:
        return ship("x")


def deep(n: int) -> int:
    return deep(n - 1) if n else number(n)


@contextlib.contextmanager
def compensated(order: str) -> Iterator[None]:
    yield


NUMBERS = [1, 2, 3]
FAST = False
ORDERS = iter(range(1000))
__all__ = ["UTC", "date", "datetime", "os", "random", "time", "uuid"]
