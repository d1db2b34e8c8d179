"""Which blocks are open while a body is traced, what they ask of the steps in them, and where values may be used."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from orchestrator.authoring.conditions import conjunction
from orchestrator.authoring.edges import Statuses, united
from orchestrator.authoring.placeholder import refuse
from orchestrator.core.expressions import Expr, Ref, parse_bare, render
from orchestrator.core.gates import Join
from orchestrator.core.manifest import StepDef, with_predecessors
from orchestrator.core.states import StepKind, StepStatus

_FIRST: Final = frozenset({Join.ANY, Join.SOME, Join.NONE_FAILED})
"""With these, a further edge changes what the edges mean together."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What a block asks of its entry steps."""

    when: Expr | None = None
    edges: Mapping[str, Statuses] = field(default_factory=dict)


class Scope:
    """A block, or the body itself."""

    name = "the body"
    only: str | None = None
    """When there is what is made in it, such as "when `charge` failed"; None: whenever it succeeds."""
    failures: tuple[str, ...] = ()
    """The steps of which one has failed wherever there is what is made in it."""

    def __init__(self) -> None:
        self.made = 0
        self.branch: Scope | None = None
        """The block that ended last, with nothing since."""

    def gate(self) -> Gate:
        return Gate()


class Scopes:
    """Of one trace."""

    def __init__(self) -> None:
        self.open: list[Scope] = [Scope()]
        self._of: dict[str, frozenset[Scope]] = {}
        self._errors: set[str] = set()
        """The steps whose errors a block has given."""

    def gives_error(self, key: str) -> None:
        """A block gives the error of this step to what is called in it."""
        self._errors.add(key)

    def _failed_here(self, key: str) -> bool:
        return any(key in scope.failures for scope in self.open)

    @property
    def innermost(self) -> Scope:
        return self.open[-1]

    def place(self, key: str, step: StepDef) -> StepDef:
        """The step with what the open blocks ask of it.

        Raises:
            AuthoringError: it reads a value that may not exist here, or its join does not go with a block.
        """
        inside: set[Scope] = set()
        for scope in reversed(self.open[1:]):  # what an inner block adds may lead into an outer one
            if self._leads_into(scope, step):
                inside.add(scope)
            elif step.kind is not StepKind.MERGE:  # a merge of what is made outside can be made outside
                inside.add(scope)
                step = _gated(step, scope)
        if step.kind is not StepKind.MERGE:
            _require_values(step)
            self.require_visible(step.references())
        elif step.join is not Join.ANY:
            self._require_no_failure(step)
        self._of[key] = frozenset(inside)
        self.innermost.branch = None
        for scope in self.open:
            scope.made += 1
        return step

    def _leads_into(self, scope: Scope, step: StepDef) -> bool:
        """Whether the step is skipped when the block is, by its edges alone."""
        edges = with_predecessors(step).run_after
        falls = [key for key in edges if scope in self._of.get(key, ()) and StepStatus.SKIPPED not in edges[key]]
        match step.join:
            case Join.ALL:
                return bool(falls)
            case Join.ALL_DONE:
                return False
            case _:
                return bool(falls) and len(falls) == len(edges)

    def _require_no_failure(self, step: StepDef) -> None:
        """`either` is skipped when a step of it failed, so what stands in for that failure would never be taken."""
        for key in step.run_after:
            for scope in self._of.get(key, ()):
                for lost in step.run_after.keys() & scope.failures:
                    refuse(
                        f"`either` takes `{key}`, which exists only {scope.only}, and `{lost}` itself: when that "
                        "failed, `either` is skipped, for a failure is not an absence",
                        f"write `first_of({lost}, {key})` for whichever succeeds",
                    )

    def require_visible(self, read: Iterable[Ref]) -> None:
        """
        Raises:
            AuthoringError: one of these is a value of a block that is closed.
        """
        for ref in read:
            if ref.member == "error" and ref.key in self._errors and not self._failed_here(ref.key):
                refuse(
                    f"the error of step `{ref.key}` exists only when `{ref.key}` failed",
                    f"move what needs it into `with on_failure({ref.key}) as problem:`",
                )
            for scope in self._of.get(ref.key or "", ()):
                if ref.member == "output" and scope.only is not None and scope not in self.open:
                    merge = f"either({ref.key}, …)` for the result of whichever branch ran"
                    if scope.failures:
                        merge = f"first_of({scope.failures[-1]}, {ref.key})` for whichever succeeds"
                    refuse(
                        f"the result of step `{ref.key}` exists only {scope.only}",
                        f"write `{merge}, or move what needs it into the block",
                    )


def _gated(step: StepDef, scope: Scope) -> StepDef:
    gate = scope.gate()
    own = [] if step.when is None else [parse_bare(step.when)]
    when = [] if gate.when is None else [gate.when]
    found = step.model_copy(
        update={
            "when": render(conjunction(*when, *own)) if when or own else None,
            "run_after": united(step.run_after, gate.edges),
        }
    )
    before, after = with_predecessors(step).run_after, with_predecessors(found).run_after
    if (step.join in _FIRST and before.keys() != after.keys()) or (step.join is Join.ALL_DONE and before != after):
        refuse(
            f'`join="{step.join}"` is asked for in `{scope.name}`, whose edges would count as well',
            "call the step outside of the block, or merge first with `either` or `first_of`",
        )
    return found


def _require_values(step: StepDef) -> None:
    """Whoever reads a result asks for one, unless a join says that one will do."""
    if step.join is not Join.ALL:
        return
    for ref in step.references():
        asked = step.run_after.get(ref.key or "", (StepStatus.SUCCEEDED,))
        if ref.key is not None and ref.member == "output" and asked != (StepStatus.SUCCEEDED,):
            refuse(
                f"the result of step `{ref.key}` is read where it is {' or '.join(asked)}",
                "read it where it succeeded; of one that failed there is the error: `with on_failure(x) as problem:`",
            )
