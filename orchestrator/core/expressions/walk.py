"""Where the expressions of a JSON structure are, and what they read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic import JsonValue

from orchestrator.core.expressions.parser import is_expression, parse, parse_bare
from orchestrator.core.expressions.tree import Expr, Ref, refs
from orchestrator.errors import ExpressionInvalid


@dataclass(frozen=True, slots=True)
class Found:
    """An expression (or why it is not one) and its path in the structure."""

    path: tuple[str | int, ...]
    expr: Expr | ExpressionInvalid


def find_bare(text: str | None, path: tuple[str | int, ...]) -> Iterator[Found]:
    """The expression of a field that holds nothing else."""
    if text is not None:
        yield Found(path, _try(parse_bare, text))


def find(value: JsonValue, path: tuple[str | int, ...] = ()) -> Iterator[Found]:
    """Every expression in `value`, in order; a wrong one is yielded, not raised."""
    if isinstance(value, str):
        if is_expression(value):
            yield Found(path, _try(parse, value))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from find(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from find(item, (*path, index))


def _try(read: Callable[[str], Expr], text: str) -> Expr | ExpressionInvalid:
    try:
        return read(text)
    except ExpressionInvalid as exc:
        return exc


def references(value: JsonValue) -> set[Ref]:
    """Every reference in `value`.

    Raises:
        ExpressionInvalid: a string begins with "@" and cannot be read.
    """
    read: set[Ref] = set()
    for found in find(value):
        if isinstance(found.expr, ExpressionInvalid):
            raise found.expr
        read.update(refs(found.expr))
    return read
