"""What conditions ask beside `==` and its like: `contains`, `is_null`, `all_of`, `any_of`, `none_of`; and `header`."""

from collections.abc import Iterable
from typing import Any, TypeVar, cast

from orchestrator.authoring import kinds
from orchestrator.authoring.conditions import compare, conjunction, disjunction, made_by, operand, record, truth
from orchestrator.authoring.placeholder import Node, Placeholder, node_of, refuse
from orchestrator.authoring.scalars import scalar
from orchestrator.authoring.tracer import Tracer, current
from orchestrator.core.expressions import Expr, Ref
from orchestrator.core.expressions.tree import Call, Not, Value
from orchestrator.core.headers import is_secret
from orchestrator.core.wording import an

T = TypeVar("T")


def contains(where: Iterable[T] | str | None, what: T, /) -> bool:
    """Whether a list has an item, or a text a part: `contains(order.tags, "vip")`. A list that is None has none.

    Raises:
        AuthoringError: outside a flow body, or the two do not go together.
    """
    tracer = in_body("contains", "write `what in where`")
    given: object = where
    if isinstance(given, list | tuple | set | frozenset):
        return _condition(tracer, _one_of(tracer, list(given), what))
    if not isinstance(given, Placeholder | str):
        refuse(f"`contains` got {an(type(given).__name__)} to look in", "give a list or a text")
    sought = operand(tracer, what)
    place = Value(given) if isinstance(given, str) else operand(tracer, given).expr
    found = _element(given)
    if sought.scalar is not None and found is not None and found != sought.scalar.name:
        refuse(
            f"`contains` looks for what it cannot hold: {sought.what}, among values of type {found}",
            "look for one of those",
        )
    if sought.scalar is not None and (sought.scalar.function or sought.scalar.name == "structure"):
        refuse(f"{sought.what}, which `contains` does not find", "look for it in a step that gives a bool")
    return _condition(tracer, Call("contains", (place, sought.expr)))


def is_null(value: object, /) -> bool:
    """Whether there is no value: None, or a field that is not there.

    Raises:
        AuthoringError: outside a flow body, or the value is known already.
    """
    tracer = in_body("is_null", "write `value is None`")
    if not isinstance(value, Placeholder):
        refuse(f"`is_null` got {value!r:.60}, which is known now", "give a step's result or an input of the flow")
    return cast(bool, compare(tracer, "==", value, None))


def all_of(*conditions: int) -> bool:
    """Whether each of them holds: `(a > 1) & (b < 2)` by another name.

    Raises:
        AuthoringError: outside a flow body, without conditions, or with something else.
    """
    return _joined("all_of", conditions, conjunction)


def any_of(*conditions: int) -> bool:
    """Whether at least one of them holds.

    Raises:
        AuthoringError: as `all_of`.
    """
    return _joined("any_of", conditions, disjunction)


def none_of(*conditions: int) -> bool:
    """Whether none of them holds.

    Raises:
        AuthoringError: as `all_of`.
    """
    return _joined("none_of", conditions, lambda *exprs: Not(disjunction(*exprs)))


def header(name: str, /) -> str | None:
    """A header of the request that started the run, by its name without regard to case; None when it had none.

    Raises:
        AuthoringError: outside a flow body, the name is not a text, or that of a header that is never kept.
    """
    tracer = in_body("header", "read it from the request")
    given: object = name
    if not isinstance(given, str) or not given:
        refuse(f"`header` got {given!r:.60}", "give the name of a header, such as `x-request-id`")
    if is_secret(given):
        refuse(f"the header `{given}` is never kept", "take what it says as an input of the flow")
    node = Node(Ref("headers", None, (given.lower(),)), str | None, tracer, f"the header `{given}`")
    return cast(str, Placeholder(node))


def in_body(name: str, elsewhere: str) -> Tracer:
    """The trace that goes on.

    Raises:
        AuthoringError: none does.
    """
    tracer = current()
    if tracer is None:
        refuse(f"`{name}` works in a flow body only", elsewhere)
    return tracer


def _joined(name: str, conditions: tuple[object, ...], join: Any) -> bool:
    tracer = in_body(name, "write `and`, `or`, `not`")
    if not conditions:
        refuse(f"`{name}` got no condition", "give at least one, such as `order.total > 0`")
    return _condition(tracer, join(*(truth(tracer, one) for one in conditions)))


def _one_of(tracer: Tracer, options: list[object], what: object) -> Expr:
    if not options:
        refuse("`contains` got an empty list", "give at least one item, or leave the condition out")
    if not isinstance(what, Placeholder) and not any(isinstance(one, Placeholder) for one in options):
        refuse("`contains` got values that are known now", "write `what in where`")
    found = [made_by(cast(Any, compare(tracer, "==", what, one))) for one in options]
    for one in found:
        one.used = True
    return disjunction(*(one.expr for one in found))


def _element(where: object) -> str | None:
    """The kind of what is found in it; None when it is not known."""
    if isinstance(where, str):
        return "text"
    node = node_of(cast(Placeholder, where))
    own = scalar(node.kind)
    if own is None or own.name == "text":
        return None if own is None else "text"
    try:
        found = scalar(kinds.element(node.kind))
    except kinds.NoMember as miss:
        refuse(f"`contains` got {node.label} to look in: {miss}", "give a list or a text")
    return None if found is None else found.name


def _condition(tracer: Tracer, expr: Expr) -> bool:
    return cast(bool, record(tracer, expr))
