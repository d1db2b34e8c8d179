"""New secrets, and names that fit."""

import secrets
from dataclasses import dataclass, field

from orchestrator.core.access import ID_BYTES, SECRET_BYTES, Credential, is_name, is_user_name, mint, read
from orchestrator.errors import UsageError


@dataclass(frozen=True, slots=True)
class Fresh:
    """A new key or token: its text is shown once, the ledger keeps the rest."""

    text: str = field(repr=False)
    kept: Credential


def fresh(kind: str) -> Fresh:
    """A key (`access.KEY`) or the token of a session (`access.SESSION`)."""
    text = mint(kind, secrets.token_bytes(ID_BYTES), secrets.token_bytes(SECRET_BYTES))
    kept = read(kind, text)
    assert kept is not None
    return Fresh(text, kept)


def checked_name(name: str, of: str) -> str:
    """
    Raises:
        UsageError: nothing may be called so.
    """
    if not is_name(name):
        raise UsageError(
            f"{name[:120]!r} cannot be the name of a {of}. Fix: write 1 to 100 letters, digits, spaces or `_.@:/+-`, a "
            "letter or digit first."
        )
    return name


def checked_user_name(name: str) -> str:
    """
    Raises:
        UsageError: no user may be called so.
    """
    if not is_user_name(checked_name(name, "user")):
        raise UsageError(
            f"{name!r} cannot be the name of a user: it means something else in the record or in `to` of an approval. "
            "Fix: take another one."
        )
    return name
