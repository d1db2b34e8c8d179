"""Search attributes: values of a run's input that a flow declares, and by which its runs are found."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from orchestrator.core.problem import Problem
from orchestrator.core.runfilter import Field, Op, RunFilter, Term
from orchestrator.core.secrets import in_schema, is_name, within
from orchestrator.core.suggest import did_you_mean
from orchestrator.core.taint import secret_names
from orchestrator.errors import QueryInvalid

if TYPE_CHECKING:
    from orchestrator.core.manifest import Manifest

LONGEST: Final = 1000
"""Characters of a text that is kept as an attribute; a longer one is not."""
_NUMBER: Final = re.compile(r"-?\d{1,40}(?:\.\d{1,40})?", re.ASCII)
_REFERENCES: Final = 20
"""So many schemas that only refer to each other are followed."""

Scalar = str | int | float | bool


class Kind(StrEnum):
    """What an attribute is."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"


_KINDS: Final = {"string": Kind.TEXT, "integer": Kind.NUMBER, "number": Kind.NUMBER, "boolean": Kind.BOOLEAN}

# ---- what a flow declares --------------------------------------------------------------------------------------


def problems(manifest: "Manifest") -> Iterator[Problem]:
    """Attributes that the input has not, that are no single values, or that are secret."""
    names = secret_names(manifest)
    secret = in_schema(manifest.input_schema, names)
    for place, name in enumerate(manifest.search):
        where = f"search[{place}]"
        found = list(_schemas(manifest.input_schema, name))
        if not found:
            known = manifest.input_schema.get("properties")
            hint = did_you_mean(name, known if isinstance(known, dict) else ()) or "name a parameter of the flow"
            yield Problem(where, f"the flow has no input `{name}`", hint)
        elif not kinds([name], manifest.input_schema)[name]:
            hint = "name a text, a number or a bool, such as `order.id`"
            yield Problem(where, f"input `{name}` is not one value that can be searched for", hint)
        elif within(secret, *name.split(".")) or is_secret(name, names):
            yield Problem(where, f"input `{name}` is a secret, and attributes are shown", "leave it out")


def is_secret(name: str, names: Collection[str]) -> bool:
    """Whether a field of these names is on the path."""
    return any(is_name(part, names) for part in name.split("."))


def kinds(names: Iterable[str], schema: Mapping[str, Any]) -> dict[str, frozenset[Kind]]:
    """What each attribute may be, by the schema of the input. Null is not kept, and not counted."""
    return {name: _kinds(_schemas(schema, name)) for name in names}


def _kinds(schemas: Iterable[Mapping[str, Any]]) -> frozenset[Kind]:
    """None, if it may be a list or an object, too."""
    found: set[Kind] = set()
    for schema in schemas:
        given = schema.get("type")
        for type_ in given if isinstance(given, list) else [given]:
            if type_ == "null":
                continue
            if type_ not in _KINDS:
                return frozenset()
            found.add(_KINDS[type_])
    return frozenset(found)


def _schemas(root: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """Every schema that the value at that path may have."""
    found = list(_options(root, root))
    for part in name.split("."):
        properties = [one.get("properties") for one in found]
        inner = [one[part] for one in properties if isinstance(one, dict) and isinstance(one.get(part), dict)]
        found = [option for one in inner for option in _options(one, root)]
    yield from found


def _options(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Its alternatives, references resolved."""
    if depth > _REFERENCES:
        return
    reference = schema.get("$ref")
    if isinstance(reference, str):
        definition = root.get("$defs", {}).get(reference.removeprefix("#/$defs/"))
        branches = [definition] if isinstance(definition, dict) else []
    else:
        branches = [one for key in ("anyOf", "oneOf", "allOf") for one in schema.get(key, ()) if isinstance(one, dict)]
    if not branches:
        yield schema
    for one in branches:
        yield from _options(one, root, depth + 1)


# ---- what a run has --------------------------------------------------------------------------------------------


def values(names: Iterable[str], body: Any) -> dict[str, Scalar]:
    """The attributes of a run with this input. What is missing, null or too long is left out."""
    found = {name: at(body, name) for name in names}
    return {name: value for name, value in found.items() if _is_kept(value)}


def at(body: Any, name: str) -> Any:
    """The value at a dotted path; None where there is none."""
    for part in name.split("."):
        body = body.get(part) if isinstance(body, dict) else None
    return body


def _is_kept(value: object) -> bool:
    return isinstance(value, Scalar) and not (isinstance(value, str) and len(value) > LONGEST)


# ---- what a query asks for -------------------------------------------------------------------------------------


def asked(wanted: RunFilter) -> bool:
    """Whether it has terms of attributes."""
    return any(term.field is Field.INPUT for term in wanted.terms)


def typed(wanted: RunFilter, declared: Mapping[str, frozenset[Kind]]) -> RunFilter:
    """The values of attributes as what flows declare them: text, `Decimal`, bool; as each of these, if flows differ.

    Raises:
        QueryInvalid: an attribute is not declared, or a value is none of what it may be.
    """
    return RunFilter(tuple(_typed(term, declared) if term.field is Field.INPUT else term for term in wanted.terms))


def _typed(term: Term, declared: Mapping[str, frozenset[Kind]]) -> Term:
    allowed = declared.get(term.name)
    if not allowed:
        hint = did_you_mean(term.name, declared) or "declare it: `@flow(search=[…])`; runs that start then have it."
        raise _invalid(term, f"no flow that is meant declares the search attribute `{term.name}`", hint)
    found = [one for value in term.values for one in _read(term, str(value), allowed)]
    return replace(term, values=tuple(found))


def _read(term: Term, text: str, allowed: frozenset[Kind]) -> Iterator[str | Decimal | bool]:
    fits = False
    if Kind.TEXT in allowed:
        fits = True
        yield text
    if Kind.NUMBER in allowed and _NUMBER.fullmatch(text):
        fits = True
        yield Decimal(text)
    if Kind.BOOLEAN in allowed and text in ("true", "false") and term.op is Op.IS:
        fits = True
        yield text == "true"
    if not fits:
        what = " or ".join(sorted(allowed))
        fix = "write `true` or `false` behind `=`" if allowed == {Kind.BOOLEAN} else f"give a {what}"
        raise _invalid(term, f"`input.{term.name}` is a {what}, and `{text}` is not", f"{fix}.")


def _invalid(term: Term, problem: str, fix: str) -> QueryInvalid:
    message = f"The query does not read at character {term.position + 1}: {problem}. Fix: {fix}"
    return QueryInvalid(message, position=term.position, problem=problem, fix=fix)


def readings(text: str, found: Collection[Kind]) -> list[Scalar]:
    """What a text may mean as the value of an attribute that may be any of these."""
    values: list[Scalar] = [text] if Kind.TEXT in found else []
    if Kind.NUMBER in found and _NUMBER.fullmatch(text):
        number = Decimal(text)
        values.append(int(number) if number == number.to_integral_value() else float(number))
    if Kind.BOOLEAN in found and text in ("true", "false"):
        values.append(text == "true")
    return values
