"""Steps that wait for somebody: `wait_for_signal`, `approval`, `answered_by`."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar, cast, overload

from pydantic import JsonValue, ValidationError

from orchestrator.authoring.asked import Asked
from orchestrator.authoring.literals import encode
from orchestrator.authoring.placeholder import Node, Placeholder, node_of, refuse
from orchestrator.authoring.predicates import in_body
from orchestrator.authoring.tracer import Tracer
from orchestrator.core.durations import DurationLike
from orchestrator.core.expressions import Ref
from orchestrator.core.manifest import StepDef
from orchestrator.core.problem import KEY
from orchestrator.core.signals import key_text
from orchestrator.core.values import Codec
from orchestrator.errors import ValueRefused

T = TypeVar("T")
D = TypeVar("D")


class _None:
    """No default was given: null is one."""


_NONE: Final = _None()


@overload
def wait_for_signal(
    model: type[T],
    /,
    *,
    name: str,
    key: object = "",
    timeout: DurationLike | None = None,
    until: datetime | None = None,
    after: Iterable[object] = (),
) -> T: ...
@overload
def wait_for_signal(
    model: type[T],
    /,
    *,
    name: str,
    default: D,
    key: object = "",
    timeout: DurationLike | None = None,
    until: datetime | None = None,
    after: Iterable[object] = (),
) -> T | D: ...
def wait_for_signal(
    model: Any,
    /,
    *,
    name: str,
    default: Any = _NONE,
    key: object = "",
    timeout: DurationLike | None = None,
    until: datetime | None = None,
    after: Iterable[object] = (),
) -> Any:
    """What somebody sends to the run under this name: `wait_for_signal(Payment, name="paid", timeout="2d")`. No worker
    is held. `key` tells waits of one name apart: a signal is for those of its own key; inside of `each`, every item has
    one, such as `order.id`. When none has come in time,
    counted from when nothing is in its way any more, or `until` then, it fails; with `default`, it gives that.

    Raises:
        AuthoringError: outside a flow body, or an argument is not what it has to be.
    """
    tracer = in_body("wait_for_signal", "wait in plain Python")
    given: object = name
    if not isinstance(given, str) or not KEY.fullmatch(given):
        refuse(f"`name` is {name!r:.60}", "give 1 to 100 letters, digits, `_` or `-`")
    fields = {
        "name": name,
        "key": _key(tracer, key),
        "timeout": timeout,
        "until": None if until is None else encode(until, datetime, tracer, "`until`"),
        "schema": _schema("wait_for_signal", model),
        **_default(model, "default", default),
    }
    step = _step("wait_for_signal", {"signal": _given(fields)}, Asked().with_(after=after or None).fields(tracer))
    tracer.called()
    return tracer.add(tracer.free_key(name, exact=False), step, _kind(model, default))


@overload
def approval(
    model: type[T],
    /,
    *,
    title: str,
    to: str,
    show: Mapping[str, object] = ...,
    within: DurationLike | None = None,
    after: Iterable[object] = (),
    key: str | None = None,
) -> T: ...
@overload
def approval(
    model: type[T],
    /,
    *,
    title: str,
    to: str,
    late: D,
    show: Mapping[str, object] = ...,
    within: DurationLike | None = None,
    after: Iterable[object] = (),
    key: str | None = None,
) -> T | D: ...
def approval(
    model: Any,
    /,
    *,
    title: str,
    to: str,
    show: Mapping[str, object] | None = None,
    within: DurationLike | None = None,
    late: Any = _NONE,
    after: Iterable[object] = (),
    key: str | None = None,
) -> Any:
    """The answer of somebody who is asked: `approval(Verdict, title="Refund above 1,000", to="finance", within="2d")`.
    The title may be a value of the run, such as a field of an item. They are shown `show`, and their answer fits the
    model. When nobody has answered in time, it fails; with `late`, it gives that. A refusal is an answer:
    `require(said.ok, "…")` makes a failure of it.

    Raises:
        AuthoringError: outside a flow body, or an argument is not what it has to be.
    """
    tracer = in_body("approval", "ask in plain Python")
    given: object = title
    if not isinstance(given, str | Placeholder):
        refuse(f"the title of an approval is {given!r:.60}", "give a text, or a value of the run that is one")
    if key is not None and not KEY.fullmatch(key):
        refuse(f"`key` is {key!r:.60}", "give 1 to 100 letters, digits, `_` or `-`")
    fields = {
        "title": encode(title, str, tracer, "`title`"),
        "to": encode(to, str, tracer, "`to`"),
        "show": {str(name): encode(value, Any, tracer, f"`show[{name!r}]`") for name, value in (show or {}).items()},
        "within": within,
        "form": _schema("approval", model),
        **_default(model, "late", late),
    }
    step = _step("approval", {"approval": _given(fields)}, Asked().with_(after=after or None).fields(tracer))
    tracer.called()
    free = tracer.free_key(key or "approval", exact=key is not None)
    return tracer.add(free, step, _kind(model, late))


def answered_by(answer: object, /) -> str | None:
    """Who gave the answer to an approval, or sent a signal, as they said; None when nobody has.

    Raises:
        AuthoringError: outside a flow body, or it is neither.
    """
    tracer = in_body("answered_by", "ask the ledger")
    node = node_of(answer) if isinstance(answer, Placeholder) else None
    step = None if node is None or node.owner is not tracer else tracer.step(node.ref.key or "")
    if node is None or step is None or (step.signal is None and step.approval is None) or node.ref.path:
        refuse("`answered_by` got what is not an answer", "give the result of `approval` or `wait_for_signal`")
    ref = Ref("step", node.ref.key, (), "by")
    return cast(str | None, Placeholder(Node(ref, str | None, tracer, f"who answered `{node.ref.key}`")))


SIGNALS: tuple[Any, ...] = (wait_for_signal, approval)
"""What makes a step that waits for somebody."""


def _given(fields: Mapping[str, object]) -> dict[str, object]:
    """Without what is as it is by default; null may be a default to give."""
    return {name: value for name, value in fields.items() if value is not None or name in ("default", "late")}


def _key(tracer: Tracer, key: object) -> JsonValue:
    given = encode(key, type(key), tracer, "`key`")
    if not isinstance(key, Placeholder):
        try:
            key_text(given)
        except ValueError as exc:
            refuse(f"`key` of a signal: {exc}", "give one value, such as `order.id`")
    return given


def _codec(name: str, model: object) -> Codec[Any]:
    fix = "give the type of what comes, such as a pydantic model"
    if isinstance(model, str):
        refuse(f"`{name}` got the text {model!r:.60} for a type", fix)
    try:
        return Codec(model)
    except ValueRefused as exc:
        refuse(f"`{name}` got {model!r:.60}: {exc.problem}", fix)


def _schema(name: str, model: object) -> dict[str, JsonValue]:
    return cast(dict[str, JsonValue], json.loads(json.dumps(_codec(name, model).json_schema, default=str)))


def _default(model: object, name: str, value: object) -> dict[str, JsonValue]:
    """As JSON: of the model, or null."""
    if isinstance(value, _None):
        return {}
    if value is None:
        return {name: None}
    try:
        return {name: _codec(name, model).to_json_value(value)}
    except (ValidationError, ValueRefused):
        refuse(f"`{name}` is {value!r:.60}, which is not what is waited for", "give None, or a value of that type")


def _kind(model: object, default: object) -> Any:
    return model | None if default is None else model  # type: ignore[operator]


def _step(name: str, wait: dict[str, object], asked: dict[str, Any]) -> StepDef:
    try:
        return StepDef.model_validate({**wait, **asked})
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        message, _, fix = first["msg"].removeprefix("Value error, ").partition(" Fix: ")
        refuse(f"`{name}` got `{first['loc'][-1]}` that cannot be: {message.rstrip('.')}", fix or "correct it")
