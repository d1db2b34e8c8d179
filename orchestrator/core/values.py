"""Values as JSON text: what the ledger stores, and back, exactly.

Refused, with the path of the value, before anything is written: NaN and the infinities, NUL in a string (PostgreSQL
cannot hold it), lone surrogates (UTF-8 cannot), whole numbers of so many digits that Python does not read them back,
and objects that JSON has no form for.
"""

import dataclasses
import json
import math
import re
import warnings
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Generic, NoReturn, TypeVar

import pydantic_core
from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import (
    PydanticSerializationError,
    PydanticSerializationUnexpectedValue,
    SchemaSerializer,
    SchemaValidator,
    core_schema,
)

from orchestrator.core.secrets import NAMES, Paths, hidden, in_schema, is_name, revealed
from orchestrator.core.wording import an
from orchestrator.errors import ValueRefused

T = TypeVar("T")
PathParts = tuple[str | int, ...]
_DIGITS: Final = 4300
"""Of a whole number that is read without a word: CPython's own limit."""
_TOO_LONG: Final = 10**_DIGITS
_SMALL: Final = 1 << 62


# ---- JSON values ----------------------------------------------------------------------------------------------


def dumps(value: object) -> str:
    """Compact JSON text of a JSON value (dict with text keys, list, tuple, str, int, float, bool, None).

    Raises:
        ValueRefused: naming the path of what JSON in the ledger cannot hold.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        suspect = "\\u0000" in text or not (text.isascii() or _is_utf8(text))
    except (TypeError, ValueError, RecursionError) as exc:
        _refuse(value, exc, plain=True)
    if suspect:
        _refuse_if_found(value, plain=True)
    return text


def loads(text: str | bytes) -> Any:
    """The JSON value in `text`.

    Raises:
        ValueRefused: it is not JSON, or holds NaN or an infinity.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise ValueRefused(f"The text is not JSON: {exc}. Fix: give one JSON value.", path="") from exc


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_SUSPECT: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])|[eE]\+?\d{3}|\d{300}")


def suspect(text: str) -> bool:
    """Whether JSON text may hold what the ledger cannot: NUL, a lone surrogate, a number beyond all bounds. Where this
    says no, nothing has to be looked at one by one; where it says yes, `refusal` finds out."""
    return _SUSPECT.search(text) is not None or not (text.isascii() or _is_utf8(text))


_NUMERALS: Final = "0123456789"


def _may_be_too_long(text: str) -> bool:
    """Whether there are so many digits in a row: such a row is at one of the places that are looked at."""
    return any(text[at] in _NUMERALS and _row(text, at) > _DIGITS for at in range(0, len(text), _DIGITS + 1))


def _row(text: str, at: int) -> int:
    """How many digits there are around a place, as far as it matters."""
    before, behind = text[max(at - _DIGITS, 0) : at], text[at : at + _DIGITS + 1]
    return len(before) - len(before.rstrip(_NUMERALS)) + len(behind) - len(behind.lstrip(_NUMERALS))


def show_path(parts: Iterable[str | int]) -> str:
    """`orders[3].note`; names that would be unclear are quoted."""
    shown = ""
    for part in parts:
        if isinstance(part, int):
            shown += f"[{part}]"
        elif part.isidentifier():
            shown += f".{part}" if shown else part
        else:
            shown += f"[{part!a}]"
    return shown


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text_problem(kind: str, text: str) -> str | None:
    if "\x00" in text:
        return f"a {kind} with a NUL character"
    return None if text.isascii() or _is_utf8(text) else f"a {kind} with a lone surrogate"


def _problem(value: object, *, plain: bool) -> str | None:
    """Why one value without parts is refused. `plain`: only what the json module writes is allowed."""
    if isinstance(value, str):
        return _text_problem("text", value)
    if isinstance(value, float):
        return None if math.isfinite(value) else f"the number {value}"
    if value is None or isinstance(value, int):
        return None if value is None or -_TOO_LONG < value < _TOO_LONG else f"a number of more than {_DIGITS:,} digits"
    try:
        if not plain:
            pydantic_core.to_json(value, bytes_mode="base64", inf_nan_mode="constants")
            return None
    except (PydanticSerializationError, ValueError):
        pass
    return f"an object of type {type(value).__name__}"


