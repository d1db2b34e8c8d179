"""ID tokens: whether a provider made one, for us, now, for this try to sign in. Values in, values out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

ALGORITHMS: Final = frozenset(f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)) | {
    "EdDSA",
    "Ed25519",
}
"""Those with a key that only the provider has. `none`, and those whose key everybody has who can check (HS256: the
secret, or what a forger takes for one, the public key), are not believed, whatever the provider says it supports."""
SKEW_S: Final = 60
"""How far the clocks of the provider and of this machine may be apart."""


class TokenRefused(Exception):
    """It is not what it should be; the text says what is wrong, and nothing of the token."""


class KeyUnknown(TokenRefused):
    """It may be signed by a key that the provider has published since."""


def keys_of(published: Any) -> KeySet:
    """The public keys of a set (JWKS) that sign.

    Raises:
        TokenRefused: there is none.
    """
    given = published.get("keys") if isinstance(published, dict) else None
    found = [one for one in given or () if isinstance(one, dict) and one.get("kty") != "oct" and _signs(one)]
    try:
        return KeySet.import_key_set({"keys": found})
    except (JoseError, ValueError, TypeError, KeyError) as exc:
        raise TokenRefused("the provider publishes no key that can be read") from exc


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token is to be. `offered`: the algorithms that the provider says it signs with, if it does."""

    issuer: str
    client_id: str
    nonce: str
    access_token: str | None
    offered: Any


def claims_of(token: str, keys: KeySet, expected: Expected, now: int) -> Mapping[str, Any]:
    """What a token says; `now` in seconds since 1970.

    Raises:
        KeyUnknown, TokenRefused: it is not to be believed.
    """
    allowed = [one for one in sorted(ALGORITHMS) if not isinstance(expected.offered, list) or one in expected.offered]
    if not allowed:  # the library would take that for its defaults
        raise TokenRefused("the provider signs in no way that is believed")
    registry = JWSRegistry(algorithms=allowed, strict_check_header=False)
    try:
        read = jwt.decode(token, keys, registry=registry)
    except (InvalidKeyIdError, BadSignatureError) as exc:
        raise KeyUnknown(f"its signature is not by a key of the provider ({exc.error})") from exc
    except (JoseError, ValueError, TypeError) as exc:
        raise TokenRefused(f"it cannot be read ({getattr(exc, 'error', type(exc).__name__)})") from exc
    options: dict[str, Any] = {
        "iss": {"essential": True, "value": expected.issuer},
        "aud": {"essential": True, "value": expected.client_id},
        "nonce": {"essential": True, "value": expected.nonce},
    }
    params = {name: getattr(expected, name) for name in ("nonce", "client_id", "access_token")}
    try:
        CodeIDToken(read.claims, read.header, options, params).validate(now=now, leeway=SKEW_S)
    except (JoseError, ValueError, TypeError) as exc:
        raise TokenRefused(_wrong(exc)) from exc
    if not read.claims["sub"]:
        raise TokenRefused("its `sub` is empty")
    return read.claims


def _wrong(exc: Exception) -> str:
    claim = getattr(exc, "claim_name", None) or getattr(exc, "claim", None)
    kind = getattr(exc, "error", type(exc).__name__)
    return f"its `{claim}` does not fit ({kind})" if claim else f"it does not fit ({kind})"


def _signs(key: Mapping[str, Any]) -> bool:
    operations: Sequence[str] = key.get("key_ops") or ["verify"]
    return key.get("use", "sig") == "sig" and "verify" in operations
