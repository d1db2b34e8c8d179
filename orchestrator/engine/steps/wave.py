"""What one transaction finds out while a run goes on: what ended, what may go, what is counted."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from pydantic import JsonValue

from orchestrator.core.facts import Called, Dispatch, StepOf
from orchestrator.core.plan import Node
from orchestrator.core.states import StepEvent, StepStatus
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.retrying import How
from orchestrator.ledger import graph, subflows

DEEPEST: Final = 10
"""Runs from the one that nobody called down to the last one that may be called."""


@dataclass(frozen=True, slots=True)
class End:
    """A step that ended; `error` explains a failure."""

    key: str
    status: StepStatus
    error: JsonValue = None


@dataclass
class Tally:
    """Of one scope, the run or an item: its sinks that ended, and its failures that nobody takes up."""

    sinks: int = 0
    failures: int = 0
    error: JsonValue = None
    """Of the first of these."""
    ran: bool = False
    """Whether one of the sinks was not skipped."""


@dataclass
class Wave:
    """Of the run that is held."""

    held: HeldRun
    how: How | None = None
    """Of the operator's retry that this is a part of."""
    ended: list[End] = field(default_factory=list)
    """What has ended and was not looked at yet: one generation."""
    freed: list[str] = field(default_factory=list)
    """Steps with a handler that wait for nothing any more."""
    calls: list[Node] = field(default_factory=list)
    """Steps that call a flow and wait for nothing any more."""
    early: set[str] = field(default_factory=set)
    """Steps that went before all their predecessors had ended: they wait for none any more."""
    dispatches: list[Dispatch] = field(default_factory=list)
    called: list[Called] = field(default_factory=list)
    skipped: list[StepOf] = field(default_factory=list)
    opened: int = 0
    """Calls that were looked at."""
    postponed: bool = False
    """Whether others are left to another transaction."""
    tallies: dict[str, Tally] = field(default_factory=dict)
    """By the key of the item; of the run, by none."""
    _nodes: dict[str, Node] = field(default_factory=dict)
    _states: dict[str, StepStatus] = field(default_factory=dict)
    """Of steps that ended in this wave."""
    _skips: dict[str, str] = field(default_factory=dict)
    """Steps to be skipped, and why: written at once, however many generations they are."""

    @cached_property
    def caller(self) -> subflows.Caller:
        """What the runs that it calls take over."""
        return subflows.caller(self.held.tx, self.held.id, DEEPEST)

    def end(self, end: End) -> None:
        """The step has ended; it is looked at with the next generation."""
        self._states[end.key] = end.status
        self.ended.append(end)

    def has_ended(self, step_key: str) -> bool:
        """Whether the step ended in this wave."""
        return step_key in self._states

    def skip(self, reasons: Mapping[str, str]) -> None:
        """These steps, which are blocked, can never run."""
        self._skips |= reasons
        for key in reasons:
            self.end(End(key, StepStatus.SKIPPED))
            self.skipped.append(self.held.step(key))

    def stop(self, step_keys: Collection[str]) -> None:
        """These steps, which may have been about to go, were ended, and counted."""
        self._states |= dict.fromkeys(step_keys, StepStatus.SKIPPED)
        self.freed = [key for key in self.freed if key not in step_keys]
        self.calls = [node for node in self.calls if node.key not in step_keys]

    def write_skips(self) -> None:
        """Before anything reads in the ledger how steps ended."""
        graph.skip(self.held.tx, self.held.id, self._skips, StepEvent.SKIP)
        self._skips.clear()

    def statuses(self, step_keys: Iterable[str]) -> dict[str, StepStatus]:
        """Where steps stand."""
        keys = set(step_keys)
        known = {key: self._states[key] for key in keys & self._states.keys()}
        asked = sorted(keys - known.keys())
        return known | (graph.statuses(self.held.tx, self.held.id, asked) if asked else {})

    @property
    def uncounted(self) -> set[str]:
        """The steps that have ended, and that the counts do not know of yet."""
        return {end.key for end in self.ended}

    @property
    def going(self) -> set[str]:
        """The steps that may go, and whose rows do not say so yet."""
        return {*self.freed, *(node.key for node in self.calls)}

    def node(self, step_key: str) -> Node:
        """The node of a step of the run."""
        found = self._nodes.get(step_key)
        if found is None:
            found = self._nodes[step_key] = self.held.plan.node(step_key)
        return found

    def tally(self, step_key: str) -> Tally:
        """Of the scope that a step stands in."""
        return self.tallies.setdefault(step_key.rpartition(".")[0], Tally())
