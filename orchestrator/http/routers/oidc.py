"""Signing in at a provider of identities: the way there, and the way back."""

import secrets
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from orchestrator.core.access import Actor, is_user_name
from orchestrator.core.sign_in import BROWSER_BYTES, Attempt, Identity, is_own_path
from orchestrator.engine.access import sign_ins
from orchestrator.engine.access.sessions import OpenedSession
from orchestrator.errors import OrchestratorError, Unauthenticated, Unavailable
from orchestrator.http import browsers
from orchestrator.http.caller import TheClient, address_of
from orchestrator.http.oidc.claims import identity_of
from orchestrator.http.oidc.provider import Provider, refused, word
from orchestrator.http.problems import Refused
from orchestrator.http.proxies import role_of
from orchestrator.http.routes import PROBLEMS
from orchestrator.http.routes import router as make

router = make("users")
# What else is in the query is the provider's own: it may add to it as it likes.
back = APIRouter(tags=["users"], responses=PROBLEMS, generate_unique_id_function=lambda route: route.name)

_AFTER: Final = "/api/whoami"
_GONE: Final = {303: {"description": "Go there", "headers": {"Location": {"schema": {"type": "string"}}}}}
Given = Annotated[str | None, Query(max_length=8192)]


@router.get("/session/oidc", status_code=303, response_class=RedirectResponse)
async def session_oidc_start(
    request: Request,
    client: TheClient,
    next: Annotated[str | None, Query(max_length=500, description="The path to go to then.")] = None,
) -> Response:
    """Sign in at the provider of identities: send a browser here, and it comes back with a session."""
    provider = await _provider(request)
    then = next or f"{request.scope.get('root_path', '')}{_AFTER}"
    if not is_own_path(then):
        raise Refused(400, "`next` leads to another site.", "next_unfit", "give a path, such as /runs?status=failed.")
    browser = browsers.secret_of(request) or secrets.token_urlsafe(BROWSER_BYTES)
    attempt = Attempt(browser, secrets.token_urlsafe(BROWSER_BYTES))
    place = await provider.address(attempt)
    await run_in_threadpool(client.call_once, sign_ins.begin, attempt, then)
    answer = RedirectResponse(place, 303)
    browsers.give_secret(request, answer, browser, sign_ins.LIFETIME)
    return answer


@back.get("/session/oidc/callback", status_code=303, response_class=RedirectResponse)
async def session_oidc_callback(
    request: Request, client: TheClient, state: Given = None, code: Given = None, error: Given = None, iss: Given = None
) -> Response:
    """Where the provider sends a browser back to: it gets a session, and goes on to where it wanted."""
    provider = await _provider(request)
    origin = Actor("nobody", None, address_of(request), request.scope.get("request_id"))
    try:
        then, attempt = await _begun(request, client, state)
        if error is not None or code is None:
            raise refused(f"the provider says {word(error)}" if error else "the provider sent no code")
        claims = await provider.redeem(code, attempt, iss)
        who = identity_of(claims, client.settings)
        origin = _named(origin, who)
        opened = await _opened(request, client, who, origin)
    except (Refused, OrchestratorError) as exc:
        if (why := _why(exc)) is not None:
            await run_in_threadpool(client.call_once, sign_ins.refused, origin, why)
        raise
    answer = RedirectResponse(then, 303)
    browsers.give_cookie(request, answer, opened)
    return answer


async def _provider(request: Request) -> Provider:
    """
    Raises:
        Refused: there is none, it is not to be spoken of in plain, or too many came from that address.
    """
    found: Provider | None = request.app.state.oidc
    if found is None:
        fix = "set ORCHESTRATOR_OIDC_ISSUER, or sign in with a name and a password: POST /api/session."
        raise Refused(404, "No provider of identities is set up here.", "oidc_off", fix)
    browsers.check_private(request)
    await request.app.state.gate.count_stranger(request)
    return found


async def _begun(request: Request, client: TheClient, state: str | None) -> tuple[str, Attempt]:
    """Where to go afterwards, and the try that this is the end of. It is over now, whatever becomes of it."""
    browser = browsers.secret_of(request)
    attempt = Attempt(browser or "", state or "")
    then = await run_in_threadpool(client.call_once, sign_ins.take, attempt) if browser and state else None
    if then is None:
        detail = "This browser did not begin to sign in here, or took more than ten minutes, or has come back before."
        raise Refused(400, detail, "sign_in_unknown", "sign in again: GET /api/session/oidc.")
    return then, attempt


async def _opened(request: Request, client: TheClient, who: Identity, origin: Actor) -> OpenedSession:
    settings = client.settings
    role = role_of(tuple(who.groups), settings.group_roles, who.name)
    opened: OpenedSession = await run_in_threadpool(
        client.call_once,
        sign_ins.sign_in,
        who,
        role,
        origin,
        lifetime=settings.session_lifetime,
        agent=browsers.agent_of(request),
    )
    return opened


def _why(exc: Refused | OrchestratorError) -> str | None:
    """Why somebody was refused; None: they were not, something failed; or it is in the audit already."""
    if isinstance(exc, Refused):
        return exc.detail[:500] if exc.status < 500 else None
    return None if isinstance(exc, Unavailable | Unauthenticated) else exc.message.partition(" Fix: ")[0][:500]


def _named(origin: Actor, who: Identity) -> Actor:
    name = who.name if is_user_name(who.name) else "nobody"
    return Actor(name, None, origin.address, origin.request_id)
