"""Secrets by reference: `env:NAME` and `file:/path`. Read where they are used, never stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_LIMIT: Final = 64 * 1024


@dataclass(frozen=True)
class References:
    """Reads what references name, anew each time."""

    env: Mapping[str, str] = field(repr=False)

    def __call__(self, reference: str) -> str:
        """
        Raises:
            LookupError: there is nothing; the text names the reference, and nothing of the secret.
        """
        kind, _, name = reference.partition(":")
        if kind == "env":
            if not self.env.get(name):
                raise LookupError(f"the environment variable {name} is not set")
            return self.env[name]
        try:
            with Path(name).open(encoding="utf-8") as file:
                text = file.read(_LIMIT)
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
            raise LookupError(f"the file {name} of the secret cannot be read: {why}") from exc
        if not text.strip():
            raise LookupError(f"the file {name} of the secret is empty")
        return text.rstrip("\r\n")
