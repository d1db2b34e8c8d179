"""Users, their sessions, and signing in and out."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from orchestrator.client.groups.users import UserShown
from orchestrator.core.access import Actor, Role
from orchestrator.engine.access import sessions
from orchestrator.http import browsers
from orchestrator.http.caller import TheActor, TheCaller, TheClient, address_of
from orchestrator.http.models import Strict, Why
from orchestrator.http.paging import Page
from orchestrator.http.routes import router as make

router = make("users")

Name = Annotated[str, Path(max_length=100, description="What they sign in with.")]
Password = Annotated[SecretStr, Field(max_length=1024)]


class _Shown(BaseModel):
    model_config = ConfigDict(frozen=True)


class NewUser(Strict):
    """A user to add."""

    name: Annotated[str, Field(max_length=100)]
    password: Password
    role: Role = Role.VIEWER


class NewPassword(Strict):
    password: Password


class NewRole(Strict):
    role: Role


class SignIn(Strict):
    name: Annotated[str, Field(max_length=100)]
    password: Password


class SessionShown(_Shown):
    """A user who is signed in."""

    id: str
    user_name: str
    role: str
    method: str
    created_at: datetime
    expires_at: datetime
    address: str | None
    agent: str | None


class SignedIn(_Shown):
    """The token is in the cookie, where no script can read it."""

    id: str
    user: str
    expires_at: datetime


class SignedOut(_Shown):
    """Of the API. `sign_out_at`: where a browser signs out of the provider of identities."""

    sign_out_at: str


_ELSEWHERE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": SignedOut, "description": "The provider of identities knows them still"}
}


class Whoami(_Shown):
    """Who asks, and what they may do. Without scopes: all that the role may; without flows: in every flow."""

    name: str
    role: str
    scopes: Sequence[str]
    flows: Sequence[str]
    groups: Sequence[str]


@router.get("/whoami")
def whoami(caller: TheCaller) -> Whoami:
    """Who asks, and what they may do."""
    grant = caller.grant
    scopes, flows = sorted(map(str, grant.scopes)), sorted(grant.flows)
    return Whoami(name=caller.name, role=grant.role, scopes=scopes, flows=flows, groups=caller.groups)


@router.post("/session", status_code=201)
async def session_create(request: Request, response: Response, client: TheClient, given: SignIn) -> SignedIn:
    """Sign in: the answer sets a cookie."""
    browsers.check_private(request)
    await request.app.state.gate.count_sign_in(request, given.name)
    async with request.app.state.signing_in:
        opened = await run_in_threadpool(
            client.call_once,
            sessions.sign_in,
            given.name,
            given.password.get_secret_value(),
            Actor(given.name, None, address_of(request), request.scope.get("request_id")),
            lifetime=client.settings.session_lifetime,
            agent=browsers.agent_of(request),
        )
    browsers.give_cookie(request, response, opened)
    return SignedIn(id=opened.id, user=opened.user, expires_at=opened.expires_at)


@router.delete("/session", status_code=204, responses=_ELSEWHERE)
async def session_close(request: Request, client: TheClient, caller: TheCaller, actor: TheActor) -> Response:
    """Sign out. A key has no session: nothing happens. Who signed in at a provider of identities is still signed in
    there: 200 says where to send the browser to end that, too."""
    if not caller.session or caller.id is None:
        return Response(status_code=204)
    method = await run_in_threadpool(client.call_once, sessions.end, caller.id, actor)
    request.app.state.gate.forget(browsers.token_of(request) or "")
    provider = request.app.state.oidc if method == sessions.OIDC else None
    elsewhere = None if provider is None else await provider.sign_out_address()
    answer = Response(status_code=204)
    if elsewhere is not None:
        answer = JSONResponse(SignedOut(sign_out_at=elsewhere).model_dump())
    browsers.take_cookie(request, answer)
    return answer


@router.get("/sessions")
def session_ls(
    client: TheClient, user: Annotated[str | None, Query(max_length=100, description="Only of this one.")] = None
) -> Page[SessionShown]:
    """Sessions that have not ended."""
    rows = client.call(sessions.listed, user)
    return Page(items=[SessionShown.model_validate(row, from_attributes=True) for row in rows])


@router.delete("/sessions/{id}", status_code=204)
def session_end(id: Annotated[str, Path(max_length=100)], client: TheClient, actor: TheActor) -> None:
    """Sign somebody out, everywhere within five seconds."""
    client.call_once(sessions.end, id, actor)


@router.get("/users")
def user_ls(client: TheClient) -> Page[UserShown]:
    """Users, by name."""
    return Page(items=client.users.listed())


@router.post("/users", status_code=201)
def user_create(client: TheClient, actor: TheActor, new: NewUser) -> UserShown:
    """Add a user who signs in with a password."""
    return client.users.create(new.name, new.role, new.password.get_secret_value(), by=actor)


@router.post("/users/{name}/password", status_code=204)
def user_passwd(name: Name, client: TheClient, actor: TheActor, new: NewPassword) -> None:
    """Give a user another password; their sessions end."""
    client.users.set_password(name, new.password.get_secret_value(), by=actor)


@router.post("/users/{name}/role")
def user_role(name: Name, client: TheClient, actor: TheActor, new: NewRole) -> UserShown:
    """Give a user another role, in their open sessions too."""
    return client.users.set_role(name, new.role, by=actor)


@router.post("/users/{name}/disable", status_code=204)
def user_disable(name: Name, client: TheClient, actor: TheActor, why: Why | None = None) -> None:
    """Let a user in no more, and end their sessions."""
    client.users.disable(name, reason=why.reason if why else None, by=actor)


@router.post("/users/{name}/enable", status_code=204)
def user_enable(name: Name, client: TheClient, actor: TheActor) -> None:
    """Let a user in again."""
    client.users.enable(name, by=actor)
