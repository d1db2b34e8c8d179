"""Where the references of a JSON structure are."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import JsonValue

from orchestrator.core.expressions.parser import Ref, is_expression, parse
from orchestrator.errors import ExpressionInvalid


@dataclass(frozen=True, slots=True)
class Found:
    """A reference (or why it is not one) and its path in the structure."""

    path: tuple[str | int, ...]
    ref: Ref | ExpressionInvalid


def find(value: JsonValue, path: tuple[str | int, ...] = ()) -> Iterator[Found]:
    """Every expression in `value`, in order; a wrong one is yielded, not raised."""
    if isinstance(value, str):
        if is_expression(value):
            yield Found(path, _try_parse(value))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from find(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from find(item, (*path, index))


def _try_parse(text: str) -> Ref | ExpressionInvalid:
    try:
        return parse(text)
    except ExpressionInvalid as exc:
        return exc


def references(value: JsonValue) -> set[Ref]:
    """Every reference in `value`.

    Raises:
        ExpressionInvalid: a string begins with "@" and cannot be read.
    """
    refs = set()
    for found in find(value):
        if isinstance(found.ref, ExpressionInvalid):
            raise found.ref
        refs.add(found.ref)
    return refs
