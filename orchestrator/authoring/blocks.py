"""Blocks of a flow body: `with when(…)`, `otherwise`, `on_failure`, `always`, `after`.

Only the entry steps of a block are changed: those that its edges would not skip together with it. The others stay as
they are, and as cheap.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, TypeVar, cast

from orchestrator.authoring.conditions import conjunction, disjunction, truth
from orchestrator.authoring.edges import Statuses, ended, failed, key_of, run_after
from orchestrator.authoring.placeholder import Node, Placeholder, refuse
from orchestrator.authoring.predicates import in_body
from orchestrator.authoring.scopes import Gate, Scope
from orchestrator.authoring.tracer import Tracer
from orchestrator.core.expressions import Expr, Ref, render
from orchestrator.core.expressions.tree import Default, Not
from orchestrator.core.gates import Join
from orchestrator.core.manifest import StepDef

T = TypeVar("T")


@dataclass(frozen=True)
class StepError:
    """Why a step failed. `step`: which one; of a loop, its child."""

    step: str
    type: str
    message: str


class Block(Scope, Generic[T]):
    """Open while its `with` is."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self._tracer = in_body(name, "it says what a graph looks like; outside, write plain Python")
        self._gate = Gate()

    def gate(self) -> Gate:
        return self._gate

    def __enter__(self) -> T:
        given = self._prepare(self._tracer)
        self.made = 0
        self._tracer.scopes.open.append(self)
        return given

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        scopes = self._tracer.scopes
        scopes.open.remove(self)
        scopes.innermost.branch = self
        if kind is None and not self.made:
            refuse(f"`with {self.name}(…)` holds no step", "call a step in it, or remove it")

    def _prepare(self, tracer: Tracer) -> T:
        """What `as` gives; sets the gate."""
        raise NotImplementedError


# ---- conditions ----


class _Branch(Block[None]):
    """`when`, or an `otherwise` after it."""

    def __init__(self, name: str, condition: object) -> None:
        super().__init__(name)
        self._condition = condition
        self._tried: tuple[Expr, ...] = ()
        """The conditions of this chain so far, with its own."""
        self._is_last = False

    def _prepare(self, tracer: Tracer) -> None:
        self._open_with(truth(tracer, self._condition), ())

    def _open_with(self, own: Expr | None, before: tuple[Expr, ...]) -> None:
        self._tried = before if own is None else (*before, own)
        self._is_last = own is None
        unless = [Not(disjunction(*before))] if before else []
        expr = conjunction(*unless, *([] if own is None else [own]))
        self._gate = Gate(when=expr)
        self.only = f"when `{render(expr)}`"


class _Otherwise(_Branch):
    def _prepare(self, tracer: Tracer) -> None:
        before = tracer.scopes.innermost.branch
        if not isinstance(before, _Branch):
            refuse("`otherwise` has no `when` right before it", "put it behind the block of `when`, at the same depth")
        if before._is_last:
            refuse("`otherwise` follows one without a condition", "give the one before a condition, or remove this one")
        own = None if self._condition is True else truth(tracer, self._condition)
        self._open_with(own, before._tried)


def when(condition: int, /) -> Block[None]:
    """What is called in this block runs only when the condition holds: `with when(order.total > 1000):`.

    Raises:
        AuthoringError: outside a flow body, or it is not a condition.
    """
    return _Branch("when", condition)


def otherwise(condition: int = True, /) -> Block[None]:
    """Runs when the `when` before it does not; with a condition, when that holds besides (`elif`).

    Raises:
        AuthoringError: outside a flow body, without a `when` right before it, or it is not a condition.
    """
    return _Otherwise("otherwise", condition)


# ---- ends ----


class _OnFailure(Block[StepError]):
    def __init__(self, results: tuple[object, ...]) -> None:
        super().__init__("on_failure")
        self._keys = _keys(self._tracer, "on_failure", results)
        self.failures = tuple(self._keys)

    def _prepare(self, tracer: Tracer) -> StepError:
        edges = run_after(tracer, map(failed, self._keys))
        self.only = f"when {' or '.join(f'`{key}`' for key in self._keys)} failed"
        if len(edges) == 1:
            node = Node(_error(self._keys[0]), StepError, tracer, f"the error of step `{self._keys[0]}`")
            self._gate = Gate(edges=edges)
            tracer.scopes.gives_error(self._keys[0])
            return cast(StepError, Placeholder(node))
        label = f"the error of step {' or '.join(f'`{key}`' for key in self._keys)}"
        problem = tracer.add(tracer.free_key("failure", exact=False), _first_error(edges), StepError, label)
        self._gate = Gate(edges=run_after(tracer, [problem]))
        return cast(StepError, problem)


def _error(key: str) -> Ref:
    return Ref("step", key, (), "error")


def _first_error(edges: dict[str, Statuses]) -> StepDef:
    first, *others = map(_error, edges)
    value: Expr = first
    for other in others:
        value = Default(value, other)
    return StepDef(value=render(value), join=Join.ANY, rest="leave", run_after=edges)


class _Ordered(Block[None]):
    """`always`, `after`."""

    def __init__(self, name: str, results: tuple[object, ...]) -> None:
        super().__init__(name)
        self._edges = run_after(self._tracer, results)
        if not results:
            refuse(f"`{name}` got no result of a step", f"write `with {name}(charged):`")

    def _prepare(self, tracer: Tracer) -> None:
        self._gate = Gate(edges=self._edges)


def on_failure(*results: object) -> Block[StepError]:
    """What is called in this block runs only when one of the steps failed, and handles the failure: the run does not
    fail for it. `with on_failure(charged) as problem:` gives the error.

    Raises:
        AuthoringError: outside a flow body, or these are not results of its steps.
    """
    return _OnFailure(results)


def always(*results: object) -> Block[None]:
    """What is called in this block runs once the steps have ended, however they did. It hides no failure.

    Raises:
        AuthoringError: as `on_failure`.
    """
    tracer = in_body("always", "it says what a graph looks like; outside, write plain Python")
    return _Ordered("always", tuple(ended(key) for key in _keys(tracer, "always", results)))


def after(*results: object) -> Block[None]:
    """What is called in this block runs once the steps have succeeded; `failed(x)`, `ended(x)` and `skipped(x)` ask
    for another end.

    Raises:
        AuthoringError: as `on_failure`.
    """
    return _Ordered("after", results)


def _keys(tracer: Tracer, name: str, results: tuple[object, ...]) -> list[str]:
    if not results:
        refuse(f"`{name}` got no result of a step", f"write `with {name}(charged):`")
    return list(dict.fromkeys(key_of(tracer, one, name) for one in results))


BLOCKS: Final[tuple[Any, ...]] = (when, otherwise, on_failure, always, after)
"""What a `with` of a body may open."""
