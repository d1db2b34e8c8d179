"""Which outputs may be kept outside of the ledger: those that nobody reads while a run is held, nor in SQL (ADR 28)."""

from collections.abc import Iterator, Mapping

from orchestrator.core.expressions import Ref, references, refs
from orchestrator.core.manifest import Manifest, StepDef
from orchestrator.core.states import StepKind
from orchestrator.errors import ExpressionInvalid


def offloadable(manifest: Manifest) -> frozenset[str]:
    """Steps with a handler, outside of loops, whose output is named by inputs of such steps and by the flow's output
    only. A transactional step would wait for the store with its transaction open."""
    read_here = {ref.key for ref in _read_while_held(manifest.steps) if ref.root == "step" and ref.member == "output"}
    return frozenset(
        key
        for key, step in manifest.steps.items()
        if step.kind is StepKind.TASK and not step.transactional and key not in read_here
    )


def read_by_output(manifest: Manifest) -> frozenset[str]:
    """The steps whose output the flow's output reads: a step that called the flow reads it in the same moment."""
    return frozenset(ref.key for ref in references(manifest.output) if ref.key is not None)


def _read_while_held(steps: Mapping[str, StepDef]) -> Iterator[Ref]:
    """What is read by others than workers who are about to call a handler."""
    for step in steps.values():
        by_worker = step.kind is StepKind.TASK
        for found in step.found():
            if isinstance(found.expr, ExpressionInvalid) or (by_worker and found.path[0] == "inputs"):
                continue
            yield from refs(found.expr)
        yield from _read_while_held(step.steps)
