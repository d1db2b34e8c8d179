"""Whether a changed JSON Schema still takes every value that the one before took. In doubt it does not."""

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Schema = Mapping[str, Any]
_NOTES: Final = frozenset({"title", "description", "default", "examples", "deprecated", "discriminator", "$defs"})
"""Words that refuse no value."""
_BOUNDS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), operator.ge),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), operator.le),
}
"""What the old bound is to the new one where the new one refuses nothing more."""
_READ: Final = frozenset(
    {"type", "enum", "const", "properties", "required", "additionalProperties", "items", "anyOf", "oneOf", "$ref"}
)
"""Words that are compared by what they mean; all others as they are written."""


def narrowed(old: Schema, new: Schema) -> str | None:
    """The first thing that `old` takes and `new` may refuse, in words that follow a name; None: there is none."""
    return next(_Change(old, new).narrower(old, new, ""), None)


@dataclass(frozen=True)
class _Change:
    """Both schemas as a whole: references are looked up in them."""

    old: Schema
    new: Schema

    def narrower(self, old: Any, new: Any, path: str, depth: int = 0) -> Iterator[str]:
        old, new = _resolved(old, self.old), _resolved(new, self.new)
        if new == {} or (_told(old) == _told(new) and not _has_references(old)) or depth > 20:
            return
        if choices := _choices(old):
            for choice in choices:
                yield from self.narrower(choice, new, path, depth + 1)
        elif choices := _choices(new):
            if not any(next(self.narrower(old, one, path, depth + 1), None) is None for one in choices):
                yield f"{_at(path)}takes other values than before"
        else:
            yield from self._parts(old, new, path, depth)

    def _parts(self, old: Schema, new: Schema, path: str, depth: int) -> Iterator[str]:
        yield from _types(old, new, path)
        yield from _bounds(old, new, path)
        yield from self._object(old, new, path, depth)
        if "items" in new:
            yield from self.narrower(old.get("items", {}), new["items"], f"{path}[]", depth + 1)

    def _object(self, old: Schema, new: Schema, path: str, depth: int) -> Iterator[str]:
        before, now = old.get("properties", {}), new.get("properties", {})
        for name in new.get("required", ()):
            if name not in old.get("required", ()):
                yield f"{_at(_join(path, name))}{'is required now' if name in before else 'is new and required'}"
        for name, part in before.items():
            if name in now:
                yield from self.narrower(part, now[name], _join(path, name), depth + 1)
            elif new.get("additionalProperties") is False:
                yield f"{_at(_join(path, name))}is not taken any more"
        others = new.get("additionalProperties", {})
        if others is False and old.get("additionalProperties", {}) is not False and _may_be(old, "object"):
            yield f"{_at(path)}takes no further names any more"
        elif isinstance(others, Mapping) and isinstance(old.get("additionalProperties", {}), Mapping):
            yield from self.narrower(old.get("additionalProperties", {}), others, _join(path, "*"), depth + 1)


def _types(old: Schema, new: Schema, path: str) -> Iterator[str]:
    before, now = _kinds(old), _kinds(new)
    if now and not before:
        yield f"{_at(path)}takes only {_or(now)} now"
    elif now and not before <= now | ({"integer"} if "number" in now else set()):
        yield f"{_at(path)}takes {_or(now)} now, and took {_or(before)}"
    values = _values(new)
    if values is not None and (taken := _values(old)) is None:
        yield f"{_at(path)}takes only certain values now"
    elif values is not None and (gone := [one for one in taken or () if one not in values]):
        yield f"{_at(path)}does not take {gone[0]!r} any more"


def _bounds(old: Schema, new: Schema, path: str) -> Iterator[str]:
    for word, looser in _BOUNDS.items():
        if word in new and not (word in old and looser(old[word], new[word])):
            yield f"{_at(path)}has `{word}` {new[word]} now"
    for word in new:
        if word not in _READ | _NOTES | _BOUNDS.keys() and old.get(word) != new[word]:
            yield f"{_at(path)}has another `{word}` now"


def _resolved(part: Any, schema: Schema) -> Schema:
    seen = 0
    while isinstance(part, Mapping) and isinstance(part.get("$ref"), str) and seen < 20:
        part, seen = schema.get("$defs", {}).get(part["$ref"].rpartition("/")[2], {}), seen + 1
    if part is False:
        return {"enum": []}
    return part if isinstance(part, Mapping) else {}


def _told(part: Schema) -> dict[str, Any]:
    return {word: value for word, value in part.items() if word not in _NOTES}


def _has_references(part: Any) -> bool:
    """What it refers to may have changed while it did not."""
    if isinstance(part, Mapping):
        return "$ref" in part or any(_has_references(value) for key, value in part.items() if key not in _NOTES)
    return isinstance(part, list) and any(map(_has_references, part))


def _choices(part: Schema) -> list[Any]:
    return [*part.get("anyOf", ()), *part.get("oneOf", ())]


def _kinds(part: Schema) -> set[str]:
    kind = part.get("type", ())
    return {kind} if isinstance(kind, str) else set(kind)


def _may_be(part: Schema, kind: str) -> bool:
    return not _kinds(part) or kind in _kinds(part)


def _values(part: Schema) -> list[Any] | None:
    if "const" in part:
        return [part["const"]]
    return list(part["enum"]) if "enum" in part else None


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _at(path: str) -> str:
    return f"`{path}` " if path else ""


def _or(kinds: set[str]) -> str:
    return " or ".join(sorted(kinds))
