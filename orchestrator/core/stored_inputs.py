"""Whether what runs of a version give a step fits the types of another version's function."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from orchestrator.core.expressions import Ref, find, is_expression, parse
from orchestrator.core.manifest import Manifest, StepDef
from orchestrator.core.schema_change import narrowed
from orchestrator.core.schemas import misfit

Schema = Mapping[str, Any]


def type_misfit(step: StepDef, takes: Schema, old: Manifest, new: Manifest) -> str | None:
    """The first input of a step of `old` that the function does not take any more, in words that follow "and". What a
    literal is, and what a parameter of the flow may be, is known; what other steps return is not.

    `takes`: the JSON Schema of the function's parameters.
    """
    for name, value in step.inputs.items():
        part = _part(takes, name)
        why = None if part is None else _refused(value, part, old, new)
        if why is not None:
            return f"its parameter `{name}` {why}"
    return None


def _refused(value: JsonValue, part: Schema, old: Manifest, new: Manifest) -> str | None:
    if not any(True for _ in find(value)):
        error = misfit(json.dumps(part, sort_keys=True), value)
        return None if error is None else f"does not take what they give it: {error.message}"
    field = _field(value)
    before = None if field is None else _part(old.input_schema, field)
    if before is None or before == _part(new.input_schema, field or ""):  # the code itself gives it that
        return None
    return narrowed(before, part)


def _field(value: JsonValue) -> str | None:
    """The parameter of the flow that it is, if it is one and nothing else."""
    ref = parse(value) if isinstance(value, str) and is_expression(value) else None
    if isinstance(ref, Ref) and ref.root == "trigger" and len(ref.path) == 1:
        return str(ref.path[0])
    return None


def _part(schema: Schema, name: str) -> Schema | None:
    """A property, with the definitions that it may refer to."""
    properties = schema.get("properties")
    part = properties.get(name) if isinstance(properties, Mapping) else None
    return {**part, "$defs": schema.get("$defs", {})} if isinstance(part, Mapping) else None
