"""The hand-written statements of `sql/*.sql`, by name. Each has its contract on top, in the file.

A part is text that several statements share. `/*+ part key=value; key=value */` stands for it, with its `{key}` places
filled in; a value may hold another part. What stands in `[[ ]]` is left out where only essential events are kept.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_PART = re.compile(r"^-- part: (\w+)$", re.MULTILINE)
_PLACE = re.compile(r"/\*\+ (\w+)((?:(?!/\*\+|\*/).)*)\*/", re.DOTALL)
"""The innermost: one without another inside."""
_DERIVABLE = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)


@cache
def _all(essential: bool) -> dict[str, str]:
    """Name to text, without comments and indentation, with the `/*+ part */` places filled in."""
    found: dict[str, str] = {}
    parts: dict[str, str] = {}
    for file in sorted(files(__package__).joinpath("sql").iterdir(), key=lambda f: f.name):
        text = file.read_text(encoding="utf-8")
        for marker, into in ((_NAME, found), (_PART, parts)):
            pieces = marker.split(text)[1:]
            for name, body in zip(pieces[::2], pieces[1::2], strict=True):
                into[name] = re.split(r"^-- (?:name|part): ", body, maxsplit=1, flags=re.MULTILINE)[0]
    return {name: _clean(_kept(_fill(body, parts), essential)) for name, body in found.items()}


def _kept(body: str, essential: bool) -> str:
    return _DERIVABLE.sub("" if essential else r"\1", body)


def _fill(body: str, parts: dict[str, str]) -> str:
    while match := _PLACE.search(body):
        body = body[: match.start()] + _part(parts[match[1]], dict(_given(match[2]))) + body[match.end() :]
    return body


def _part(text: str, given: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda place: given[place[1]], _clean(text))


def _given(text: str) -> Iterator[tuple[str, str]]:
    for pair in text.split(";") if text.strip() else ():
        key, _, value = pair.partition("=")
        yield key.strip(), value.strip()


def _clean(body: str) -> str:
    lines = (re.sub(r"--.*$", "", line).strip() for line in body.splitlines())
    return "\n".join(line for line in lines if line).rstrip(";").strip()


def sql(name: str, *, essential: bool = False) -> str:
    """The statement of that name, with `%(parameter)s` places for psycopg. `essential`: without events that can be
    derived."""
    return _all(essential)[name]


def names() -> list[str]:
    """Every statement."""
    return sorted(_all(False))
