"""Search attributes: what a flow may declare, and what its manifest says of them."""

from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator import Secret, flow, step
from orchestrator.core import search
from orchestrator.core.manifest import Manifest
from orchestrator.core.search import Kind
from orchestrator.errors import AuthoringError


class Place(BaseModel):
    country: str
    zip: int | str | None = None


class Order(BaseModel):
    id: int
    to: Place | None = None
    lines: list[str] = []


@step
def note(order: Order) -> None:
    """Does nothing."""


def declare(*names: str) -> Any:
    @flow(search=names)
    def orders(order: Order, customer: str, token: str, pin: Secret[str], paid: bool = False) -> None:
        note(order)

    return orders.manifest


def test_attributes_are_values_of_the_input_and_their_kinds_are_its_types() -> None:
    manifest = declare("customer", "order.id", "order.to.country", "order.to.zip", "paid")
    assert manifest.search == ("customer", "order.id", "order.to.country", "order.to.zip", "paid")
    text, number = frozenset({Kind.TEXT}), frozenset({Kind.NUMBER})
    assert search.kinds(manifest.search, manifest.input_schema) == {
        "customer": text,
        "order.id": number,
        "order.to.country": text,
        "order.to.zip": text | number,
        "paid": frozenset({Kind.BOOLEAN}),
    }
    assert Manifest.from_json(manifest.to_json()).hash == manifest.hash


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("custmer", "the flow has no input `custmer`"),
        ("order.too", "the flow has no input `order.too`"),
        ("order", "`order` is not one value that can be searched for"),
        ("order.lines", "`order.lines` is not one value"),
        ("pin", "`pin` is a secret"),
        ("token", "`token` is a secret"),
        ("order..id", "search[0]"),
    ],
)
def test_what_cannot_be_searched_for_is_refused_when_the_flow_is_traced(name: str, message: str) -> None:
    with pytest.raises(AuthoringError) as caught:
        declare(name)
    assert message in caught.value.message
    assert "test_search.py:" in caught.value.message


def test_a_single_text_is_no_list_of_names() -> None:
    with pytest.raises(AuthoringError, match=r"search='customer'"):
        flow(search="customer")


def test_a_manifest_without_attributes_says_nothing_of_them() -> None:
    manifest = Manifest(name="plain", steps={"a": {"type": "t"}})
    assert "search" not in manifest.to_json()
    assert manifest.format == 1


def test_values_that_are_missing_null_or_long_are_left_out() -> None:
    body = {"a": "x" * 1000, "b": "x" * 1001, "c": None, "d": {"e": 0, "f": [1]}, "g": False}
    names = ("a", "b", "c", "d.e", "d.f", "d.x.y", "g")
    assert search.values(names, body) == {"a": "x" * 1000, "d.e": 0, "g": False}
