"""JSON values checked against JSON Schema (draft 2020-12): one validator, one wording, wherever an input is checked."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, Final

from jsonschema_rs import Draft202012Validator, ValidationError
from pydantic import JsonValue

from orchestrator.core.secrets import MASK, NAMES, NOTHING, Paths, in_schema, is_name, masked, within
from orchestrator.errors import ManifestInvalid

_MOST: Final = 1000
"""So many misfits of a value are looked at: it may have half a million."""
_LONGEST: Final = 1000
"""Characters of a message that quotes what does not fit."""
_NAMES_ONLY: Final = frozenset({"required", "additionalProperties"})
"""What quotes names, and no values."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """What does not fit: where in the value, and why. A missing or unknown name has the path of its object."""

    path: tuple[str | int, ...]
    message: str
    missing: str | None = None
    unknown: tuple[str, ...] = ()


def misfits(schema: str, value: Any, names: frozenset[str] = NAMES) -> Iterator[Misfit]:
    """What does not fit, of a very long list the first, in no particular order. `schema` is JSON text, the key of the
    cached validator. Fields of these names are not quoted, and neither are long values.

    Raises:
        ManifestInvalid: this is not a schema, or it refers to what is not in it: nothing is fetched.
    """
    rules = _rules(schema, names)
    found = list(islice(rules.validator.iter_errors(value), _MOST))
    if not found:
        return iter(())
    both = zip(found, islice(rules.masking.iter_errors(value), _MOST), strict=True)
    return (_misfit(hidden if rules.hides(value, error) else error) for error, hidden in both)


def misfit(schema: str, value: Any, names: frozenset[str] = NAMES) -> Misfit | None:
    """The misfit that lies highest in the value; None: it fits.

    Raises: as `misfits`.
    """
    return min(misfits(schema, value, names), key=lambda found: (len(found.path), found.message), default=None)


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


@dataclass(frozen=True)
class _Rules:
    schema: Any
    names: frozenset[str]
    validator: Draft202012Validator

    @cached_property
    def masking(self) -> Draft202012Validator:
        """Says the same without quoting a value."""
        return Draft202012Validator(self.schema, retriever=_refuse, mask=MASK)

    @cached_property
    def _secrets(self) -> Paths:
        return in_schema(self.schema, self.names) if isinstance(self.schema, dict) else NOTHING

    def hides(self, value: Any, error: ValidationError) -> bool:
        """Whether what the error quotes is long, is a secret, or has one somewhere: by the schema, or by a name, of
        which the schema need not know."""
        path = error.instance_path
        if error.kind.name in _NAMES_ONLY:
            return False
        if len(error.message) > _LONGEST:
            return True
        if within(self._secrets, *path) or any(is_name(part, self.names) for part in path):
            return True
        for part in path:
            value = value[part]
        return bool(masked(value, NOTHING, self.names) != value)


@lru_cache(maxsize=256)
def _rules(schema: str, names: frozenset[str]) -> _Rules:
    try:
        read = json.loads(schema)
        return _Rules(read, names, Draft202012Validator(read, retriever=_refuse))
    except (ValidationError, ValueError) as exc:
        reason = str(exc).partition("\n")[0]
        raise ManifestInvalid(
            f"The `input_schema` of the flow is not a JSON Schema: {reason}. "
            "Fix: correct it, and register the flow again."
        ) from exc


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} would have to be fetched")
