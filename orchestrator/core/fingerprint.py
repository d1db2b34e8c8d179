"""Errors that are alike have one fingerprint, whatever ids, numbers and names their messages quote."""

import hashlib
import re
from typing import Final

from pydantic import JsonValue

PREFIX: Final = "err-"
_FORM: Final = re.compile(r"err-[0-9a-f]{12}", re.ASCII)
_QUOTED: Final = re.compile(r"'[^'\n]{0,500}'|\"[^\"\n]{0,500}\"|`[^`\n]{0,500}`")
_WITH_DIGITS: Final = re.compile(r"[\w-]*\d[\w-]*")
_SPACE: Final = re.compile(r"\s+")
_READ: Final = 2000
"""Characters of a message that are looked at."""


def fingerprint(type_: str, message: str, frame: str | None) -> str:
    """Of an error: its type, its message without what is quoted and without words that have digits, and where in the
    user's code it was raised."""
    said = _WITH_DIGITS.sub("#", _QUOTED.sub("…", message[:_READ]))
    text = "\n".join((type_, _SPACE.sub(" ", said).strip(), frame or ""))
    return PREFIX + hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]


def is_fingerprint(text: str) -> bool:
    """Whether a text has the form of one."""
    return _FORM.fullmatch(text) is not None


def told_apart(error: JsonValue) -> tuple[JsonValue, str | None]:
    """A run's error as it is kept, and its fingerprint, which has a column of its own."""
    if not isinstance(error, dict):
        return error, None
    kept = {name: value for name, value in error.items() if name != "fingerprint"}
    found = error.get("fingerprint") or fingerprint(str(kept["type"]), str(kept["message"]), None)
    return kept, str(found)
