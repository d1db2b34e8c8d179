"""What a type holds: which attribute or item of a step's result leads where, before any value exists."""

import dataclasses
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Final, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, RootModel
from typing_extensions import is_typeddict
from typing_inspection import typing_objects
from typing_inspection.introspection import AnnotationSource, inspect_annotation, is_union_origin

from orchestrator.authoring.modules import as_written
from orchestrator.core.suggest import did_you_mean
from orchestrator.core.wording import an

PathParts = tuple[str | int, ...]
_LISTS: Final = (list, deque, set, frozenset)
_OPEN_LISTS: Final = frozenset({Sequence, Collection, Iterable})
_STREAMS: Final = (Iterator, Generator, AsyncIterable, AsyncIterator, AsyncGenerator)


class Member(NamedTuple):
    """Where a part stands in the JSON form, and its type."""

    path: PathParts
    kind: Any


class NoMember(Exception):
    """The type has no such part. `fix` says what to write."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.fix = fix


def attribute(kind: Any, name: str) -> Member:
    """`value.name` for a value of this type.

    Raises:
        NoMember: it has no such field.
    """
    return _in_union(kind, lambda one: _attribute(one, name), Member((name,), Any))


def item(kind: Any, key: str | int) -> Member:
    """`value[key]` for a value of this type.

    Raises:
        NoMember: it has no such item.
    """
    return _in_union(kind, lambda one: _item(one, key), Member((key,), Any))


def element(kind: Any) -> Any:
    """The type of the items of a list type; Any when it is not known.

    Raises:
        NoMember: it is not a list.
    """
    return _in_union(kind, _element, Member((), Any)).kind


def show(kind: Any) -> str:
    """The type as a person writes it."""
    if kind is None or kind is type(None):
        return "None"
    text = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")
    return as_written(text)


def _in_union(kind: Any, look: Any, unknown: Member) -> Member:
    members = options(kind)
    if any(member is Any or member is object or isinstance(member, TypeVar) for member in members):
        return unknown
    misses: list[NoMember] = []
    for option in members:
        try:
            found: Member = look(option)
        except NoMember as miss:
            misses.append(miss)
        else:
            return found
    raise misses[0] if misses else NoMember("None has no parts", "return something from the step")


def options(kind: Any, *, none: bool = False) -> list[Any]:
    """The members of a union, without None unless asked for; wrappers (Annotated, NewType, aliases) are taken off."""
    kind = _bare(kind)
    if is_union_origin(get_origin(kind)):
        return [option for member in get_args(kind) for option in options(member, none=none)]
    return [] if (kind is None or kind is type(None)) and not none else [kind]


def _bare(kind: Any) -> Any:
    """Without Annotated and the like, and what an alias or a NewType stands for."""
    kind = inspect_annotation(kind, annotation_source=AnnotationSource.ANY).type
    if typing_objects.is_newtype(kind):
        return _bare(kind.__supertype__)
    return _bare(kind.__value__) if typing_objects.is_typealiastype(kind) else kind


def stream_in(kind: Any, around: frozenset[str] = frozenset()) -> Any:
    """The first part of a type that can be read only once, such as an Iterator; None if there is none."""
    kind = _bare(kind)
    owner = get_origin(kind) or kind
    if any(owner is one for one in _STREAMS):
        return kind
    if repr(kind) in around:  # a class that holds itself
        return None
    parts = [*get_args(kind), *(member.kind for member in (_fields(kind) or {}).values())]
    inner = around | {repr(kind)}
    return next((found for part in parts if (found := stream_in(part, inner)) is not None), None)


def _attribute(kind: Any, name: str) -> Member:
    fields = _fields(kind)
    if fields is None:
        raise NoMember(f"{an(show(kind))} has no fields", "pass it to a step and do it there")
    if name in fields:
        return fields[name]
    owner = get_origin(kind) or kind
    if issubclass(owner, BaseModel) and owner.model_config.get("extra") == "allow":
        return Member((name,), Any)
    if hasattr(owner, name):
        fix = "only stored fields can be passed on; pass the whole value to a step and use it there"
        raise NoMember(f"`{name}` of {show(kind)} is computed", fix)
    raise NoMember(f"{show(kind)} has no field `{name}`", did_you_mean(name, fields) or "pass the whole value")


def _fields(kind: Any) -> dict[str, Member] | None:
    owner = get_origin(kind) or kind
    if not isinstance(owner, type):
        return None
    if issubclass(owner, BaseModel):
        root = issubclass(owner, RootModel)
        return {n: Member(() if root else (n,), f.annotation) for n, f in owner.model_fields.items()}
    if issubclass(owner, tuple) and hasattr(owner, "_fields"):
        hints = _hints(owner, kind)
        return {name: Member((index,), hints.get(name, Any)) for index, name in enumerate(owner._fields)}
    if dataclasses.is_dataclass(owner):
        hints = _hints(owner, kind)
        return {field.name: Member((field.name,), hints.get(field.name, Any)) for field in dataclasses.fields(owner)}
    if is_typeddict(owner):
        return {name: Member((name,), hint) for name, hint in _hints(owner, kind).items()}
    return None


def _hints(owner: type, kind: Any) -> dict[str, Any]:
    try:
        hints = get_type_hints(owner, include_extras=True)
    except NameError:  # a name that only the type checker sees; nothing is known about the fields' types then
        return dict.fromkeys(owner.__annotations__, Any)
    bound = dict(zip(getattr(owner, "__parameters__", ()), get_args(kind), strict=False))
    return {name: bound.get(hint, hint) if isinstance(hint, TypeVar) else hint for name, hint in hints.items()}


def _item(kind: Any, key: str | int) -> Member:
    owner = get_origin(kind) or kind
    if isinstance(owner, type) and issubclass(owner, Mapping) and not is_typeddict(owner):
        args = get_args(kind)
        return Member((key,), args[1] if len(args) == 2 else Any)
    if is_typeddict(owner):
        return _attribute(kind, str(key))
    if isinstance(owner, type) and issubclass(owner, tuple):
        return _tuple_item(kind, key)
    if isinstance(owner, type) and issubclass(owner, set | frozenset):
        raise NoMember(f"{an(show(kind))} has no order", "return a list")
    if (fields := _fields(kind)) is not None:
        fix = f"write `.{key}`" if key in fields else did_you_mean(str(key), fields)
        raise NoMember(f"{show(kind)} has fields, not items", fix)
    if not isinstance(key, int):
        raise NoMember(f"{an(show(kind))} has no item {key!r}", "pass it to a step and do it there")
    return Member((key,), _element(kind).kind)


def _tuple_item(kind: Any, key: str | int) -> Member:
    args = get_args(kind)
    if not isinstance(key, int):
        raise NoMember(f"a tuple has no item {key!r}", "use a whole number")
    if not args:
        return Member((key,), Any)
    if len(args) == 2 and args[1] is Ellipsis:
        return Member((key,), args[0])
    if not -len(args) <= key < len(args):
        raise NoMember(f"{show(kind)} has {len(args)} items, not an item {key}", f"use 0 to {len(args) - 1}")
    return Member((key,), args[key])


def _element(kind: Any) -> Member:
    owner, args = get_origin(kind) or kind, get_args(kind)
    if isinstance(owner, type):
        if issubclass(owner, RootModel):
            return _element(owner.model_fields["root"].annotation)
        if issubclass(owner, tuple):
            same = len(set(map(repr, args))) == 1 or (len(args) == 2 and args[1] is Ellipsis)
            return Member((), args[0] if same else Any)
        if issubclass(owner, _LISTS) or owner in _OPEN_LISTS:
            return Member((), args[0] if args else Any)
    raise NoMember(f"{an(show(kind))} is not a list", "give a list")
