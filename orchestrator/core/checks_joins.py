"""What can be wrong with how a step joins its predecessors, and steps that can never run."""

from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Final

from orchestrator.core.gates import Join
from orchestrator.core.problem import Problem
from orchestrator.core.states import FINAL_STEP, StepKind, StepStatus

if TYPE_CHECKING:
    from orchestrator.core.manifest import StepDef

Ends = frozenset[StepStatus]
_S: Final = StepStatus
_RAN: Final = frozenset({_S.SUCCEEDED, _S.FAILED})
_SKIPPED: Final = frozenset({_S.SKIPPED})
ANY_END: Final = frozenset(FINAL_STEP - {_S.COMPENSATED})
"""The statuses of an edge that is met however its step ends."""
_OF_MERGES: Final = (Join.ALL, Join.ANY, Join.NONE_FAILED)


def problems(place: str, step: "StepDef") -> Iterator[Problem]:
    """Of one step: its join and its edges."""
    if step.join is not Join.ALL and not step.run_after:
        yield Problem(f"{place}.join", f"joins by `{step.join}` and waits for nothing", "leave `join` out")
    if step.join is Join.ALL_DONE:
        for name, statuses in step.run_after.items():
            if frozenset(statuses) != ANY_END:
                fix = "give it `[]`, or join by another rule"
                yield Problem(f"{place}.run_after.{name}", "`all_done` takes any end, and this names some", fix)
    if step.kind is StepKind.MERGE and step.join not in _OF_MERGES:
        yield Problem(f"{place}.join", f"a merge does not join by `{step.join}`", f"use {', '.join(_OF_MERGES)}")
    if step.rest != "withdraw" and step.join is not Join.ANY:
        fix = "join by `any`, or leave it out"
        yield Problem(f"{place}.rest", "there is a rest only where the first one decides", fix)


def predecessors(steps: Mapping[str, "StepDef"]) -> dict[str, set[str]]:
    """Of each step, those that exist."""
    return {key: {name for name in step.run_after if name in steps} for key, step in steps.items()}


def unreachable(place: str, steps: Mapping[str, "StepDef"]) -> Iterator[Problem]:
    """Steps whose predecessors cannot end as asked; only the first of a chain is named."""
    ends: dict[str, Ends] = {}
    for key in TopologicalSorter(predecessors(steps)).static_order():
        edges = _Edges(steps[key], ends)
        ends[key] = _RAN | (_SKIPPED if edges.may_skip() or steps[key].when is not None else frozenset())
        if edges.may_go():
            continue
        ends[key] = _RAN | _SKIPPED
        for name in edges.impossible:
            can = ", ".join(sorted(ends[name]))
            asked = ", ".join(sorted(edges.accepted[name])) or "no status at all"
            yield Problem(
                f"{place}.{key}.run_after.{name}", f"never runs: it waits for {asked}, `{name}` ends as {can}"
            )


class _Edges:
    """Those of one step, with all ends that its predecessors may have. How one ended is taken to say nothing about
    another."""

    def __init__(self, step: "StepDef", ends: Mapping[str, Ends]) -> None:
        self.join = step.join
        self.accepted = {name: frozenset(found) for name, found in step.run_after.items() if name in ends}
        self.missed = {name: ends[name] - found for name, found in self.accepted.items()}
        self.impossible = [name for name, found in self.accepted.items() if not found & ends[name]]

    def may_go(self) -> bool:
        possible = len(self.impossible) < len(self.accepted)
        match self.join:
            case Join.ALL_DONE:
                return True
            case Join.ALL:
                return not self.impossible
            case Join.NONE_FAILED:
                return possible and all(_S.SKIPPED in self.missed[name] for name in self.impossible)
            case Join.ANY | Join.SOME:
                return possible or not self.accepted

    def may_skip(self) -> bool:
        missed = self.missed.values()
        match self.join:
            case Join.ALL_DONE:
                return False
            case Join.ALL:
                return any(missed)
            case Join.NONE_FAILED:
                return any(found - _SKIPPED for found in missed) or all(missed)
            case Join.ANY | Join.SOME:
                return all(missed)