@dataclass(frozen=True, slots=True)
class Refused:
    """A value that JSON in the ledger cannot hold: where it stands, and what it is."""

    path: PathParts
    problem: str

    @property
    def place(self) -> str:
        return show_path(self.path)


def _first(value: object, plain: bool, around: set[int]) -> tuple[str, list[str | int]] | None:
    """What is wrong with the first part of `value` that is refused, and the way from there up to `value`. It may have
    half a million parts, so nothing is made for those that are fine."""
    if not (isinstance(value, dict | list | tuple) or (isinstance(value, set | frozenset) and not plain)):
        return None if (problem := _problem(value, plain=plain)) is None else (problem, [])
    if id(value) in around:
        return "a structure that holds itself", []
    around.add(id(value))
    for name in value if isinstance(value, dict) else ():
        if isinstance(name, str) and (problem := _text_problem("name", name)):
            return problem, [name]
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        kind = type(item)
        if kind is int and -_SMALL < item < _SMALL:
            continue
        if item is None or (kind is str and item.isascii() and "\0" not in item):
            continue
        if (found := _first(item, plain, around)) is not None:
            found[1].append(key if isinstance(key, str | int) else str(key))
            return found
    around.discard(id(value))
    return None


def refusal(value: object, *, plain: bool = False) -> Refused | None:
    """The first thing in `value` that is refused. `plain`: only what the json module writes is allowed."""
    try:
        found = _first(value, plain, set())
    except RecursionError:
        return Refused((), "a structure that is too deep")
    return None if found is None else Refused(tuple(reversed(found[1])), found[0])


def _refuse_if_found(value: object, *, plain: bool) -> None:
    found = refusal(value, plain=plain)
    if found is not None:
        message = f"{found.place or 'The value'} is {found.problem}, which cannot be stored. Fix: replace or remove it."
        raise ValueRefused(message, path=found.place, problem=found.problem)


def _refuse(value: object, cause: Exception, *, plain: bool) -> NoReturn:
    _refuse_if_found(value, plain=plain)
    raise ValueRefused(
        f"The value cannot be stored as JSON: {cause}. Fix: return JSON-like data or a pydantic model.",
        path="",
        problem=str(cause),
    ) from cause


# ---- typed values ---------------------------------------------------------------------------------------------

_CONFIG: Final[core_schema.CoreConfig] = {
    "ser_json_bytes": "base64",
    "val_json_bytes": "base64",
    "ser_json_inf_nan": "constants",  # written as NaN, so that it is noticed here; the default writes null
}
_OPAQUE: Final = frozenset({"metadata", "default", "expected", "members"})
_CONFIGURED: Final = frozenset({"model", "dataclass", "typed-dict"})
_CLASSES: Final = frozenset({"model", "dataclass"})
_LOST: Final = "a field that only a subclass of the declared class has, and would be lost"


def _rewritten(schema: Any, change: Callable[[dict[str, Any]], None]) -> Any:
    """A copy of a core schema in which `change` was applied to every part."""
    if isinstance(schema, dict):
        new = {key: value if key in _OPAQUE else _rewritten(value, change) for key, value in schema.items()}
        change(new)
        return new
    if isinstance(schema, list):
        return [_rewritten(item, change) for item in schema]
    return tuple(_rewritten(item, change) for item in schema) if type(schema) is tuple else schema


def _configure(part: dict[str, Any]) -> None:
    """Our JSON rules in every class, where its own settings win; and a list for `Iterable[…]`.

    A configuration given to TypeAdapter does not reach models and dataclasses, so bytes and NaN inside them would
    follow pydantic's defaults (UTF-8 only; null). Its form of Iterable is an iterator: a second loop over
    it would be empty.
    """
    if part.get("type") in _CONFIGURED:
        part["config"] = {**_CONFIG, **(part.get("config") or {})}
    elif part.get("type") == "generator":
        part["type"] = "list"
        part.setdefault("serialization", core_schema.wrap_serializer_function_ser_schema(_write_as_list))
    elif part.get("type") == "json-or-python":
        _reveal(part)


