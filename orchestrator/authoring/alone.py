"""A step as a flow of its own: what `Client.start(step, …)` starts, and what workers with that step serve."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, ParamSpec, cast
from weakref import WeakKeyDictionary

from typing_extensions import TypeVar

from orchestrator.authoring.asked import Asked
from orchestrator.authoring.flow import Flow, input_schema
from orchestrator.authoring.literals import encode
from orchestrator.authoring.modules import as_written
from orchestrator.authoring.placeholder import refuse
from orchestrator.authoring.step import AnyStep, Step
from orchestrator.authoring.tracer import Tracer
from orchestrator.core.manifest import Manifest

P = ParamSpec("P")
R = TypeVar("R", default=Any)

_LONGEST: Final = 100
_MADE: Final[WeakKeyDictionary[AnyStep, Flow[..., Any]]] = WeakKeyDictionary()


def alone(step: Step[P, R, Any]) -> Flow[P, R]:
    """The flow that only calls this step, with the step's parameters and its result; the same each time.

    Raises:
        AuthoringError: the step's types cannot be stored, or it waits for other steps (`options(after=…)`).
    """
    known = _MADE.get(step)
    if known is None:
        known = _MADE[step] = _made(step)
    return cast(Flow[P, R], known)


def name_alone(step: AnyStep) -> str:
    """`shop-mail-send`: the step's module and type, so that steps of two modules do not meet."""
    return f"{_module(step)}-{step.type}".replace(".", "-")[-_LONGEST:]


def by_name(steps: Iterable[AnyStep]) -> tuple[dict[str, AnyStep], set[str]]:
    """The steps by the name of their flow, and the names that two functions claim: those serve nobody, because a
    start could meet the wrong one."""
    found: dict[str, AnyStep] = {}
    unclear: set[str] = set()
    for step in steps:
        name = name_alone(step)
        if found.setdefault(name, step.base).fn is not step.base.fn:
            unclear.add(name)
    return {name: step for name, step in found.items() if name not in unclear}, unclear


def _made(step: AnyStep) -> Flow[..., Any]:
    if step.asked != Asked():
        refuse(
            f"step `{step.type}` is started alone and depends on other steps",
            "leave `after`, `join`, `when` and `may_fail` out of its options",
        )
    signature, name = step.signature, name_alone(step)
    tracer = Tracer(name, _Straight())
    given = {one: tracer.input(one, signature.kind(one)) for one in signature.inputs.parameters}
    with tracer.active():
        output = encode(step(**given), signature.returns, tracer, f"the result of step `{step.type}`")
    manifest = Manifest(
        name=name,
        description=signature.summary,
        queue=step.settings.queue or "default",
        input_schema=input_schema(signature),
        steps=tracer.steps,
        output=output,
        output_schema=signature.result.json_schema or None,
    )
    return Flow(manifest, tracer.handlers, signature)


class _Straight:
    """No body leads to the step."""

    def step_called(self, frame: object) -> None:
        """Nothing to watch."""


def _module(step: AnyStep) -> str:
    """Its module as people write it, wherever it was loaded from: a program's own file has its name."""
    name = as_written(str(step.__module__))
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(file).stem if name == "__main__" and file else name
