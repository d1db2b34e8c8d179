"""The secrets that subscriptions sign with. None of them is in the ledger: those that are made here are made of the
signing key whenever they are needed, the others are where their references say."""

import hashlib
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from orchestrator.core.subscriptions import SIGNING_KEY_MIN, is_made, made_secret, whsec
from orchestrator.errors import UsageError
from orchestrator.ledger.notifications import Claimed
from orchestrator.ledger.subscriptions import Secret

_PREFIX: Final = "whsec_"
_SHORTEST: Final = 24
"""Bytes of a secret, as Standard Webhooks has it."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """`read` gives what a reference names, or raises LookupError; `signing_key` is the one of the settings."""

    read: Callable[[str], str] = field(repr=False)
    signing_key: str | None = field(default=None, repr=False)

    def made(self, subscription_id: UUID, reference: str) -> Secret:
        """
        Raises:
            UsageError: there is no signing key.
        """
        try:
            secret = self._made(subscription_id, reference)
        except LookupError as exc:
            raise UsageError(
                f"A secret cannot be made: {exc.args[0]}. Fix: set ORCHESTRATOR_SIGNING_KEY to "
                f"{SIGNING_KEY_MIN} random characters or more, the same for every process; or give the secret by "
                "reference."
            ) from exc
        return Secret(reference, _fingerprint(secret), whsec(secret))

    def given(self, reference: str) -> bytes:
        """
        Raises:
            LookupError: there is none, or it is no `whsec_…`; nothing of it is quoted.
        """
        text = self.read(reference)
        try:
            secret = b64decode(text.removeprefix(_PREFIX), validate=True) if text.startswith(_PREFIX) else b""
        except ValueError:
            secret = b""
        if len(secret) < _SHORTEST:
            raise LookupError(
                f"{reference} is no secret of Standard Webhooks: {_PREFIX} and base64 of 24 bytes or more"
            )
        return secret

    def of(self, claimed: Claimed) -> list[bytes]:
        """What signs a notification: the secret of its subscription, and during a rotation the one before.

        Raises:
            LookupError: one is not to be had; the text has nothing of it.
        """
        if claimed.secret is None:
            return []
        secrets = [self._secret(claimed.subscription_id, claimed.secret, claimed.fingerprint)]
        if claimed.overlaps and claimed.previous_secret is not None:
            secrets.append(self._secret(claimed.subscription_id, claimed.previous_secret, claimed.previous_fingerprint))
        return secrets

    def _secret(self, subscription_id: UUID, reference: str, fingerprint: str | None) -> bytes:
        if not is_made(reference):
            return self.given(reference)
        secret = self._made(subscription_id, reference)
        if _fingerprint(secret) != fingerprint:
            raise LookupError("ORCHESTRATOR_SIGNING_KEY is not the one that the secret was made of; rotate the secret")
        return secret

    def _made(self, subscription_id: UUID, reference: str) -> bytes:
        if self.signing_key is None:
            raise LookupError("ORCHESTRATOR_SIGNING_KEY is not set")
        return made_secret(self.signing_key, str(subscription_id), reference)


def _fingerprint(secret: bytes) -> str:
    return hashlib.sha256(b"fingerprint" + secret).hexdigest()[:16]
