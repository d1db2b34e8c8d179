"""The hand-written statements of `sql/*.sql`, by name. Each has its contract on top, in the file."""

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_PART = re.compile(r"^-- part: (\w+)$", re.MULTILINE)


@cache
def _all() -> dict[str, str]:
    """Name to text, without comments and indentation, with the `/*+ part */` places filled in."""
    found: dict[str, str] = {}
    parts: dict[str, str] = {}
    for file in sorted(files(__package__).joinpath("sql").iterdir(), key=lambda f: f.name):
        text = file.read_text(encoding="utf-8")
        for marker, into in ((_NAME, found), (_PART, parts)):
            pieces = marker.split(text)[1:]
            for name, body in zip(pieces[::2], pieces[1::2], strict=True):
                into[name] = re.split(r"^-- (?:name|part): ", body, maxsplit=1, flags=re.MULTILINE)[0]
    return {name: _clean(_fill(body, parts)) for name, body in found.items()}


def _fill(body: str, parts: dict[str, str]) -> str:
    return re.sub(r"/\*\+ (\w+) \*/", lambda match: parts[match[1]].strip(), body)


def _clean(body: str) -> str:
    lines = (re.sub(r"--.*$", "", line).strip() for line in body.splitlines())
    return "\n".join(line for line in lines if line).rstrip(";").strip()


def sql(name: str) -> str:
    """The statement of that name, with `%(parameter)s` places for psycopg."""
    return _all()[name]


def names() -> list[str]:
    """Every statement."""
    return sorted(_all())
