"""Whether what a flow returns is null in a run that succeeds: its step failed, and that was handled."""

from collections.abc import Mapping

from pydantic import JsonValue

from orchestrator.core.expressions import Ref, is_expression, parse
from orchestrator.core.gates import Join
from orchestrator.core.manifest import StepDef
from orchestrator.core.states import StepKind, StepStatus


def why_null(steps: Mapping[str, StepDef], output: JsonValue) -> str | None:
    """What makes it null, in words; None: nothing that the graph shows."""
    ref = parse(output) if isinstance(output, str) and is_expression(output) else None
    if not isinstance(ref, Ref) or ref.member != "output" or ref.key is None or ref.key not in steps:
        return None
    return _why(steps, ref.key, set())


def _why(steps: Mapping[str, StepDef], key: str, seen: set[str]) -> str | None:
    if key in seen:
        return None
    seen.add(key)
    step = steps[key]
    if step.may_fail:
        return f"step `{key}` may fail"
    handler = next((name for name, other in steps.items() if _handles(other, key)), None)
    if handler is not None:
        by = "" if steps[handler].kind is StepKind.MERGE else f" by step `{handler}`"  # nobody wrote that one
        return f"step `{key}` fails, which is handled{by}"
    if step.kind is StepKind.MERGE or step.join is not Join.ALL:
        return None
    needed = [name for name, accepted in step.run_after.items() if accepted == (StepStatus.SUCCEEDED,)]
    return next((why for name in needed if name in steps and (why := _why(steps, name, seen))), None)


def _handles(step: StepDef, key: str) -> bool:
    accepted = step.run_after.get(key)
    return accepted is not None and StepStatus.FAILED in accepted and StepStatus.SUCCEEDED not in accepted
