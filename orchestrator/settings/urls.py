"""URLs of servers and sites: read from settings, in the form that the libraries want, and shown without passwords."""

import re
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

MASK: Final = "***"

_DATABASE_SCHEMES: Final = frozenset({"postgres", "postgresql", "postgresql+psycopg"})
_BROKER_SCHEMES: Final = {
    "redis": "redis",
    "rediss": "rediss",
    "sentinel": "sentinel",
    "valkey": "redis",
    "valkeys": "rediss",
}
_SECRET_QUERY: Final = re.compile(r"((?:^|&)[^=&]*(?:pass|secret|token)[^=&]*=)[^&]*", re.IGNORECASE)


def mask_url(url: str) -> str:
    """`url` without its passwords, fit for a message. Text that is not a URL becomes `***` altogether."""
    return ";".join(_mask_one(part) for part in url.split(";"))


def _mask_one(url: str) -> str:
    if "://" not in url:
        return MASK
    scheme, _, rest = url.partition("://")
    head, question, query = rest.partition("?")
    # Up to the last @: a password that was not percent-encoded may hold an @ or a slash itself.
    user_info, at, place = head.rpartition("@")
    if at:
        user, colon, _ = user_info.partition(":")
        head = f"{user}{colon}{MASK if colon else ''}@{place}"
    query = _SECRET_QUERY.sub(rf"\g<1>{MASK}", query)
    return f"{scheme}://{head}{question}{query}"


def normalise_database_url(url: str) -> str:
    """The URL as SQLAlchemy wants it. Raises ValueError (without the password) when it is not a PostgreSQL URL."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator:
        raise ValueError("it is not a URL. Fix: write postgresql://user:password@host:5432/database")
    if scheme not in _DATABASE_SCHEMES:
        raise ValueError(f"`{scheme}` is not supported. Fix: write postgresql://user:password@host:5432/database")
    if rest.partition("/")[0].count("@") > 1:
        raise ValueError("there are two @ in it. Fix: write %40 for an @ in the user or the password")
    parts = _split(f"postgresql+psycopg://{rest}")
    if not parts.path.strip("/") and not {"dbname", "service"} & dict(parse_qsl(parts.query)).keys():
        raise ValueError("it names no database. Fix: add /database at the end of the host and port")
    return urlunsplit(parts) if parts.netloc else f"postgresql+psycopg://{rest}"


def normalise_broker_url(url: str) -> str:
    """The URL as kombu wants it: valkey:// is redis://, valkeys:// is rediss://, several Sentinels by `;`."""
    first, *others = [_broker_part(part.strip()) for part in url.strip().strip(";").split(";")]
    return ";".join([first, *(_like_first(first, other) for other in others)])


def _like_first(first: str, other: str) -> str:
    """`other` with what only the first Sentinel's URL says: kombu takes the servers' password and database number
    from the URL of whichever Sentinel it asks."""
    if not other.startswith("sentinel://"):
        return other
    model, parts = urlsplit(first), urlsplit(other)
    user_info, at, _ = model.netloc.rpartition("@")
    netloc = parts.netloc if "@" in parts.netloc else f"{user_info}{at}{parts.netloc}"
    return urlunsplit(
        parts._replace(
            netloc=netloc, path=model.path if parts.path in ("", "/") else parts.path, query=parts.query or model.query
        )
    )


def _broker_part(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError("it is not a URL. Fix: write redis://:password@host:6379/0")
    if scheme not in _BROKER_SCHEMES:
        known = ", ".join(sorted(_BROKER_SCHEMES))
        raise ValueError(f"`{scheme}` is not supported. Fix: use one of {known}, as in redis://:password@host:6379/0")
    _split(f"{_BROKER_SCHEMES[scheme]}://{rest}")
    return f"{_BROKER_SCHEMES[scheme]}://{rest}"


def _split(url: str) -> Any:
    parts = urlsplit(url)
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(
            "its port is not a number from 0 to 65535. Fix: percent-encode / ? # @ in a password"
        ) from None
    return parts


def site(value: str) -> str:
    """The address of a site, without a slash at its end."""
    parts = _split(value.strip().rstrip("/"))
    if parts.scheme not in {"http", "https"} or not parts.netloc or "@" in parts.netloc or parts.query:
        raise ValueError("it is not the address of a site. Fix: write https://flows.example.com")
    return str(urlunsplit(parts))
