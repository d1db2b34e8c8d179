"""One thing that is wrong with a manifest: its place and, where there is one, what to write instead."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to change. `place` reads like `steps.fetch.inputs.url`."""

    place: str
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}" + (f" ({self.suggestion.removesuffix('.')})" if self.suggestion else "")
        return text.encode(errors="backslashreplace").decode()  # a lone surrogate could not be printed


def key_problems(place: str, key: str) -> Iterator[Problem]:
    """What is wrong with the name of a step or a trigger."""
    if not KEY.fullmatch(key):
        fixed = re.sub(r"[^A-Za-z0-9_-]+", "_", key)[:100]
        hint = f"did you mean `{fixed}`?" if fixed.strip("_") else None
        yield Problem(place, "a key has 1 to 100 letters, digits, `_` or `-`", hint)


def written(parts: Iterable[str | int]) -> str:
    """The path of a place, as it stands behind what holds it."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
