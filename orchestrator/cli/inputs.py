"""A run's input from the command line: `--input` and `-i key=value`."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from orchestrator.cli.options import settings
from orchestrator.cli.render import note
from orchestrator.core.headers import is_secret
from orchestrator.core.secrets import in_schema, is_name, names_with, within
from orchestrator.core.taint import secret_names
from orchestrator.errors import InputInvalid, UsageError

if TYPE_CHECKING:
    from orchestrator.core.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Taken:
    """What is given takes this schema. Fields of these names are not quoted."""

    schema: Mapping[str, Any]
    names: frozenset[str]

    @classmethod
    def by(cls, manifest: "Manifest") -> "Taken":
        """As the input of a flow."""
        return cls(manifest.input_schema, secret_names(manifest, names_with(settings().secret_names)))

    def hides(self, name: str) -> bool:
        """Whether a part of it is a secret, or has one."""
        return is_name(name, self.names) or bool(within(in_schema(self.schema, self.names), name))


_BEGINS: Final = ("[", "{", '"')
"""What was meant to be JSON, and not text that somebody left unquoted."""


def read(source: str | None, pairs: Sequence[str], taken: Taken) -> dict[str, Any]:
    """The input object: `source` (`@file`, `-` for stdin, or JSON), then the pairs over it.

    Raises:
        UsageError: a file cannot be read, a pair has no `=` or no key, or a key is given twice.
        InputInvalid: it is not a JSON object, or the value of a pair was to be JSON and is not.
    """
    given = {} if source is None else _object(*_text(source, "--input"))
    values: dict[str, Any] = {}
    for pair in pairs:
        key, value = _pair(pair, taken)
        if key in values:
            raise UsageError(f"-i {key} is given twice. Fix: give it once; a list is written -i '{key}=[…]'.")
        values[key] = value
    return {**given, **values}


def value(source: str, option: str) -> Any:
    """A JSON value of any kind: `source` as for `read`, given with this option.

    Raises:
        UsageError: a file cannot be read.
        InputInvalid: it is not JSON.
    """
    return _json(*_text(source, option), option)


def headers(pairs: Sequence[str]) -> list[tuple[str, str]] | None:
    """Headers given as `NAME=VALUE`. It is said of which ones a run keeps nothing.

    Raises:
        UsageError: one has no `=`, or no name.
    """
    found = []
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:  # the text may be a secret
            raise UsageError(f"--header has no {'name' if equals else '`=`'}. Fix: write --header name=value.")
        if is_secret(name):
            note(f"The header {name} is never kept: its name says that it proves who sent the request.")
        found.append((name, text))
    return found or None


def _text(source: str, option: str) -> tuple[str, str]:
    """The text, and what to call it in an error."""
    if source == "-":
        return sys.stdin.read(), "stdin"
    if not source.startswith("@"):
        return source, option
    try:
        return Path(source[1:]).read_text(encoding="utf-8"), source[1:]
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise UsageError(f"{option} {source} cannot be read: {reason}. Fix: check the path.") from exc


def _json(text: str, name: str, option: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except ValueError as exc:
        where = f" at line {exc.lineno}, column {exc.colno}" if isinstance(exc, json.JSONDecodeError) else ""
        reason = exc.msg if isinstance(exc, json.JSONDecodeError) else str(exc)
        fix = f"write {option} @FILE to read a file." if name == option else "correct it."
        raise InputInvalid(f"{name} is not JSON{where}: {reason}. Fix: {fix}", path="") from exc


def _object(text: str, name: str) -> dict[str, Any]:
    value = _json(text, name, "--input")
    if not isinstance(value, dict):
        raise InputInvalid(
            f'{name} holds a JSON {_kind(value)}, and an input is an object. Fix: write {{"parameter": value}}.',
            path="",
        )
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _kind(value: object) -> str:
    names = {list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _pair(pair: str, taken: Taken) -> tuple[str, Any]:
    key, equals, text = pair.partition("=")
    if not equals or not key:
        missing = "key" if equals else "`=`"
        raise UsageError(f"-i {pair!r} has no {missing}. Fix: write -i key=value.")
    kinds = types_of(taken.schema.get("properties", {}).get(key, {}), taken.schema)
    if kinds and kinds <= {"string", "null"} and not (text == "null" and "null" in kinds):
        return key, text
    try:
        value = json.loads(text, parse_constant=_no_number)
    except ValueError as exc:
        if kinds and "string" not in kinds and text[:1] in _BEGINS:
            reason = exc.msg if isinstance(exc, json.JSONDecodeError) else str(exc)
            raise InputInvalid(
                f"-i {key} is not JSON: {reason}{'' if taken.hides(key) else f', in {text!r}'}. "
                f"Fix: correct it; in a shell, quote it: -i '{key}=…'.",
                path=key,
            ) from exc
        return key, text
    return key, text if "string" in kinds and not _fits(value, kinds) else value


def _fits(value: object, kinds: set[str]) -> bool:
    """Whether a JSON value is of one of these types of JSON Schema."""
    match value:
        case None:
            return "null" in kinds
        case bool():
            return "boolean" in kinds
        case int():
            return bool({"integer", "number"} & kinds)
        case float():
            return "number" in kinds
        case str():
            return True
    return ("array" if isinstance(value, list) else "object") in kinds


def types_of(part: Any, schema: Mapping[str, Any]) -> set[str]:
    """The JSON types that a part of a JSON Schema allows; empty: it does not say."""
    if not isinstance(part, Mapping):
        return set()
    if isinstance(reference := part.get("$ref"), str):
        return types_of(schema.get("$defs", {}).get(reference.rpartition("/")[2], {}), schema)
    for word in ("anyOf", "oneOf"):
        if word in part:
            choices = [types_of(choice, schema) for choice in part[word]]
            return set().union(*choices) if all(choices) else set()
    kind = part.get("type")
    return set(kind) if isinstance(kind, list) else {kind} if isinstance(kind, str) else set()
