"""`each`: one step, the steps of a block, or a flow, run on every item of a list."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, cast, overload

from orchestrator.authoring import kinds
from orchestrator.authoring.calls import Call, CallOfEach
from orchestrator.authoring.graphs import Graph
from orchestrator.authoring.literals import encode
from orchestrator.authoring.outcomes import Outcome
from orchestrator.authoring.placeholder import Placeholder, node_of, refuse
from orchestrator.authoring.step import Step
from orchestrator.authoring.tracer import Tracer, current
from orchestrator.core.manifest import StepDef
from orchestrator.core.wording import an

if TYPE_CHECKING:
    from orchestrator.authoring.flow import Flow

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
_ITEM = "@item()"
_Step = Step[P, R, Any] | Graph[P, R]
_Body = Step[Any, Any, Any] | Graph[Any, Any] | CallOfEach


@overload
def each(
    step: "_Step[Concatenate[T, P], R] | Flow[Concatenate[T, P], R] | Call[Concatenate[T, P], R]",
    items: Iterable[T] | None,
    *,
    errors: Literal["collect"],
    stop_on_failure: Literal[False] = False,
    concurrency: int | None = None,
    key: str | None = None,
    **fixed: Any,
) -> list[Outcome[R]]: ...


@overload
def each(
    step: "_Step[Concatenate[T, P], R] | Flow[Concatenate[T, P], R] | Call[Concatenate[T, P], R]",
    items: Iterable[T] | None,
    *,
    errors: Literal["fail"] = "fail",
    stop_on_failure: bool = False,
    concurrency: int | None = None,
    key: str | None = None,
    **fixed: Any,
) -> list[R]: ...


def each(
    step: "_Step[Concatenate[T, P], R] | Flow[Concatenate[T, P], R] | Call[Concatenate[T, P], R]",
    items: Iterable[T] | None,
    *,
    errors: Literal["fail", "collect"] = "fail",
    stop_on_failure: bool = False,
    concurrency: int | None = None,
    key: str | None = None,
    **fixed: Any,
) -> list[R] | list[Outcome[R]]:
    """Run `step`, the steps of a block, or a flow, once for each item, at most `concurrency` at a time; gives the
    results in the order of the items. None has no items. Of a flow, each item is a run of its own.

    When an item fails the others go on, and the loop fails at the end. With `stop_on_failure` those that did not begin
    are skipped. With `errors="collect"` it succeeds, and gives one `Outcome` per item.

    The item goes to the first parameter that `fixed` does not name (the type checker takes it for the first one);
    `fixed` holds the other arguments, the same for every item. `step.options(…)` may be given instead of a step, and
    `bill.options(…)` instead of a flow.

    Raises:
        AuthoringError: outside a flow body, or an argument does not fit.
    """
    body = _body(step)
    tracer = current()
    if tracer is None:
        refuse("`each` works in a flow body only", f"write `[{body.type}.fn(x) for x in items]`")
    _check_concurrency(concurrency)
    _check_errors(errors, stop_on_failure)
    fields: dict[str, Any] = {"concurrency": concurrency, "errors": errors, "stop_on_failure": stop_on_failure}
    made = _made(body, items, fixed, tracer, key)
    asked = key if key is not None else made.key
    loop_key = tracer.free_key(asked or body.type, exact=asked is not None)
    result: Any = body.signature.returns
    if errors == "collect":
        result = Outcome[result]
    return cast(list[R], tracer.add(loop_key, StepDef(**made.fields, **fields), list[result]))


@dataclass(frozen=True)
class _Made:
    """A loop, as far as what it runs says; `key`: that was asked for."""

    fields: dict[str, Any]
    key: str | None


def _body(given: object) -> _Body:
    if getattr(type(given), "makes_a_step", False):
        flow: Any = given
        return CallOfEach(flow if isinstance(flow, Call) else Call(flow))
    if not isinstance(given, Step | Graph):
        refuse(
            "`each` got something that is not a step",
            "decorate the function with `@step`, `@block` or `@flow`, and do not call it here",
        )
    return given


def _made(body: _Body, items: object, fixed: dict[str, Any], tracer: Tracer, key: str | None) -> _Made:
    match body:
        case Step():
            return _step(body, items, fixed, tracer)
        case Graph():
            return _graph(body, items, fixed, tracer, key)
        case _:
            return _call(body, items, fixed, tracer, key)


def _call(body: CallOfEach, items: object, fixed: dict[str, Any], tracer: Tracer, key: str | None) -> _Made:
    """A loop whose only step calls the flow. Options that say when are those of the loop."""
    item = _item_parameter(body, fixed)
    step = body.traced(tracer, item, fixed)
    listed = _for_each(body, items, body.signature.kind(item), tracer)
    asked = key or body.call.key
    loop = tracer.free_key(asked or body.type, exact=asked is not None)
    with tracer.inside(loop):
        own = tracer.free_key("run", exact=False)
    fields = {"for_each": listed, "steps": {own: step}, "output": f"@steps('{own}').output"}
    return _Made({**fields, **body.call.asked.fields(tracer)}, body.call.key)


def _step(step: Step[Any, Any, Any], items: object, fixed: dict[str, Any], tracer: Tracer) -> _Made:
    tracer.use(step.base)
    item = _item_parameter(step, fixed)
    inputs = {**step.encode_arguments(tracer, _checked(step, item, fixed)), item: _ITEM}
    listed = _for_each(step, items, step.signature.kind(item), tracer)
    steps = {step.type: step.step_def(inputs=inputs)}
    return _Made({"for_each": listed, "steps": steps, **step.asked.fields(tracer)}, step.key)


def _graph(graph: Graph[Any, Any], items: object, fixed: dict[str, Any], tracer: Tracer, key: str | None) -> _Made:
    tracer.called()
    item = _item_parameter(graph, fixed)
    try:
        graph.signature.bind((), {**fixed, item: None})
    except TypeError as exc:
        refuse(f"block `{graph.type}`: {exc}", "give what it takes")
    listed = _for_each(graph, items, graph.signature.kind(item), tracer)
    loop = tracer.free_key(key or graph.type, exact=key is not None)
    steps, output = graph.traced(tracer, loop, item, fixed)
    return _Made({"for_each": listed, "steps": steps, "output": output}, key)


def _check_concurrency(value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        refuse(f"`each` got `concurrency={value!r}`", "give a whole number from 1, or leave it out for no limit")


def _check_errors(errors: object, stop_on_failure: object) -> None:
    if errors not in ("fail", "collect"):
        refuse(f"`each` got `errors={errors!r:.60}`", 'give "collect", or leave it out')
    if not isinstance(stop_on_failure, bool):
        refuse(f"`each` got `stop_on_failure={stop_on_failure!r:.60}`", "give True or False")
    if stop_on_failure and errors == "collect":
        refuse("`each` got `stop_on_failure` and `errors`", "leave one out: what collects errors goes on after them")


def _item_parameter(step: _Body, fixed: dict[str, Any]) -> str:
    free = [name for name in step.signature.inputs.parameters if name not in fixed]
    if not free:
        what = "step" if isinstance(step, Step) else "block" if isinstance(step, Graph) else "flow"
        refuse(f"{what} `{step.type}` has no parameter left for the item", "leave one argument out of `each(…)`")
    return free[0]


def _checked(step: Step[Any, Any, Any], item: str, fixed: dict[str, Any]) -> dict[str, object]:
    """`fixed`, when together with the item it is what the step takes."""
    given = step.bind((), {**fixed, item: None})
    return {name: value for name, value in given.items() if name != item}


def _for_each(step: _Body, items: object, kind: Any, tracer: Tracer) -> Any:
    what = f"the list of `each({step.type}, …)`"
    if isinstance(items, Placeholder):
        try:
            kinds.element(node_of(items).kind)
        except kinds.NoMember as miss:
            refuse(f"{what} is {node_of(items).label}: {miss}", miss.fix)
        nullable = any(one is None or one is type(None) for one in kinds.options(node_of(items).kind, none=True))
        listed = encode(items, Any, tracer, what)
        return f"{listed} ?? null" if nullable else listed  # the first format has no loop over null
    if items is None:
        return []
    if isinstance(items, str | bytes | dict) or not isinstance(items, Iterable):
        refuse(f"{what} is {an(type(items).__name__)}", "give a list, or a step's result that is one")
    return encode(list(items), list[kind], tracer, what)
