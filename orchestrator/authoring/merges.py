"""Steps without a handler: `either`, `first_of`, `require`."""

from decimal import Decimal
from typing import Any, Literal, TypeVar, Union, cast

from orchestrator.authoring.conditions import truth
from orchestrator.authoring.edges import Statuses
from orchestrator.authoring.literals import encode
from orchestrator.authoring.placeholder import Placeholder, node_of, refuse
from orchestrator.authoring.predicates import in_body
from orchestrator.authoring.tracer import Tracer
from orchestrator.core.expressions import Expr, Ref, render
from orchestrator.core.expressions.tree import Default, Value
from orchestrator.core.gates import Join
from orchestrator.core.manifest import StepDef
from orchestrator.core.states import StepStatus
from orchestrator.core.wording import an

T = TypeVar("T")
_OK: tuple[StepStatus, ...] = (StepStatus.SUCCEEDED,)


def either(first: T, /, *others: T) -> T:
    """The result of whichever branch ran: `either(reviewed, accepted)`. The last one may be a plain value or an input
    of the flow, for when none of them ran. A branch that failed is not one that did not run: then this is skipped.

    Raises:
        AuthoringError: outside a flow body, or one is not a result of a step.
    """
    tracer = in_body("either", "write `a or b`")
    tracer.called()
    *values, last = _at_least_two("either", (first, *others))
    exprs = [_result("either", tracer, value) for value in values]
    kinds = [node_of(cast(Placeholder, value)).kind for value in values]
    if _is_result(last):
        exprs.append(_result("either", tracer, last))
        kinds.append(node_of(cast(Placeholder, last)).kind)
        step = _merge(exprs, _OK, Join.NONE_FAILED)
    else:
        default, kind = _default(tracer, last)
        step = _merge(exprs, (StepStatus.SKIPPED, *_OK), Join.ALL, default)
        kinds.append(kind)
    return cast(T, tracer.add(tracer.free_key("either", exact=False), step, Union[tuple(kinds)]))  # noqa: UP007


def first_of(first: T, /, *others: T, rest: Literal["withdraw", "leave"] = "withdraw") -> T:
    """The result of the step that succeeds first. What has not begun by then, and leads only here, is withdrawn
    (`rest="leave"`: it runs all the same).

    Raises:
        AuthoringError: outside a flow body, or one is not a result of a step.
    """
    tracer = in_body("first_of", "write plain Python")
    tracer.called()
    if rest not in ("withdraw", "leave"):
        refuse(f"`first_of` got `rest={rest!r}`", 'give "withdraw" or "leave"')
    values = _at_least_two("first_of", (first, *others))
    exprs = [_result("first_of", tracer, value) for value in values]
    kinds = [node_of(cast(Placeholder, value)).kind for value in values]
    step = _merge(exprs, _OK, Join.ANY).model_copy(update={"rest": rest})
    return cast(T, tracer.add(tracer.free_key("first_of", exact=False), step, Union[tuple(kinds)]))  # noqa: UP007


def require(condition: int, message: str, /) -> object:
    """Fails with `message` unless the condition holds. What must wait for it says `after=[…]` or `with after(…):` with
    its result.

    Raises:
        AuthoringError: outside a flow body, it is not a condition, or there is no message.
    """
    tracer = in_body("require", "write `if not …: raise`")
    tracer.called()
    text: object = message
    if not isinstance(text, str) or not text.strip():
        refuse("`require` got no message", "say what is wrong when the condition does not hold")
    step = StepDef(require=render(truth(tracer, condition)), message=text)
    return tracer.add(tracer.free_key("require", exact=False), step, None)


MERGES: tuple[Any, ...] = (either, first_of, require)
"""What makes a step without being one."""


def _merge(exprs: list[Ref], statuses: Statuses, join: Join, default: Expr | None = None) -> StepDef:
    parts: list[Expr] = [*exprs, *([] if default is None else [default])]
    value = parts.pop()
    while parts:
        value = Default(parts.pop(), value)
    return StepDef(value=render(value), join=join, run_after={ref.key or "": statuses for ref in exprs})


def _at_least_two(name: str, values: tuple[object, ...]) -> tuple[object, ...]:
    if len(values) < 2:
        refuse(f"`{name}` got one value", "give at least two, or use the value itself")
    return values


def _is_result(value: object) -> bool:
    return isinstance(value, Placeholder) and node_of(value).ref.root == "step"


def _result(name: str, tracer: Tracer, value: object) -> Ref:
    if not isinstance(value, Placeholder) or not _is_result(value) or node_of(value).ref.member != "output":
        what = node_of(value).label if isinstance(value, Placeholder) else f"{value!r:.60}"
        more = "; only the last one may be a plain value" if name == "either" else ""
        refuse(f"`{name}` got {what}, which is not the result of a step{more}", "give results of steps")
    if node_of(value).owner is not tracer:
        refuse(f"`{name}` got {node_of(value).label} of another flow", "call the step in this flow")
    return node_of(value).ref


def _default(tracer: Tracer, value: object) -> tuple[Expr, Any]:
    """For when no branch ran, and its type."""
    if isinstance(value, Placeholder):
        node = node_of(value)
        if node.owner is not tracer:
            refuse(f"`either` got {node.label} of another flow", "use an input of this flow")
        return node.ref, node.kind
    given = encode(value, type(value), tracer, "the last value of `either`")
    if isinstance(given, list | dict):
        refuse(
            f"the last value of `either` is {an(type(value).__name__)}", "return it from a step, and give its result"
        )
    if isinstance(given, int | float) and not isinstance(given, bool):
        return Value(Decimal(str(given))), type(value)
    text = given[1:] if isinstance(given, str) and given.startswith("@@") else given
    return Value(cast(Any, text)), type(value)
