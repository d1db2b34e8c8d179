"""What must not be shown: values that are typed `Secret[…]`, and fields with telling names.

Values stand in the ledger as they are, since steps need them. Whatever shows, logs or writes down anything else asks
here: where secrets are is a property of types and names (`Paths`), and one function masks (`masked`), another one takes
what was masked out of texts (`scrubbed`).
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, JsonValue
from pydantic_core import CoreSchema, core_schema

T_co = TypeVar("T_co", covariant=True)

MASK: Final = "***"
"""Stands for a secret, whatever it is."""
ANY: Final = "*"
"""In a path: every item of a list, every value of an object."""

NAMES: Final = frozenset(
    {"password", "passwd", "passphrase", "secret", "client_secret", "token", "access_token", "refresh_token"}
    | {"id_token", "bearer", "authorization", "api_key", "apikey", "private_key", "credentials"}
)
"""Fields that are secret by their names, compared without case, `-` as `_`."""


class Secret(Generic[T_co]):
    """A value that is not shown: `reveal()` gives it, every text of it is `***`. Its steps get it as it is; events,
    logs, errors and commands do not have it."""

    __slots__ = ("_value",)

    def __init__(self, value: T_co, /) -> None:
        self._value = value

    def reveal(self) -> T_co:
        """The value."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret('{MASK}')"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str, /) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        (inner,) = getattr(source, "__args__", (Any,))
        schema = handler.generate_schema(inner)
        made = core_schema.no_info_after_validator_function(cls, schema)
        return core_schema.json_or_python_schema(
            json_schema=made,
            python_schema=core_schema.no_info_wrap_validator_function(_taken, made),
            serialization=core_schema.plain_serializer_function_ser_schema(hidden, when_used="unless-none"),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        # Not `handler.resolve_ref_schema`: the mark is of this use of a class, not of the class.
        inner = handler(schema["json_schema"]["schema"])
        return {"allOf": [inner], "writeOnly": True} if "$ref" in inner else {**inner, "writeOnly": True}


def _taken(value: Any, handler: core_schema.ValidatorFunctionWrapHandler) -> Any:
    """A secret whose value fits, or a value that becomes one."""
    return handler(value.reveal() if isinstance(value, Secret) else value)


def hidden(value: object) -> str:
    """How a secret is written, except into the ledger."""
    return MASK


def revealed(value: Any) -> Any:
    """How it is written into the ledger: ours, or one of pydantic's."""
    return value.reveal() if isinstance(value, Secret) else value.get_secret_value()


# ---- where secrets are ----

Path = tuple[str | int, ...]
Paths = frozenset[Path]
"""Places in a JSON value; the empty one is the whole."""
NOTHING: Final[Paths] = frozenset()
WHOLE: Final[Paths] = frozenset({()})
_AGAIN: Final = "\0again"
"""Ends a path in a schema that refers to itself."""


def normal_name(name: str) -> str:
    """The name of a field, as it is compared."""
    return name.lower().replace("-", "_")


def names_with(more: Iterable[str]) -> frozenset[str]:
    """Those that are secret in every flow, and these."""
    return NAMES | {normal_name(one) for one in more}


def is_name(part: object, names: Collection[str]) -> bool:
    """Whether a field of this name is a secret."""
    return isinstance(part, str) and normal_name(part) in names


def within(paths: Paths, *path: str | int) -> Paths:
    """What is secret of the value that stands there."""
    for part in path:
        if () in paths:
            return WHOLE
        paths = frozenset(one[1:] for one in paths if one[0] == part or one[0] == ANY or part == ANY)
    return paths


def below(part: str | int, paths: Paths) -> Paths:
    """The same places in a structure that has the value at `part`."""
    return frozenset((part, *one) for one in paths)


def covers(paths: Paths, other: Paths) -> bool:
    """Whether all of `other` is secret here, too."""
    return all(within(paths, *one) == WHOLE for one in other)


def in_schema(schema: Mapping[str, Any], names: Collection[str] = ()) -> Paths:
    """What is secret of the values of a JSON Schema: `writeOnly`, as our types and pydantic's are written, and fields
    with these names."""
    found = frozenset(_in_schema(schema, schema, frozenset(names), ()))
    if all(path[-1:] == (_AGAIN,) for path in found):
        return NOTHING
    return frozenset(path[:-1] if path[-1:] == (_AGAIN,) else path for path in found)


def _in_schema(part: Any, root: Mapping[str, Any], names: frozenset[str], refs: tuple[str, ...]) -> Iterator[Path]:
    if not isinstance(part, Mapping):
        return
    if part.get("writeOnly") is True or part.get("format") == "password":
        yield ()
        return
    if isinstance(reference := part.get("$ref"), str):
        if reference in refs:
            yield (_AGAIN,)
        else:
            yield from _in_schema(_referred(root, reference), root, names, (*refs, reference))
    for word in ("anyOf", "oneOf", "allOf"):
        for choice in part.get(word) or ():
            yield from _in_schema(choice, root, names, refs)
    for name, one in _items(part.get("properties")):
        inner: Iterable[Path] = ((),) if is_name(name, names) else _in_schema(one, root, names, refs)
        yield from ((name, *path) for path in inner)
    for index, one in enumerate(part.get("prefixItems") or ()):
        yield from ((index, *path) for path in _in_schema(one, root, names, refs))
    patterns = (one for _, one in _items(part.get("patternProperties")))
    for one in (part.get("items"), part.get("additionalProperties"), *patterns):
        yield from ((ANY, *path) for path in _in_schema(one, root, names, refs))


def _items(value: object) -> Iterable[tuple[str, Any]]:
    return value.items() if isinstance(value, Mapping) else ()


def _referred(root: Mapping[str, Any], reference: str) -> Any:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(part) if isinstance(found, Mapping) and part else found
    return found


# ---- masking ----


def masked(value: JsonValue, paths: Paths, names: Collection[str] = ()) -> JsonValue:
    """The value with `***` for every secret in it: what stands at these paths, and fields with these names. Null stays
    null, for it says that there is none."""
    if not paths and not names:
        return value
    if () in paths:
        return None if value is None else MASK
    if isinstance(value, dict):
        return {
            key: masked(one, WHOLE if is_name(key, names) else within(paths, key), names) for key, one in value.items()
        }
    if isinstance(value, list):
        return [masked(one, within(paths, index), names) for index, one in enumerate(value)]
    return value


def masked_text(text: str, paths: Paths) -> str:
    """The same for JSON text."""
    return json.dumps(masked(json.loads(text), paths), ensure_ascii=False) if paths else text


def leaves(value: JsonValue, paths: Paths) -> set[str]:
    """The texts of the secrets in a value."""
    if () in paths:
        return set(_texts(value))
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {text for key, one in parts if (inner := within(paths, key)) for text in leaves(one, inner)}


def _texts(value: JsonValue) -> Iterator[str]:
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


_SHORT: Final = 4
"""Characters below which a secret is looked for as a word of its own: else it would be found everywhere."""
_PART: Final = 8
"""Characters of the beginning or the end of a secret that give it away: messages shorten what they quote."""


def scrubbed(text: str, secrets: Iterable[str]) -> str:
    """A text of somebody else's, such as an exception's, without these secrets, also where they are quoted, or
    shortened."""
    forms = {form for secret in secrets if secret for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):
        if len(form) < _SHORT:
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", MASK, text)
            continue
        text = text.replace(form, MASK)
        if len(form) >= 2 * _PART:
            text = _without_begin(text, form)
            text = _without_begin(text[::-1], form[::-1])[::-1]
    return text


def _forms(secret: str) -> set[str]:
    """As it is, and as Python and JSON quote it."""
    return {secret, repr(secret)[1:-1], ascii(secret)[1:-1], json.dumps(secret)[1:-1], secret.replace("'", "\\'")}


def _without_begin(text: str, form: str) -> str:
    """Without places where a long part of the form's beginning stands."""
    at = 0
    while (at := text.find(form[:_PART], at)) >= 0:
        end = _PART
        while end < len(form) and text[at + end : at + end + 1] == form[end]:
            end += 1
        text = f"{text[:at]}{MASK}{text[at + end :]}"
        at += len(MASK)
    return text
