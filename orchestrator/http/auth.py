"""The gate before every route: who asks, and whether they may."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from time import monotonic
from typing import Any, Final

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from orchestrator.core.access import Grant, Role, Scope
from orchestrator.core.loopback import is_loopback
from orchestrator.engine.access import keys, sessions
from orchestrator.errors import FlowNotFound, Forbidden, NotFound, OrchestratorError, SettingsInvalid, Unavailable
from orchestrator.http import browsers
from orchestrator.http.caller import Caller, client_of, find_run
from orchestrator.http.policy import METRICS, PUBLIC, Reach, Rule, rule_of
from orchestrator.http.problems import Refused
from orchestrator.http.proxies import Proxies
from orchestrator.http.quotas import Quotas
from orchestrator.http.rates import Rates
from orchestrator.ledger import reads
from orchestrator.observe.logs import log
from orchestrator.settings import Settings

REMEMBERED_S: Final = 4.0
"""How long a key is believed without asking the ledger: what is revoked is refused everywhere within five seconds, a
second of which is left for requests that are on their way."""
_RECOGNIZED_S: Final = 1.0
_MOST: Final = 10_000
_BROUGHT: Final = frozenset({"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"})
"""What proxies say of whom they bring."""
_NOBODY: Final = Grant(Role.VIEWER, frozenset(), frozenset())


@dataclass(frozen=True, slots=True)
class Asked:
    """What an authorizer of one's own is told."""

    operation: str
    """The `operationId`."""
    role: Role
    scope: Scope | None
    method: str
    path: str
    flows: tuple[str, ...]
    """Those that the path or `?flow=` names."""


Authorizer = Callable[[Caller, Asked], bool | None]
"""True: may; False: may not; None: as the rules have it. Called in a thread, so it may ask others."""


def authorizer_of(settings: Settings) -> Authorizer | None:
    """
    Raises:
        SettingsInvalid: it cannot be loaded.
    """
    if settings.authorizer is None:
        return None
    module, _, name = settings.authorizer.partition(":")
    try:
        found: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError) as exc:
        raise SettingsInvalid(
            f"ORCHESTRATOR_AUTHORIZER={settings.authorizer} cannot be loaded: {exc}. Fix: write module:name of a "
            "function that takes a caller and what it asks for."
        ) from exc
    if not callable(found):
        raise SettingsInvalid(
            f"ORCHESTRATOR_AUTHORIZER={settings.authorizer} is not a function. Fix: name one that takes a caller and "
            "what it asks for."
        )
    return found  # type: ignore[no-any-return]


def may_start(settings: Settings, address: str) -> None:
    """
    Raises:
        SettingsInvalid: everybody who reaches that address would be let in.
    """
    if settings.auth == "open" and not is_loopback(address):
        raise SettingsInvalid(
            f"ORCHESTRATOR_AUTH=open would let in everybody who reaches {address}. Fix: unset it and make a key "
            "(`orchestrator key create`), or listen on 127.0.0.1."
        )


