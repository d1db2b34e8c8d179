"""Steps that wait for a time: `sleep`, `until`."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, get_args

from pydantic import ValidationError

from orchestrator.authoring import kinds
from orchestrator.authoring.asked import Asked
from orchestrator.authoring.placeholder import Placeholder, node_of, refuse
from orchestrator.authoring.predicates import in_body
from orchestrator.authoring.tracer import Tracer
from orchestrator.core.durations import DurationLike
from orchestrator.core.expressions import render
from orchestrator.core.manifest import StepDef
from orchestrator.core.problem import KEY
from orchestrator.core.times import parse_time

_LENGTHS: Final = (str, int, float, timedelta)
_TIMES: Final = (str, datetime)


def sleep(length: DurationLike, /, *, after: Iterable[object] = (), key: str | None = None) -> object:
    """Lasts that long, from when nothing is in its way any more: `sleep("1d", after=[sent])`. What must wait for it
    says `after=[…]` or `with after(…):` with its result. No worker is held; ten years at most.

    Raises:
        AuthoringError: outside a flow body, or that is not a length of time.
    """
    tracer = in_body("sleep", "call `time.sleep`")
    given = _field(tracer, "sleep", length, _LENGTHS, "a length of time")
    return _add(tracer, {"sleep": given}, after, key or "sleep", exact=key is not None)


def until(time: datetime | str, /, *, after: Iterable[object] = (), key: str | None = None) -> object:
    """Lasts until then; not at all, if that is past: `until(order.ship_at)`. A time has its zone, or its offset.

    Raises:
        AuthoringError: outside a flow body, or that is not a time.
    """
    tracer = in_body("until", "wait in plain Python")
    given = _field(tracer, "until", time, _TIMES, "a time")
    if isinstance(time, str) and parse_time(time) is None:
        refuse(f"`until` got {time!r:.60}, which is not a time", "write one such as `2026-01-31T12:00:00+01:00`")
    return _add(tracer, {"until": given}, after, key or "until", exact=key is not None)


WAITS: tuple[Any, ...] = (sleep, until)
"""What makes a step that waits."""


def _field(tracer: Tracer, name: str, value: object, types: tuple[type, ...], what: str) -> object:
    if not isinstance(value, Placeholder):
        return value
    node = node_of(value)
    if node.owner is not tracer:
        refuse(f"`{name}` got {node.label} of another flow", "use values of this flow")
    parts = get_args(node.kind) or (node.kind,)
    if not any(
        part is Any or (isinstance(part, type) and issubclass(part, types) and part is not bool) for part in parts
    ):
        refuse(f"`{name}` got {node.label}, which is of type {kinds.show(node.kind)}", f"give {what}")
    return render(node.ref)


def _add(tracer: Tracer, fields: dict[str, object], after: Iterable[object], key: str, *, exact: bool) -> object:
    if not KEY.fullmatch(key):
        refuse(f"`key` is {key!r:.60}", "give 1 to 100 letters, digits, `_` or `-`")
    tracer.called()
    asked = Asked().with_(after=after or None).fields(tracer)
    try:
        step = StepDef.model_validate({**fields, **asked})
    except ValidationError as exc:
        ((name, value),) = fields.items()
        message, _, fix = exc.errors(include_url=False)[0]["msg"].removeprefix("Value error, ").partition(" Fix: ")
        refuse(f"`{name}` got {value!r:.60}: {message.rstrip('.')}", fix or "correct it")
    return tracer.add(tracer.free_key(key, exact=exact), step, None)