def _reveal(part: dict[str, Any]) -> None:
    """Write a secret as it is: the ledger has it, and steps need it. Everywhere else it is written as `***`."""
    writes = part.get("serialization", {}).get("function")
    if getattr(writes, "__module__", None) == "pydantic.types" and writes.__name__ == "_serialize_secret":
        raise TypeError("pydantic's `Secret[…]` does not say in its schema that it is one; write orchestrator.Secret")
    if writes is hidden or getattr(writes, "__name__", None) == "_serialize_secret_field":
        inner = part["json_schema"]["schema"]
        part["serialization"] = core_schema.plain_serializer_function_ser_schema(
            revealed, return_schema=inner, when_used="unless-none"
        )


def _write_as_list(value: Iterable[object], as_list: core_schema.SerializerFunctionWrapHandler) -> object:
    """A model that the user built holds the iterator, one that was read holds the list."""
    return as_list(value if isinstance(value, list) else list(value))


def _watch_subclasses(part: dict[str, Any]) -> None:
    """Make a serializer complain of an instance whose class has fields that the declared class does not have."""
    if part.get("type") not in _CLASSES or "serialization" in part:
        return
    declared = part["cls"]

    def write(value: object, as_declared: core_schema.SerializerFunctionWrapHandler) -> object:
        if _adds_fields(type(value), declared):
            raise PydanticSerializationUnexpectedValue(f"{type(value).__name__} has more fields")
        return as_declared(value)

    part["serialization"] = core_schema.wrap_serializer_function_ser_schema(write)


def _adds_fields(kind: type, declared: type) -> bool:
    return issubclass(kind, declared) and bool(_fields_of(kind) - _fields_of(declared))


def _fields_of(kind: type) -> frozenset[str]:
    if dataclasses.is_dataclass(kind):
        return frozenset(field.name for field in dataclasses.fields(kind))
    return frozenset(getattr(kind, "__pydantic_fields__", ()))


class Codec(Generic[T]):
    """One type's way to JSON text and back. Build once, use often.

    Fields go by their names, not their aliases; reading accepts both. Computed fields are not stored.
    """

    def __init__(self, kind: Any) -> None:
        """
        Raises:
            ValueRefused: pydantic knows no JSON form for the type.
        """
        self._classes: list[type] = []
        try:
            self._adapter: TypeAdapter[T] = TypeAdapter(kind)
            schema = _rewritten(self._adapter.core_schema, self._configure)
        except (PydanticUserError, NameError, TypeError) as exc:
            reason = str(exc).partition("\n")[0]
            raise ValueRefused(f"No JSON form for the type {kind!r}: {reason}", path="", problem=reason) from exc
        # the ready-made validator of each class has the class's own JSON rules; ours must be built anew
        self._validator = SchemaValidator(schema, _CONFIG, _use_prebuilt=False)
        self._serializer = SchemaSerializer(schema, _CONFIG, _use_prebuilt=False)

    @cached_property
    def secrets(self) -> Paths:
        """What is typed as a secret in its values."""
        return self.secrets_by()

    def secrets_by(self, names: Collection[str] = ()) -> Paths:
        """The same, and fields with these names."""
        return in_schema(self.json_schema, names)

    def _configure(self, part: dict[str, Any]) -> None:
        _configure(part)
        if part.get("type") in _CLASSES and "serialization" not in part:
            self._classes.append(part["cls"])

    def dumps(self, value: object) -> str:
        """Check a Python value and write it.

        Raises:
            pydantic.ValidationError: it does not fit the type.
            ValueRefused: JSON in the ledger cannot hold it.
        """
        return self.write(self._validator.validate_python(value, by_alias=True, by_name=True))

    def write(self, value: object) -> str:
        """Like `dumps`, for a value that was checked already."""
        try:
            text = self._to_json(value).decode()
        except (PydanticSerializationError, ValueError, RecursionError) as exc:
            _refuse(self._plain(value), exc, plain=False)
        if self._may_lose(value, text):
            self._refuse_subclasses(value)
        if "\\u0000" in text or "NaN" in text or "Infinity" in text:
            _refuse_if_found(json.loads(text), plain=True)
        if _may_be_too_long(text):
            _refuse_if_found(self._plain(value), plain=False)
        return text

    def _to_json(self, value: object, *, as_it_is: bool = False) -> bytes:
        return self._serializer.to_json(
            value, by_alias=False, round_trip=True, warnings="error", serialize_as_any=as_it_is
        )

    def _may_lose(self, value: object, text: str) -> bool:
        """Whether some object in it may have undeclared fields. Only an instance of a subclass can have any."""
        if not any(type.__subclasses__(one) for one in self._classes):
            return False
        try:
            return self._to_json(value, as_it_is=True).decode() != text
        except (PydanticSerializationError, ValueError, RecursionError):
            return True

    def _refuse_subclasses(self, value: object) -> None:
        """The declared class decides what is written, so what a subclass adds would be lost without a word."""
        try:
            self._watchful.to_python(value, by_alias=False, round_trip=True, warnings="error")
        except PydanticSerializationError as exc:
            wide = self._serializer.to_python(value, by_alias=False, round_trip=True, serialize_as_any=True)
            place = show_path(_first_extra(self._plain(value), wide))
            raise ValueRefused(
                f"{place or 'The value'} is {_LOST}. "
                "Fix: name the subclass in the annotation, such as `Base | Derived`, or give the declared class.",
                path=place,
                problem=_LOST,
            ) from exc

    @cached_property
    def _watchful(self) -> SchemaSerializer:
        schema = _rewritten(_rewritten(self._adapter.core_schema, _configure), _watch_subclasses)
        return SchemaSerializer(schema, _CONFIG, _use_prebuilt=False)

    def _plain(self, value: object) -> object:
        try:
            return self._serializer.to_python(value, by_alias=False, round_trip=True, warnings=False)
        except (PydanticSerializationError, ValueError, RecursionError):
            return value

    def loads(self, text: str | bytes) -> T:
        """Read what `dumps` wrote, or JSON from outside.

        Raises:
            pydantic.ValidationError: it is not JSON or does not fit the type.
        """
        found: T = self._validator.validate_json(text, by_alias=True, by_name=True)
        return found

    def to_json_value(self, value: object) -> JsonValue:
        """Like `dumps`, as a JSON value."""
        found: JsonValue = json.loads(self.dumps(value))
        return found

    @cached_property
    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of what `loads` takes; an empty schema when the type has none."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a default without a JSON form is simply not shown
                return self._adapter.json_schema(by_alias=False)
        except PydanticUserError:
            return {}


