"""Whom a provider's claims mean."""

from collections.abc import Mapping
from typing import Any, Final

from orchestrator.core.sign_in import Identity
from orchestrator.http.problems import Refused
from orchestrator.settings import Settings

_LONGEST: Final = 255
_MOST: Final = 1000


def identity_of(claims: Mapping[str, Any], settings: Settings) -> Identity:
    """
    Raises:
        Refused: they have no name, or groups that cannot be read.
    """
    subject, name = claims["sub"], claims.get(settings.oidc_name_claim)
    if len(subject) > _LONGEST:
        raise _unreadable("sub", "it is too long")
    if not isinstance(name, str):
        raise _unreadable(settings.oidc_name_claim, "it is missing, or no text", "NAME")
    if settings.oidc_name_claim == "email" and claims.get("email_verified") is not True:
        # Whoever may write any address into their profile would pass for its owner.
        raise _unreadable("email", "the provider has not verified it", "NAME")
    groups = _groups(claims, settings.oidc_groups_claim)
    if name in settings.group_roles:  # an approval that asks that group would take their answer
        raise _unreadable(settings.oidc_name_claim, "a group is called so", "NAME")
    return Identity(str(settings.oidc_issuer), subject, name, groups)


def lacks(claims: Mapping[str, Any], settings: Settings) -> bool:
    """Whether what we need of them is to be asked for elsewhere."""
    return any(_at(claims, one) is None for one in (settings.oidc_name_claim, settings.oidc_groups_claim))


def _groups(claims: Mapping[str, Any], claim: str) -> tuple[str, ...]:
    """A list, or one alone; none, where there is no such claim."""
    found = _at(claims, claim)
    given = [found] if isinstance(found, str) else [] if found is None else found
    if not isinstance(given, list) or len(given) > _MOST:
        raise _unreadable(claim, f"it is no list of at most {_MOST:,} names", "GROUPS")
    if not all(isinstance(one, str) and 0 < len(one) <= _LONGEST and "\0" not in one for one in given):
        raise _unreadable(claim, "something in it is no name of a group", "GROUPS")
    return tuple(dict.fromkeys(given))


def _at(claims: Mapping[str, Any], claim: str) -> Any:
    """The claim of that name; else, where `a.b` is given, that of `b` in `a`."""
    if claim in claims:
        return claims[claim]
    found: Any = claims
    for part in claim.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _unreadable(claim: str, why: str, setting: str = "") -> Refused:
    fix = f"correct it at the provider, or set ORCHESTRATOR_OIDC_{setting}_CLAIM to another one." if setting else ""
    return Refused(403, f"Nobody was signed in: the claim `{claim}` does not do: {why}.", "claim_unfit", fix)
