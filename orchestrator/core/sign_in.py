"""Signing in at a provider of identities (OpenID Connect): one try of one browser, and whom the provider names."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

BROWSER_BYTES = 32
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. `browser` is a secret that only the browser has, in a cookie; `state` goes to the provider and comes
    back. The others are made of both, so that the ledger keeps nothing that somebody could use who reads it."""

    browser: str = field(repr=False)
    state: str

    @property
    def nonce(self) -> str:
        """What the provider puts into the token: it was made for this try."""
        return self._made("nonce")

    @property
    def verifier(self) -> str:
        """What whoever redeems the code must know (PKCE)."""
        return self._made("verifier")

    @property
    def digest(self) -> bytes:
        """What the ledger knows it by."""
        return hmac.digest(self.browser.encode(), b"kept:" + self.state.encode(), hashlib.sha256)

    def _made(self, of: str) -> str:
        made = hmac.digest(self.browser.encode(), f"{of}:{self.state}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(made).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody as a provider describes them. `issuer` and `subject` say who it is, for good; a name or an address may
    be given to somebody else tomorrow."""

    issuer: str
    subject: str
    name: str
    groups: Sequence[str] = ()


def is_own_path(text: str) -> bool:
    """Whether a browser that is sent there stays on the site: a path that begins with one slash. Browsers read `\\` as
    `/` and drop tabs and line ends, so there are none of these."""
    if not text.startswith("/") or len(text) > _LONGEST or not all("!" <= character <= "~" for character in text):
        return False
    if "\\" in text or text.startswith("//"):
        return False
    parts = urlsplit(text)
    return not parts.scheme and not parts.netloc
