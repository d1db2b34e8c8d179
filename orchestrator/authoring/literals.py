"""Arguments of a step call as JSON: placeholders become references, everything else is stored through its type."""

import dataclasses
from typing import Any, Final

from pydantic import BaseModel, JsonValue, ValidationError

from orchestrator.authoring import kinds
from orchestrator.authoring.conditions import Condition, label_of
from orchestrator.authoring.placeholder import Placeholder, node_of, refuse
from orchestrator.core.expressions import escape, render
from orchestrator.core.secrets import leaves
from orchestrator.core.values import Codec, explain
from orchestrator.core.wording import an
from orchestrator.errors import ValueRefused

_SECRET: Final = "take it as an input of the flow, or let the step read it from its environment"


def encode(value: object, kind: Any, owner: object, what: str) -> JsonValue:
    """`value` for a parameter of type `kind`; `what` names it in errors.

    Raises:
        AuthoringError: it does not fit the type, cannot be stored, or hides a placeholder where none is found.
    """
    if isinstance(value, Placeholder):
        return _reference(value, owner, what)
    if isinstance(value, Condition):
        refuse(f"{what} is {label_of(value)}", "pass the values themselves, and compare them in the step")
    if not holds_placeholder(value):
        return _literal(value, kind, what)
    if isinstance(value, dict):
        return {str(k): encode(v, _inner(kind, k), owner, f"{what}[{k!r}]") for k, v in value.items()}
    if not isinstance(value, list | tuple):
        refuse(
            f"{what} is {an(type(value).__name__)} that holds a placeholder",
            f"pass the parts to a step that builds the {type(value).__name__}, or write a dict or list instead",
        )
    return [encode(v, _inner(kind, i), owner, f"{what}[{i}]") for i, v in enumerate(value)]


def _reference(value: Placeholder, owner: object, what: str) -> str:
    node = node_of(value)
    if node.owner is not owner:
        refuse(f"{what} is {node.label} of another flow", "call the step in this flow and pass its result")
    return render(node.ref)


def _literal(value: object, kind: Any, what: str) -> JsonValue:
    codec: Codec[Any] = Codec(kind)
    try:
        found = codec.to_json_value(value)
    except ValidationError as exc:
        text = explain(exc, hide=codec.secrets)[1]
        refuse(f"{what} does not fit {kinds.show(kind)}: {text}", "give a value of that type")
    except ValueRefused as exc:
        refuse(f"{what}: {exc.message.partition(' Fix: ')[0].rstrip('.')}", "give a value that JSON can hold")
    if leaves(found, codec.secrets):
        refuse(f"{what} is a secret that is written into the flow, for everybody to read", _SECRET)
    return escape(found)


def _inner(kind: Any, key: object) -> Any:
    """The type of a part of a structure; Any when it is not known."""
    try:
        if isinstance(key, int):
            return kinds.item(kind, key).kind
        return kinds.attribute(kind, str(key)).kind
    except kinds.NoMember:
        pass
    try:
        return kinds.item(kind, str(key)).kind
    except kinds.NoMember:
        return Any


def holds_placeholder(value: object) -> bool:
    """Whether a placeholder is somewhere inside, also in models and dataclasses."""
    if isinstance(value, Placeholder | Condition):
        return True
    if isinstance(value, dict):
        return any(holds_placeholder(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(holds_placeholder(item) for item in value)
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return any(holds_placeholder(item) for item in getattr(value, "__dict__", {}).values())
    return False
