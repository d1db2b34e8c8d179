"""The body of a flow is run on placeholders, twice: both times it must give the same graph."""

import json
import re
from collections.abc import Mapping
from types import FunctionType
from typing import Final, cast

from pydantic import JsonValue

from orchestrator.authoring.body import Body
from orchestrator.authoring.literals import encode
from orchestrator.authoring.signature import Signature
from orchestrator.authoring.tracer import Tracer, current
from orchestrator.authoring.where import place_in
from orchestrator.core.expressions import references
from orchestrator.core.manifest import StepDef
from orchestrator.core.suggest import closest
from orchestrator.errors import AuthoringError

_WRONG_CALL: Final = re.compile(
    r"\(\) (missing \d+ required|got an unexpected keyword|got multiple values for|takes .* positional argument)"
)
"""What Python says of arguments that do not fit a function."""


def traced(signature: Signature, name: str) -> tuple[Tracer, JsonValue]:
    """The graph of the body, which must be the same the second time.

    Raises:
        AuthoringError: the body contains something that no graph can show, or gives another graph each time.
    """
    if current() is not None:
        signature.fail("is defined in the body of another flow", "define it at the top of a module")
    body = Body(cast(FunctionType, signature.fn), name)
    tracer, output = _trace(signature, name, body)
    body.require_reached()
    again, output_again = _trace(signature, name, body)
    if (tracer.steps, output) != (again.steps, output_again):
        difference = _difference(tracer.steps, again.steps) or f"the result was {output!r}, then {output_again!r}"
        signature.fail(
            f"gave another graph the second time: {difference}",
            "keep the body free of time, chance and whatever changes while it runs: compute such values in a step",
        )
    return tracer, output


def _difference(first: Mapping[str, StepDef], second: Mapping[str, StepDef]) -> str:
    """The first step that is not the same."""
    for key in [*first, *second]:
        if key not in first or key not in second:
            return f"step `{key}` is there only the {'first' if key in first else 'second'} time"
        if first[key] != second[key]:
            one, other = (json.loads(step.model_dump_json(exclude_defaults=True)) for step in (first[key], second[key]))
            part = next(name for name in {**one, **other} if one.get(name) != other.get(name))
            return f"`{part}` of step `{key}` was {one.get(part)!r}, then {other.get(part)!r}"
    return ""


def _trace(signature: Signature, name: str, body: Body) -> tuple[Tracer, JsonValue]:
    """Run the body once on placeholders."""
    tracer = Tracer(name, body)
    given = {p: tracer.input(p, signature.kind(p)) for p in signature.inputs.parameters}
    with tracer.active():
        try:
            result = signature.fn(**given)
        except AuthoringError:
            raise
        except Exception as exc:
            raise _failed_body(signature, name, exc) from exc
        tracer.require_used()
        try:
            output = encode(result, signature.returns, tracer, f"the result of flow `{name}`")
            tracer.scopes.require_visible(references(output))
            return tracer, output
        except AuthoringError as exc:  # no line of the body is running any more
            text = exc.message.partition(": ")[2]
            raise AuthoringError(f"{signature.place}: {text}", place=signature.place) from exc


def _failed_body(signature: Signature, name: str, exc: Exception) -> AuthoringError:
    place = place_in(exc.__traceback__, signature.fn.__code__.co_filename) or signature.place
    reason = str(exc).partition("\n")[0]
    message = (
        f"{place}: the body of flow `{name}` raised {type(exc).__name__}: {reason}. Fix: {_body_fix(signature, exc)}."
    )
    return AuthoringError(message, place=place)


def _body_fix(signature: Signature, exc: Exception) -> str:
    if isinstance(exc, NameError) and exc.name is not None:
        if exc.name == signature.fn.__name__:
            return (
                "a flow is not there yet while its own body is read: let a step start its next run with a client, or "
                f'write the flow as a manifest, which may hold the step `{{"flow": "{exc.name}"}}`'
            )
        near = closest(exc.name, signature.fn.__globals__.keys() - {exc.name})
        hint = f" (did you mean `{near}`?)" if near is not None else ""
        return f"define or import `{exc.name}` above the flow{hint}"
    if "partially initialized module" in str(exc):
        return "two modules import each other; move the flow, or what both need, into a third"
    if isinstance(exc, ImportError):
        return "correct the import, and put it at the top of the module"
    if isinstance(exc, TypeError) and _WRONG_CALL.search(str(exc)):
        return "correct the arguments of that call"
    return "the body is only traced, on placeholders; move what needs values (also building models of them) into a step"
