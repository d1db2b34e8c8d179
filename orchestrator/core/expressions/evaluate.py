"""From a structure with references to plain JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from orchestrator.core.expressions.parser import Ref, parse


@dataclass(frozen=True, slots=True)
class Scope:
    """What references may see. A step that is not in `outputs` (skipped, failed) gives null."""

    trigger: JsonValue = None
    outputs: Mapping[str, JsonValue] = field(default_factory=dict)
    item: JsonValue = None
    index: int | None = None


def resolve(value: JsonValue, scope: Scope) -> JsonValue:
    """`value` with every reference replaced; "@@x" becomes "@x".

    Parts of the scope are shared, not copied: treat the answer as read-only.

    Raises:
        ExpressionInvalid: only for text that no valid manifest holds.
    """
    if isinstance(value, str):
        if not value.startswith("@"):
            return value
        return value[1:] if value.startswith("@@") else _look_up(parse(value), scope)
    if isinstance(value, dict):
        return {key: resolve(item, scope) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, scope) for item in value]
    return value


def escape(value: JsonValue) -> JsonValue:
    """A literal that `resolve` gives back unchanged."""
    if isinstance(value, str):
        return "@" + value if value.startswith("@") else value
    if isinstance(value, dict):
        return {key: escape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escape(item) for item in value]
    return value


def _look_up(ref: Ref, scope: Scope) -> JsonValue:
    found = _start(ref, scope)
    for part in ref.path:
        if isinstance(found, dict):
            found = found.get(part if isinstance(part, str) else str(part))
        elif isinstance(found, list) and isinstance(part, int) and -len(found) <= part < len(found):
            found = found[part]
        else:
            return None
    return found


def _start(ref: Ref, scope: Scope) -> JsonValue:
    if ref.root == "trigger":
        return scope.trigger
    if ref.root == "step":
        return scope.outputs.get(ref.key or "")
    return scope.item if ref.root == "item" else scope.index
