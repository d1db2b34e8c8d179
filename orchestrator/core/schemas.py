"""JSON values checked against JSON Schema (draft 2020-12): one validator, one wording, wherever an input is checked."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jsonschema_rs import Draft202012Validator, ValidationError
from pydantic import JsonValue

from orchestrator.core.secrets import MASK, NAMES, in_schema
from orchestrator.errors import ManifestInvalid


@dataclass(frozen=True, slots=True)
class Misfit:
    """What does not fit: where in the value, and why. A missing or unknown name has the path of its object."""

    path: tuple[str | int, ...]
    message: str
    missing: str | None = None
    unknown: tuple[str, ...] = ()


def misfits(schema: str, value: Any) -> Iterator[Misfit]:
    """Everything that does not fit, in no particular order. `schema` is JSON text, the key of the cached validator.

    Raises:
        ManifestInvalid: this is not a schema, or it refers to what is not in it: nothing is fetched.
    """
    return map(_misfit, _validator(schema).iter_errors(value))


def misfit(schema: str, value: Any) -> Misfit | None:
    """The misfit that lies highest in the value; None: it fits.

    Raises: as `misfits`.
    """
    return min(misfits(schema, value), key=lambda found: (len(found.path), found.message), default=None)


_EXAMPLES: Mapping[str, JsonValue] = {
    "object": {},
    "array": [],
    "string": "…",
    "integer": 0,
    "number": 0,
    "boolean": True,
}


def example(schema: Mapping[str, JsonValue]) -> JsonValue:
    """What it asks for at least, to be filled in; null where that cannot be told without reading on."""
    for name in ("default", "const"):
        if name in schema:
            return schema[name]
    options = schema.get("enum")
    if isinstance(options, list) and options:
        return options[0]
    properties, required = schema.get("properties"), schema.get("required")
    if isinstance(properties, dict) and isinstance(required, list):
        parts = ((str(name), properties.get(str(name))) for name in required)
        return {name: example(part) if isinstance(part, dict) else None for name, part in parts}
    return _EXAMPLES.get(str(schema.get("type")))


def _misfit(error: ValidationError) -> Misfit:
    facts = error.kind.as_dict()
    missing = facts["property"] if error.kind.name == "required" else None
    unknown = tuple(facts["unexpected"]) if error.kind.name == "additionalProperties" else ()
    return Misfit(tuple(error.instance_path), error.message, missing, unknown)


@lru_cache(maxsize=256)
def _validator(schema: str) -> Draft202012Validator:
    try:
        read = json.loads(schema)
        return Draft202012Validator(read, retriever=_refuse, mask=MASK if _has_secrets(read) else None)
    except (ValidationError, ValueError) as exc:
        reason = str(exc).partition("\n")[0]
        raise ManifestInvalid(
            f"The `input_schema` of the flow is not a JSON Schema: {reason}. "
            "Fix: correct it, and register the flow again."
        ) from exc


def _has_secrets(schema: object) -> bool:
    """Whether messages about its values must not quote them."""
    return isinstance(schema, dict) and bool(in_schema(schema, NAMES))


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} would have to be fetched")
