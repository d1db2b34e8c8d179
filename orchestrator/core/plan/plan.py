"""A manifest compiled for running: who follows whom, what each step reads, which path its completion takes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter

from orchestrator.core.expressions import Ref, is_expression, parse
from orchestrator.core.inputs import Inputs
from orchestrator.core.manifest import Manifest, StepDef
from orchestrator.core.plan import offloading
from orchestrator.core.plan.build import Above, Builder
from orchestrator.core.plan.names import Names
from orchestrator.core.plan.node import Node
from orchestrator.core.plan.rows import as_json, row_of
from orchestrator.core.signals import Awaited, awaited
from orchestrator.core.states import StepStatus


@dataclass(frozen=True, slots=True)
class Expected:
    """A wait of the manifest. `top`: the step of the run that it is, or that it is inside of."""

    top: str
    wait: Awaited


class Plan:
    """The compiled graph of one manifest. Immutable; shared by threads."""

    def __init__(self, manifest: Manifest, nodes: Mapping[str, Node]) -> None:
        self.manifest = manifest
        self.nodes = nodes

    @classmethod
    def of(cls, manifest: Manifest) -> "Plan":
        """Compile `manifest`, which validation has accepted."""
        build = Builder(manifest, signals=any(awaited(key, step) for key, step in _every_step(manifest.steps)))
        return cls(manifest, build.nodes(manifest.steps, Above(manifest.queue, None, Names())))

    def node(self, step_key: str) -> Node:
        """The node of a step's row. Children of a loop (`loop.3.body`) share its body's; what runs for an item
        (`loop.3`, `loop.3.step`) has one of its own."""
        first, dot, rest = step_key.partition(".")
        node = self.nodes[first]
        while dot:
            if node.graph is None:
                return node.body or node
            index, dot, rest = rest.partition(".")
            if not dot:
                return node.item(index)
            key, dot, rest = rest.partition(".")
            node = node.graph.nodes[key].placed(f"{node.key}.{index}")
        return node

    def row(self, step_key: str) -> str:
        """The key of the row that is meant: an item of a loop of one step (`loop.3`) is that step's (`loop.3.body`)."""
        loop, _, index = step_key.rpartition(".")
        try:
            node = self.node(loop)
        except KeyError:
            return step_key
        return f"{step_key}{node.child_suffix}" if node.is_loop and index.isdecimal() else step_key

    def every(self) -> Iterator[Node]:
        """Those of the manifest, and what is inside of loops, by their keys there."""
        for node in self.nodes.values():
            yield from node.every()

    def unhandled(self, key: str, states: Mapping[str, StepStatus]) -> bool:
        """Whether a step's failure fails the run: it has failed, must not, and no handler of that runs, ran or may
        still."""
        over = {StepStatus.SKIPPED, StepStatus.CANCELLED}
        node = self.node(key)
        if states[key] is not StepStatus.FAILED or node.definition.may_fail:
            return False
        return all(states[handler] in over for handler in node.handlers)

    @cached_property
    def sinks(self) -> int:
        """Steps that nothing waits for: the run ends when they all have."""
        return sum(node.is_sink for node in self.nodes.values())

    @cached_property
    def backwards(self) -> tuple[str, ...]:
        """The steps, each behind all that come after it."""
        return backwards(self.nodes)

    def roots(self) -> Iterator[Node]:
        """Steps that wait for nothing."""
        return (node for node in self.nodes.values() if not node.definition.run_after)

    @cached_property
    def awaited(self) -> Mapping[str, tuple[Expected, ...]]:
        """The waits, by the name of their signal, in the order of the manifest. An approval inside of a loop is not
        among them: its name is that of a row."""
        found: dict[str, tuple[Expected, ...]] = {}
        for top, node in self.nodes.items():
            for one in node.every():
                wait = one.awaited
                if wait is not None and (wait.approval is None or one is node):
                    found[wait.name] = (*found.get(wait.name, ()), Expected(top, wait))
        return found

    def expected(self, name: str) -> tuple[Expected, ...]:
        """The waits for a signal of that name; what is asked in an item has the name of its row."""
        return self.awaited.get(name) or tuple(self._asked_in_an_item(name))

    def _asked_in_an_item(self, row: str) -> Iterator[Expected]:
        try:
            node = self.node(row)
        except KeyError:
            return
        wait = node.awaited
        if node.key == row and wait is not None and wait.approval is not None:
            yield Expected(row, wait)

    @cached_property
    def offloadable(self) -> frozenset[str]:
        """The steps whose output may be kept outside of the ledger."""
        return offloading.offloadable(self.manifest)

    @cached_property
    def read_by_output(self) -> frozenset[str]:
        """The steps whose output is read for the run's."""
        return offloading.read_by_output(self.manifest)

    @cached_property
    def result_step(self) -> str | None:
        """The step whose output is the run's, as it is."""
        output = self.manifest.output
        expr = parse(output) if isinstance(output, str) and is_expression(output) else None
        whole = isinstance(expr, Ref) and expr.root == "step" and expr.member == "output" and not expr.path
        return expr.key if isinstance(expr, Ref) and whole else None

    @cached_property
    def goes_on_at_start(self) -> bool:
        """Whether more is to be done at once than the start statement does: open a step that is not plain, or end a run
        without steps."""
        return not self.nodes or any(not node.plain for node in self.roots())

    @cached_property
    def inputs(self) -> Inputs:
        """What a run's input has to be."""
        return Inputs(self.manifest.name, self.manifest.input_schema)

    @cached_property
    def rows(self) -> str:
        """The run's first step rows, as the JSON that the start statement expands; what is not in a row is null."""
        return as_json(map(row_of, self.nodes.values()))

    @cached_property
    def closed_rows(self) -> str:
        """The same, of a run of which the statement dispatches nothing: the caller opens it."""
        return as_json({**row_of(node), "ready": False} for node in self.nodes.values())


def backwards(nodes: Mapping[str, Node]) -> tuple[str, ...]:
    """The steps of one scope, each behind all that come after it."""
    order = TopologicalSorter({key: node.definition.run_after for key, node in nodes.items()}).static_order()
    return tuple(reversed(tuple(order)))


def _every_step(steps: Mapping[str, StepDef]) -> Iterator[tuple[str, StepDef]]:
    for key, step in steps.items():
        yield key, step
        yield from _every_step(step.steps)
