"""What steps and flows give, beside the parameters of those that read it. Pure."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue

from orchestrator.core.expressions import Ref, is_expression, parse
from orchestrator.core.manifest import Manifest, StepDef
from orchestrator.core.schema_change import narrowed
from orchestrator.core.schemas import misfit
from orchestrator.core.values import show_path

Schema = Mapping[str, Any]
Path = tuple[str | int, ...]
_KINDS: Final = {dict: "an object", list: "a list", str: "a string", bool: "a bool", type(None): "null"}


@dataclass(frozen=True, slots=True)
class Reading:
    """A parameter of a step that takes what another one gave, and nothing else. `step`: it, or the loop it is in."""

    step: str
    type: str
    parameter: str
    source: str
    path: Path
    takes: Schema

    @property
    def wire(self) -> tuple[Path, str, str]:
        """What of the result goes where."""
        return self.path, self.type, self.parameter

    def misfit(self, output: JsonValue) -> str | None:
        """Why it does not take this output, without quoting it; None: it does."""
        value = _value_at(output, self.path)
        error = misfit(json.dumps(self.takes, sort_keys=True), value)
        if error is None:
            return None
        place = show_path((*self.path, *error.path))
        at = f"at `{place}` " if place else ""
        if error.missing is not None:
            return f"{at}it has no `{error.missing}`"
        return f"{at}it is {_kind(_value_at(value, error.path))}"

    def narrower(self, old: Schema, new: Schema) -> bool:
        """Whether it took whatever the one schema allows, and may not take what the other does."""
        before, now = schema_at(old, self.path), schema_at(new, self.path)
        if before is None or now is None or narrowed(before, self.takes) is not None:
            return False
        return narrowed(now, self.takes) is not None


def readings(manifest: Manifest, takes: Mapping[str, Schema]) -> Iterator[Reading]:
    """Of the steps of a flow. `takes`: by type, the JSON Schema of the parameters of its function."""
    for key, step in manifest.steps.items():
        for one in _every(step):
            schema = takes.get(one.type or "")
            for name, value in one.inputs.items() if schema is not None else ():
                ref = parse(value) if isinstance(value, str) and is_expression(value) else None
                part = _property(schema or {}, name)
                if part is None or not isinstance(ref, Ref) or ref.member != "output" or ref.key not in manifest.steps:
                    continue
                yield Reading(key, one.type or "", name, ref.key, ref.path, part)


def callers(flow: str, manifests: Iterable[Manifest]) -> list[tuple[Manifest, str]]:
    """The steps that call a flow, each with its own."""
    return [(one, key) for one in manifests for key, step in one.steps.items() if step.flow == flow]


def _every(step: StepDef) -> Iterator[StepDef]:
    yield step
    for child in step.steps.values():
        yield from _every(child)


def _value_at(value: Any, path: Path) -> Any:
    """Null where there is nothing, as expressions have it."""
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value


def schema_at(schema: Schema, path: Path) -> Schema | None:
    """What stands there; None: nobody knows. Where there is nothing, expressions have null."""
    found: Schema | None = schema
    for part in path:
        whole = {} if found is None else _resolved(found)
        found = _property(whole, str(part))
        if found is None and "properties" in whole and whole.get("additionalProperties") is False:
            return {"type": "null"}
    return found


def _property(schema: Schema, name: str) -> Schema | None:
    """With the definitions that it may refer to."""
    part = schema.get("properties", {}).get(name)
    return {**part, "$defs": schema.get("$defs", {})} if isinstance(part, Mapping) else None


def _resolved(schema: Schema) -> Schema:
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    return {**schema.get("$defs", {}).get(reference.rpartition("/")[2], {}), "$defs": schema.get("$defs", {})}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a number")
