"""The recording of one flow body: which steps were called, with what."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Protocol

from orchestrator.authoring.conditions import Made
from orchestrator.authoring.placeholder import Node, Placeholder, refuse
from orchestrator.authoring.scopes import Scopes
from orchestrator.authoring.where import caller_frame
from orchestrator.core.expressions import Ref, render
from orchestrator.core.manifest import StepDef
from orchestrator.errors import AuthoringError

if TYPE_CHECKING:
    from orchestrator.authoring.flow import Flow
    from orchestrator.authoring.step import Step

_CURRENT: Final[ContextVar["Tracer | None"]] = ContextVar("orchestrator_tracer", default=None)


def current() -> "Tracer | None":
    """The flow body being traced in this thread, if any."""
    return _CURRENT.get()


class Way(Protocol):
    """Watches how the body reaches its steps."""

    def step_called(self, frame: FrameType | None) -> None:
        """`frame` is the user's that called the step."""


def _inside(step: StepDef) -> Iterator[str]:
    """The keys of what runs for the items of a loop: what has one of them outside would be hidden there."""
    if step.is_loop and step.is_graph:
        for key, part in step.steps.items():
            yield key
            yield from _inside(part)


class Tracer:
    """Collects the steps of one flow."""

    def __init__(self, flow: str, way: Way) -> None:
        self.flow = flow
        self._way = way
        self.tracing = False
        self.steps: dict[str, StepDef] = {}
        self.handlers: dict[str, Step[Any, Any, Any]] = {}
        self.flows: dict[str, Flow[Any, Any]] = {}
        self.conditions: list[Made] = []
        self.scopes = Scopes()
        self._taken: set[str] = set()
        """The keys of `steps`, of what runs for items of them, and of what is around."""
        self._around: list[Mapping[str, StepDef]] = []
        """The steps outside of the loops whose items are traced, and these loops."""

    @contextmanager
    def inside(self, loop: str) -> Iterator[dict[str, StepDef]]:
        """Record what runs for an item of this loop, apart from all else."""
        before = self.steps, self.scopes, self._taken
        self._around.append({**self.steps, loop: StepDef()})
        self.steps, self.scopes, self._taken = {}, Scopes(), {key for steps in self._around for key in steps}
        try:
            yield self.steps
        finally:
            self.steps, self.scopes, self._taken = before
            self._around.pop()

    def step(self, key: str) -> StepDef | None:
        """One that can be read here, also from outside of the loops whose items are traced."""
        found = (steps[key] for steps in (self.steps, *reversed(self._around)) if key in steps)
        return next(found, None)

    @contextmanager
    def active(self) -> Iterator[None]:
        token, self.tracing = _CURRENT.set(self), True
        try:
            yield
        finally:
            _CURRENT.reset(token)
            self.tracing = False

    def input(self, name: str, kind: Any) -> Placeholder:
        """The placeholder of a flow parameter."""
        return Placeholder(Node(Ref("trigger", None, (name,)), kind, self, f"the flow's input `{name}`"))

    def add(self, key: str, definition: StepDef, kind: Any, label: str | None = None) -> Placeholder:
        """Record a step under a free key and return the placeholder of its result. `label`: what to call that."""
        self.steps[key] = self.scopes.place(key, definition)
        self._taken.update((key, *_inside(definition)))
        return Placeholder(Node(Ref("step", key), kind, self, label or f"the result of step `{key}`"))

    def free_key(self, wanted: str, *, exact: bool) -> str:
        """`wanted`, or `wanted_2`, `wanted_3` … unless `exact`."""
        if wanted not in self._taken:
            return wanted
        if exact:
            refuse(f"the key `{wanted}` is used twice in flow `{self.flow}`", "give one of the steps another `key`")
        return next(key for n in count(2) if (key := f"{wanted}_{n}") not in self._taken)

    def called(self) -> None:
        """Something is called that makes a step: note the way that led to it."""
        self._way.step_called(caller_frame())

    def call(self, flow: "Flow[Any, Any]") -> None:
        """A flow is called: note which one, and the way that led to it."""
        self.called()
        if self.flows.setdefault(flow.name, flow) is not flow:
            refuse(f"two flows that are called have the name `{flow.name}`", 'name one with `@flow(name="…")`')

    def use(self, step: "Step[Any, Any, Any]") -> None:
        """A step is called: note its handler, and the way that led to it."""
        self.called()
        step.signature.check_kinds()
        known = self.handlers.setdefault(step.type, step)
        if known.fn is not step.fn:
            refuse(
                f"two steps of flow `{self.flow}` have the type `{step.type}`: {known.place} and {step.place}",
                'name one with `@step(key="…")`',
            )

    def require_used(self) -> None:
        """
        Raises:
            AuthoringError: a condition was made, and nothing depends on it.
        """
        for made in self.conditions:
            if not made.used:
                file, _, line = made.place.rpartition(":")
                raise AuthoringError(
                    f"{made.place}: the condition `{render(made.expr)}` is made here, and nothing depends on it. "
                    "Fix: use it in `with when(…):` or `options(when=…)`, or remove it.",
                    place=made.place,
                    file=file,
                    line=int(line),
                )
