"""What can be compared in a condition: the JSON kind that a Python type has in the ledger."""

import datetime
import enum
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, TypeVar, get_args, get_origin
from uuid import UUID

import pydantic

from orchestrator.authoring import kinds


class Scalar(NamedTuple):
    """`name`: only what has the same one can be compared. `function`: what makes its JSON comparable. `ordered`: for
    `<` too. `optional`: it may be None."""

    name: str
    function: str | None = None
    ordered: bool = False
    optional: bool = False


_NULL: Final = Scalar("null", optional=True)
_BOOL: Final = Scalar("bool")
_NUMBER: Final = Scalar("number", ordered=True)
_DECIMAL: Final = Scalar("number", "number", ordered=True)
_TEXT: Final = Scalar("text", ordered=True)
_TIME: Final = Scalar("time", "time", ordered=True)
_DATE: Final = Scalar("date", ordered=True)  # as ISO 8601 writes it, the text of a later day is the greater one
_UUID: Final = Scalar("UUID")
STRUCTURE: Final = Scalar("structure")
"""Lists, objects and what JSON holds in a form of its own, such as bytes: null or not is all that can be asked."""
_BY_CLASS: Final[Mapping[Any, Scalar]] = {
    bool: _BOOL,
    int | float: _NUMBER,
    Decimal: _DECIMAL,
    str: _TEXT,
    UUID: _UUID,
    datetime.datetime: _TIME,
    datetime.date: _DATE,
}
"""The first one that fits counts."""
_OF_PYDANTIC: Final[Mapping[Any, Scalar]] = {
    pydantic.AwareDatetime: _TIME,
    pydantic.FutureDatetime: _TIME,
    pydantic.PastDatetime: _TIME,
    pydantic.FutureDate: _DATE,
    pydantic.PastDate: _DATE,
}


def scalar(kind: Any) -> Scalar | None:
    """What values of this type are in a condition; None where only the values can say."""
    options = kinds.options(kind)
    optional = len(options) < len(kinds.options(kind, none=True))
    if not options:
        return _NULL
    found = {_of(one) for one in options}
    if None in found or len(found) > 1:
        return None
    (one,) = found
    return one._replace(optional=optional) if one is not None and one.name != "null" else one


def _of(kind: Any) -> Scalar | None:
    if kind is Any or kind is object or isinstance(kind, TypeVar):
        return None
    if get_origin(kind) is Literal:
        return _of_all([type(value) for value in get_args(kind)])
    if kind in _OF_PYDANTIC:
        return _OF_PYDANTIC[kind]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _of_all([type(member.value) for member in kind])
    if isinstance(kind, type) and get_origin(kind) is None:
        return next((found for classes, found in _BY_CLASS.items() if issubclass(kind, classes)), STRUCTURE)
    return STRUCTURE


def _of_all(classes: list[type]) -> Scalar | None:
    found = {_of(one) for one in classes}
    return found.pop() if len(found) == 1 else None
