"""What browsers do by themselves: they send cookies, from whatever page, and say where that page is from."""

import re
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request, Response

from orchestrator.core.loopback import is_loopback
from orchestrator.engine.access.sessions import OpenedSession
from orchestrator.http.problems import Refused
from orchestrator.observe.logs import log

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN: Final = frozenset({"same-origin", "none"})
_SESSION: Final = "orchestrator-session"
_SIGN_IN: Final = "orchestrator-sign-in"
_SECURE: Final = "__Host-"
"""Browsers take a cookie whose name begins so over HTTPS only, from this host only, for all of it: no other host can
plant one."""
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")


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
    return request.cookies.get(_name(request, _SESSION))


def agent_of(request: Request) -> str | None:
    """What it calls itself."""
    return (request.headers.get("user-agent") or "")[:200] or None


def check_private(request: Request) -> None:
    """
    Raises:
        Refused: a cookie would go over the network in plain.
    """
    if not _is_secure(request) and not is_loopback(urlsplit(origin_of(request)).hostname):
        fix = "reach it over HTTPS; behind a proxy that ends TLS, set ORCHESTRATOR_PUBLIC_URL=https://…"
        raise Refused(400, "A session needs HTTPS.", "https_needed", fix)


def give_cookie(request: Request, response: Response, session: OpenedSession) -> None:
    """That of the session. See `check_private`, before. In plain it has no prefix, which is logged: whatever else is
    served on this machine, on any port, is sent it too."""
    if not _is_secure(request):
        log.warning("api.cookie_plain", extra={"session": session.id, "origin": origin_of(request)})
    lifetime: timedelta = request.app.state.settings.session_lifetime
    _set(request, response, _SESSION, session.token, lifetime)


def take_cookie(request: Request, response: Response) -> None:
    """Make the browser forget it."""
    _set(request, response, _SESSION, "", timedelta(0))


def secret_of(request: Request) -> str | None:
    """What only this browser knows while it signs in somewhere else."""
    found = request.cookies.get(_name(request, _SIGN_IN), "")
    return found if _SECRET.fullmatch(found) else None


def give_secret(request: Request, response: Response, secret: str, lifetime: timedelta) -> None:
    """See `secret_of`. The same for all its tabs, or the last one would stop the others."""
    _set(request, response, _SIGN_IN, secret, lifetime)


def _set(request: Request, response: Response, cookie: str, value: str, lifetime: timedelta) -> None:
    secure, age = _is_secure(request), int(lifetime.total_seconds())
    name = _name(request, cookie)
    response.set_cookie(name, value, max_age=age, path="/", secure=secure, httponly=True, samesite="lax")


def _name(request: Request, cookie: str) -> str:
    return f"{_SECURE}{cookie}" if _is_secure(request) else cookie


def _is_secure(request: Request) -> bool:
    return origin_of(request).startswith("https://")