class Gate:
    """One per process. Remembers whom it let in, for some seconds; never a key itself."""

    def __init__(self, settings: Settings) -> None:
        """
        Raises:
            SettingsInvalid: the authorizer cannot be loaded, or the list of trusted proxies is malformed.
        """
        self.proxies, self.rates = Proxies(settings), Rates(settings)
        self._quotas = Quotas(settings, self.rates)
        self._open = settings.auth == "open"
        self._public = PUBLIC | {METRICS} if settings.metrics == "open" else PUBLIC
        self._authorizer = authorizer_of(settings)
        self._known: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()
        self._behind: set[asyncio.Task[Any]] = set()

    async def admit(self, request: Request, operation: str) -> None:
        """Let a request through to its route; `request.state.caller` says who it is.

        Raises:
            Refused: 401, it does not say who it is, or nobody is that; 403, another site's page sent it; 429, there
                were too many.
            Forbidden, NotFound: they may not.
        """
        if operation in self._public:
            browsers.refuse_strangers(request, silent=True)
            request.state.caller = Caller("nobody", _NOBODY)
            return
        caller = await self._caller(request)
        request.scope["caller"], request.scope["key_id"] = caller.name, caller.id
        request.state.caller = caller
        if not self._open:
            await self._quotas.take(request, operation, caller)
        if caller.browser:
            browsers.refuse_strangers(request, silent=False)
        await self._check(caller, operation, rule_of(operation), request)

    async def still_admits(self, request: Request, operation: str) -> bool:
        """Whether a request that lasts would be let through now. It is not counted again; without the database nobody
        knows, and it goes on."""
        try:
            await self._check(await self._caller(request), operation, rule_of(operation), request)
        except Unavailable:
            return True
        except (Refused, Forbidden, NotFound):
            return False
        return True

    def forget(self, secret: str) -> None:
        """Believe a key or token no more without asking: this process at once, as it ended it itself."""
        self._known.pop(_digest(secret), None)

    async def count_stranger(self, request: Request) -> None:
        """A request of somebody who is not known, which is let through all the same.

        Raises:
            Refused: there were too many from that address.
        """
        await self._quotas.take_stranger(request, self.proxies.address(request))

    async def recognizes(self, request: Request) -> bool:
        """Whether a request to a public route says who it is, and is somebody; if that takes long, it is nobody."""
        said = request.headers.get("authorization") or browsers.token_of(request) or self.proxies.user(request)
        if not said and not self._open:
            return False  # a stranger, who is not counted for that

        async def known() -> bool:
            try:
                await self._caller(request)
            except (Refused, OrchestratorError):
                return False
            return True

        task = asyncio.create_task(known())
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)
        done, _ = await asyncio.wait([task], timeout=_RECOGNIZED_S)
        return bool(done) and task.result()

    async def count_sign_in(self, request: Request, name: str) -> None:
        """A try to sign in with a password.

        Raises:
            Refused: there were too many.
        """
        await self._quotas.take_sign_in(request, name, self.proxies.address(request))

    # ---- who ----

    async def _caller(self, request: Request) -> Caller:
        given = request.headers.getlist("authorization")
        found: Caller | None
        if given:
            scheme, _, text = given[0].partition(" ")
            proper = len(given) == 1 and scheme.lower() == "bearer"
            found = await self._remembered(request, text.strip(), self._by_key) if proper else None
        elif (token := browsers.token_of(request)) is not None:
            found = await self._remembered(request, token, self._by_session)
        else:
            found = self.proxies.user(request) or (self._by_nothing(request) if self._open else None)
        if found is None:
            await self.count_stranger(request)
            headers = {"WWW-Authenticate": "Bearer"}
            raise Refused(401, "Who asks is not known.", headers=headers)
        return found

    async def _remembered(
        self, request: Request, secret: str, ask: Callable[[Request, str], Awaitable[Caller | None]]
    ) -> Caller | None:
        """Whose key or token this is, from memory if it was asked for a moment ago."""
        digest, now = _digest(secret), monotonic()
        until, caller = self._known.get(digest, (0.0, None))
        if caller is not None and now < until:
            return caller
        try:
            found = await ask(request, secret)
        except ValueError as exc:  # a newer release gave a role or a scope that is not known here
            log.warning("api.grant_unreadable", extra={"error": str(exc)})
            found = None
        if found is None:
            self._known.pop(digest, None)
            return None
        self._known[digest] = (now + REMEMBERED_S, found)  # from before the ledger was asked
        self._known.move_to_end(digest)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return found

    async def _by_key(self, request: Request, text: str) -> Caller | None:
        client = await client_of(request)
        row = await run_in_threadpool(client.call, keys.authenticate, text)
        if row is None:
            return None
        caller = Caller(f"key:{row.name}", row.grant, row.id)
        self._note_use(client.call, row.id)
        return caller

    async def _by_session(self, request: Request, token: str) -> Caller | None:
        client = await client_of(request)
        row = await run_in_threadpool(client.call, sessions.authenticate, token)
        if row is None:
            return None
        return Caller(row.user_name, Grant(Role(row.role)), row.id, tuple(row.groups), browser=True, session=True)

    @staticmethod
    def _by_nothing(request: Request) -> Caller | None:
        """Open to this machine: not to what a proxy on it brings, nor to what names another host (a page whose name
        was made to lead here)."""
        peer = None if request.client is None else request.client.host
        from_here = is_loopback(peer) and is_loopback(request.url.hostname)
        if not from_here or any(name.startswith("x-forwarded-") or name in _BROUGHT for name in request.headers):
            return None
        browsers.refuse_strangers(request, silent=True)
        return Caller("local", Grant(Role.ADMIN))

    def _note_use(self, call: Callable[..., None], key_id: str) -> None:
        """Behind the request."""

        async def note() -> None:
            try:
                await run_in_threadpool(call, keys.used, {key_id})
            except OrchestratorError as exc:
                log.warning("api.use_not_noted", extra={"key_id": key_id, "error": str(exc)})

        task = asyncio.create_task(note())
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)

    async def close(self) -> None:
        """Wait for what is behind requests."""
        await asyncio.gather(*self._behind)
        self.rates.close()

    # ---- may they ----

    async def _check(self, caller: Caller, operation: str, rule: Rule, request: Request) -> None:
        flows = [request.path_params["flow"]] if rule.reach is Reach.FLOW else request.query_params.getlist("flow")
        if self._authorizer is not None:
            asked = Asked(operation, rule.role, rule.scope, request.method, request.url.path, tuple(flows))
            answer = await run_in_threadpool(self._authorizer, caller, asked)
            if answer is False:
                raise Forbidden(f"{caller.name} may not do {operation} here. Fix: ask whoever runs the authorizer.")
            if answer is True:
                return
        _check_rule(caller, rule)
        if caller.grant.flows:
            await _check_flow(caller, rule.reach, flows, request)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _check_rule(caller: Caller, rule: Rule) -> None:
    """
    Raises:
        Forbidden: the role or the scope is another.
    """
    grant = caller.grant
    if not grant.role.covers(rule.role):
        raise Forbidden(
            f"This takes the role {rule.role}, and {caller.name} has {grant.role}. Fix: use a key or a user with that "
            "role.",
            needed=str(rule.role),
        )
    if rule.scope is not None and grant.scopes and rule.scope not in grant.scopes:
        has = ", ".join(sorted(grant.scopes))
        raise Forbidden(
            f"This takes the scope {rule.scope}, and {caller.name} has {has}. Fix: use a key with that scope.",
            needed=str(rule.scope),
        )


async def _check_flow(caller: Caller, reach: Reach, flows: Sequence[str], request: Request) -> None:
    """
    Raises:
        Forbidden: it is about other flows too.
        NotFound: it is about another one; whether that exists is not said.
    """
    names = ", ".join(sorted(caller.grant.flows))
    match reach:
        case Reach.ALL:
            raise Forbidden(f"{caller.name} is limited to {names}. Fix: use a key that is not limited to flows.")
        case Reach.NAMED if not flows:
            raise Forbidden(f"{caller.name} is limited to {names}. Fix: name one, with `?flow=`.")
        case Reach.NAMED | Reach.FLOW:
            foreign = next((flow for flow in flows if not caller.grant.reaches(flow)), None)
            if foreign is not None:
                raise FlowNotFound(f"No flow {foreign}. Fix: `orchestrator flow ls` lists them.", flow=foreign)
        case Reach.RUN:
            part = request.path_params["run_id"]
            run = await run_in_threadpool(find_run, await client_of(request), caller, part)
            row = await run_in_threadpool(run.row)
            if not caller.grant.reaches(row.flow):
                raise reads.runs.no_run(part)
            request.path_params["run_id"] = str(run.id)  # a part might mean another run a moment later
