"""What steps will give that runs of a version have yet to run, beside the steps that read it: the graph is that of the
version, the functions are those of the code. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.core.manifest import Manifest, StepDef
from orchestrator.core.results import Reading, Schema, readings, schema_at
from orchestrator.core.schema_change import narrowed
from orchestrator.core.signals import awaited
from orchestrator.core.states import StepKind


@dataclass(frozen=True)
class Code:
    """What the functions of the code take and give, by type, and what its flows give, by name: JSON Schemas."""

    takes: Mapping[str, Schema]
    gives: Mapping[str, Schema]
    flows: Mapping[str, Schema]


def unfit(old: Manifest, new: Manifest, code: Code) -> Iterator[Reading]:
    """The parameters that do not take all that the steps may give whose results they are. How the code itself puts its
    functions together is its author's business: that is left out."""
    known = {_wire(new, one) for one in readings(new, code.takes)}
    for one in readings(old, code.takes):
        given = _given(one.source, old.steps[one.source], code)
        part = schema_at(given, one.path) if given else None
        if part and _wire(old, one) not in known and narrowed(part, one.takes) is not None:
            yield one


def _wire(manifest: Manifest, one: Reading) -> object:
    source = manifest.steps[one.source]
    return source.kind, source.type, source.flow, *(child.type for child in source.steps.values()), *one.wire


def _given(key: str, step: StepDef, code: Code) -> Schema | None:
    """None: nobody knows."""
    match step.kind:
        case StepKind.TASK:
            return _written(code.gives.get(step.type or ""))
        case StepKind.FLOW if not step.detached:
            return _written(code.flows.get(step.flow or ""))
        case StepKind.LOOP if step.errors != "collect" and not step.is_graph:
            (child,) = step.steps.items()
            item = _given(*child, code)
            return item and {"type": "array", "items": item, "$defs": item.get("$defs", {})}
        case StepKind.WAIT:
            wait = awaited(key, step)
            return None if wait is None else wait.form
        case _:
            return None


def _written(schema: Schema | None) -> Schema | None:
    """The schema of what is read, as that of what was written: it has the fields with defaults, too, and no others."""
    return None if schema is None else _object(schema)


def _part(value: Any) -> Any:
    if isinstance(value, list):
        return [_part(one) for one in value]
    return _object(value) if isinstance(value, Mapping) else value


def _object(schema: Schema) -> dict[str, Any]:
    found = {name: part if name in ("default", "const", "enum") else _part(part) for name, part in schema.items()}
    if isinstance(properties := schema.get("properties"), Mapping):
        defaults = [name for name, part in properties.items() if isinstance(part, Mapping) and "default" in part]
        found["required"] = list(dict.fromkeys((*schema.get("required", ()), *defaults)))
        found.setdefault("additionalProperties", False)
    return found
