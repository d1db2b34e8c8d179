"""What browsers do by themselves: they send cookies, from whatever page, and say where that page is from."""

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request, Response

from orchestrator.engine.access.sessions import OpenedSession
from orchestrator.http.problems import Refused

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN: Final = frozenset({"same-origin", "none"})
_COOKIE: Final = "orchestrator-session"
_SECURE: Final = f"__Host-{_COOKIE}"
"""Browsers take it over HTTPS only, from this host only, for all of it: no other host can plant one."""


def is_loopback(host: str | None) -> bool:
    """Whether a host's name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ip_address((host or "").strip("[]")).is_loopback
    except ValueError:
        return False


def origin_of(request: Request) -> str:
    """Where this API is, as a browser sees it: scheme, host and port."""
    public: str | None = request.app.state.settings.public_url
    url = public or str(request.base_url)
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def refuse_strangers(request: Request, *, silent: bool) -> None:
    """What changes something may come from our own pages only. `silent`: whether one that does not say where it comes
    from may be let through, because no browser sent it.

    Raises:
        Refused: another site's page sent it.
    """
    if request.method in SAFE:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        own = site in _OWN
    elif origin is not None:
        own = origin.lower() == origin_of(request)
    else:
        own = silent
    if not own:
        fix = "send it from a page of the API's own, or with a key: `Authorization: Bearer KEY`."
        raise Refused(403, "A page of another site sent this.", "cross_site", fix)


def token_of(request: Request) -> str | None:
    """That of the session, from its cookie."""
    return request.cookies.get(_SECURE) or (None if _is_secure(request) else request.cookies.get(_COOKIE))


def give_cookie(request: Request, response: Response, session: OpenedSession) -> None:
    """
    Raises:
        Refused: it would go over the network in plain.
    """
    if not _is_secure(request) and not is_loopback(urlsplit(origin_of(request)).hostname):
        fix = "reach it over HTTPS; behind a proxy that ends TLS, set ORCHESTRATOR_PUBLIC_URL=https://…"
        raise Refused(400, "A session needs HTTPS.", "https_needed", fix)
    _set(request, response, session.token, int(request.app.state.settings.session_lifetime.total_seconds()))


def take_cookie(request: Request, response: Response) -> None:
    """Make the browser forget it."""
    _set(request, response, "", 0)


def _set(request: Request, response: Response, token: str, max_age_s: int) -> None:
    secure = _is_secure(request)
    name = _SECURE if secure else _COOKIE
    response.set_cookie(name, token, max_age=max_age_s, path="/", secure=secure, httponly=True, samesite="lax")


def _is_secure(request: Request) -> bool:
    return origin_of(request).startswith("https://")