def _first_extra(narrow: object, wide: object, path: PathParts = ()) -> PathParts:
    """Where `wide` has the first name that `narrow` has not; both are one value without classes."""
    if isinstance(narrow, dict) and isinstance(wide, dict):
        extra = [key for key in wide if key not in narrow]
        parts = [(key, narrow[key], wide[key]) for key in wide.keys() & narrow.keys()]
        if extra:
            return (*path, str(extra[0]))
    elif isinstance(narrow, list | tuple) and isinstance(wide, list | tuple):
        parts = [(index, *pair) for index, pair in enumerate(zip(narrow, wide, strict=False))]
    else:
        return ()
    return next((found for key, one, other in parts if (found := _first_extra(one, other, (*path, key)))), ())


_THEIRS: Final = frozenset({"value_error", "assertion_error"})
"""Messages that a validator of the user's wrote."""


def explain(error: ValidationError, *, hide: object = False, names: Collection[str] = NAMES) -> tuple[str, str]:
    """The path of the first thing that does not fit, and a message that names all (at most ten). `hide`: no values, for
    there are secrets among them; never those of fields with these names."""
    details = error.errors(include_url=False, include_context=False)
    lines = []
    for detail in details[:10]:
        silent = hide or any(is_name(part, names) for part in detail["loc"])
        shown = _short(detail["input"]) if detail["type"] != "missing" and not silent else ""
        place = show_path(detail["loc"])
        said = "A validator refuses it" if silent and detail["type"] in _THEIRS else detail["msg"]
        lines.append((f"{place}: " if place else "") + said + (f", got {shown}" if shown else ""))
    more = f"; and {len(details) - 10} more" if len(details) > 10 else ""
    return show_path(details[0]["loc"]), "; ".join(lines) + more


def _short(value: object) -> str:
    if isinstance(value, dict | list | tuple | set):
        return f"{an(type(value).__name__)}"
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
