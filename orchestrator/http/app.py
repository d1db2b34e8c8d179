"""The factory of the HTTP API. It is mounted in another application as any ASGI application is."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Final

import anyio
import anyio.to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from orchestrator.client.client import Client
from orchestrator.core.release import release
from orchestrator.engine.webhooks.gatekeeper import Gatekeeper
from orchestrator.errors import OrchestratorError
from orchestrator.http import problems
from orchestrator.http.auth import Gate
from orchestrator.http.cors import cors
from orchestrator.http.described import Described
from orchestrator.http.edge import Edge, Limits
from orchestrator.http.health import Monitor
from orchestrator.http.hub import Hub
from orchestrator.http.metering import Meters
from orchestrator.http.oidc.provider import Provider
from orchestrator.http.problems import Refused
from orchestrator.http.replays import MOST_WAITING
from orchestrator.http.routers import (
    approvals,
    audit,
    events,
    flows,
    health,
    insight,
    keys,
    metrics,
    operations,
    runs,
    schedules,
    steps,
    subscriptions,
    system,
    trials,
    users,
    webhooks,
)
from orchestrator.http.routers import oidc as sign_in
from orchestrator.http.scaling import Reckoned
from orchestrator.http.stopping import Stopping
from orchestrator.http.tracing import Traced
from orchestrator.http.waiting import Waits
from orchestrator.ledger.traces import LedgerPast
from orchestrator.observe.traces import switch as traces
from orchestrator.servers.secrets import References
from orchestrator.settings import Settings

_SIGNING_IN: Final = 2
"""So many passwords are looked at in one process at once: each takes a thread for some tens of milliseconds, and a
flood of them is not to take all."""
PREFIX: Final = "/api"
ROUTERS: Final = (
    flows,
    insight,
    runs,
    steps,
    approvals,
    operations,
    schedules,
    webhooks,
    subscriptions,
    system,
    trials,
    keys,
    users,
    sign_in,
    audit,
    events,
)


def create_app(settings: Settings, limits: Limits | None = None) -> FastAPI:
    """The API on the servers of these settings. Connections are opened when it starts to serve.

    Raises:
        SettingsInvalid: there is no database URL, the authorizer cannot be loaded, a proxy is malformed, or
            there is no secret where the settings say.
    """
    settings.require_database_url()
    gate, references = Gate(settings), References(os.environ)
    meters = None if settings.metrics == "off" else Meters(settings)
    oidc = None if settings.oidc_issuer is None else Provider(settings, references)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Each thread may hold a connection; more threads than connections would wait for one another.
        anyio.to_thread.current_default_thread_limiter().total_tokens = settings.database_pool_size
        with Client(settings) as client:
            app.state.client, app.state.hub = client, Hub(settings)
            if meters is not None:
                meters.begin(lambda: client.ledger.connections)
            spans = traces.begin(LedgerPast(client.ledger), f"api/{os.getpid()}")
            if spans is not None:
                client.ledger.trace_split = settings.trace_split
            app.state.signing_in = anyio.Semaphore(_SIGNING_IN)
            app.state.waiting_for_keys = anyio.CapacityLimiter(MOST_WAITING)
            async with nullcontext() if oidc is None else oidc.opened():
                yield
            app.state.stopping.end()
            app.state.hub.close()
            traces.end(spans)
            if meters is not None:
                meters.close()
            await gate.close()

    app = Described(
        title="orchestrator",
        middleware=[cors(settings)],
        version=release(),
        lifespan=lifespan,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # its scripts come from a content delivery network
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.settings, app.state.gate, app.state.oidc = settings, gate, oidc
    app.state.gatekeeper = Gatekeeper(references, gate.rates, settings.webhook_mode)
    app.state.monitor, app.state.stopping = Monitor(settings), Stopping()
    app.state.waits, app.state.reckoned = Waits(settings.waits_per_caller), Reckoned()
    app.state.metering = meters.metering if meters is not None else None
    if traces.wanted(os.environ):
        app.add_middleware(Traced)
    app.add_middleware(Edge, limits=limits or Limits(), metering=app.state.metering)
    app.add_exception_handler(OrchestratorError, problems.of_error)
    app.add_exception_handler(Refused, problems.of_refusal)
    app.add_exception_handler(RequestValidationError, problems.of_validation)
    app.add_exception_handler(HTTPException, problems.of_http)
    for room in ROUTERS:
        app.include_router(room.router, prefix=PREFIX)
    for public in (webhooks.public, sign_in.back):
        app.include_router(public, prefix=PREFIX)
    app.include_router(health.router)
    if meters is not None:
        app.state.instruments = meters.instruments
        app.include_router(metrics.router)
    _make_ready(app)
    return app


def _make_ready(app: FastAPI) -> None:
    """The framework makes a route at the first request that comes near it, and must not in two threads at once, as two
    applications of one process would: better now, when nobody waits."""
    for route in app.routes:
        route.matches({"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []})
