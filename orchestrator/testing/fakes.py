"""What stands for a step's function in a world: fakes, and what befalls the worker that runs it."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.authoring.context import Context
from orchestrator.authoring.step import AnyStep
from orchestrator.core.wording import counted
from orchestrator.errors import UsageError

_CONTEXT: Final = "the context of the world"
_HOW: Final = frozenset({"returns", "raises", "calls"})


@dataclass(frozen=True)
class Call:
    """One call of a step's function: with what, in which run, as which attempt."""

    inputs: dict[str, Any]
    context: Context


@dataclass
class Fake:
    """Stands for a step's function. `calls` holds what it was called with."""

    step: AnyStep
    answer: Callable[[Call], Any]
    calls: list[Call] = field(default_factory=list)

    def __call__(self, call: Call) -> Any:
        self.calls.append(call)
        return self.answer(call)


def answer(step: AnyStep, given: Mapping[str, Any]) -> Callable[[Call], Any]:
    """What a fake does: `raises` for the attempts that fail, then what `returns` or `calls` gives.

    Raises:
        UsageError: nothing is given, something else, or both of these.
    """
    if not given or not given.keys() <= _HOW or {"returns", "calls"} <= given.keys():
        raise UsageError(
            f"The fake of `{step.type}` is given {', '.join(given) or 'nothing'}. "
            "Fix: give `returns=` or `calls=`, `raises=`, or `raises=[…]` with one of the former."
        )
    errors = given.get("raises", ())
    if not isinstance(errors, list | tuple):
        return _always(errors)
    fn = _function(given["calls"]) if "calls" in given else None

    def in_turn(call: Call) -> Any:
        number = call.context.attempt
        if number <= len(errors):
            raise _fresh(errors[number - 1])
        if fn is not None:
            return fn(call)
        if "returns" in given:
            return given["returns"]
        raise UsageError(
            f"Attempt {number} of {call.context.step_key} has no answer: the fake of `{step.type}` has "
            f"{counted(len(errors), 'error')}. Fix: give one more, or `returns=`."
        )

    return in_turn


def _always(error: Any) -> Callable[[Call], Any]:
    def fail(call: Call) -> Any:
        raise _fresh(error)

    return fail


def _fresh(error: Any) -> Any:
    """The same error may be raised again, and would gather its tracebacks."""
    return error.with_traceback(None) if isinstance(error, BaseException) else error


def _function(fn: Callable[..., Any]) -> Callable[[Call], Any]:
    parameters = list(inspect.signature(fn).parameters.values())
    wants = bool(parameters) and parameters[0].annotation in (Context, "Context")
    return lambda call: fn(call.context, **call.inputs) if wants else fn(**call.inputs)


Befall = Callable[[AnyStep, Call], AbstractContextManager[Fake | None]]
"""What befalls a call: it may be faked, and its worker may die before it or after it."""


class Played(AnyStep):
    """A step whose function is called through a world. Everything else about it is as it was."""

    def __init__(self, step: AnyStep, befall: Befall) -> None:
        self.__dict__.update(step.__dict__)
        self.fn = _async(step, befall) if step.is_async else _sync(step, befall)

    @property
    def context_param(self) -> str | None:
        """Every call has a Context: it says whose call it is."""
        return _CONTEXT


def _sync(step: AnyStep, befall: Befall) -> Callable[..., Any]:
    def run(**given: Any) -> Any:
        call = _call(given)
        with befall(step, call) as fake:
            return fake(call) if fake is not None else step.fn(**_arguments(step, call))

    return run


def _async(step: AnyStep, befall: Befall) -> Callable[..., Any]:
    async def run(**given: Any) -> Any:
        call = _call(given)
        with befall(step, call) as fake:
            return fake(call) if fake is not None else await step.fn(**_arguments(step, call))

    return run


def _call(given: dict[str, Any]) -> Call:
    return Call({name: value for name, value in given.items() if name != _CONTEXT}, given[_CONTEXT])


def _arguments(step: AnyStep, call: Call) -> dict[str, Any]:
    return call.inputs if step.context_param is None else {**call.inputs, step.context_param: call.context}
