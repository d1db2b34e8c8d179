"""Passwords: how they are kept, and how they are checked."""

from functools import cache
from typing import TYPE_CHECKING, Final

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from pwdlib import PasswordHash

SHORTEST: Final = 12
LONGEST: Final = 1024
"""Characters; what is longer would only cost us time."""


def hashed(password: str) -> str:
    """Argon2id, with a salt of its own; takes some tens of milliseconds.

    Raises:
        UsageError: it is too short or too long, or the extra is not installed.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise UsageError(
            f"The password has {len(password)} characters. Fix: give {SHORTEST} to {LONGEST:,}; a few words are easy "
            "to remember."
        )
    return _hasher().hash(password)


def verify(password: str, kept: str | None) -> bool:
    """Whether it is the password. For a user who does not exist, or has none, it takes as long and is never."""
    nobody = _nobody()  # whoever is asked about first, it is made then
    matches = _hasher().verify(password[:LONGEST], kept or nobody)
    return matches and kept is not None


@cache
def _nobody() -> str:
    return _hasher().hash("a password that nobody has")


@cache
def _hasher() -> "PasswordHash":
    try:
        from pwdlib import PasswordHash
    except ImportError:
        raise UsageError("Passwords need the extra `api`. Fix: pip install 'flow-orchestrator[api]'.") from None
    return PasswordHash.recommended()
