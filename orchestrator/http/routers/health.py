"""Health, for whoever runs the processes: at the root, without a key."""

from typing import Annotated, Literal

from fastapi import Depends, Request, Response
from pydantic import BaseModel, ConfigDict

from orchestrator.http.health import Check, Health, Monitor, Overall, State
from orchestrator.http.routes import router as make
from orchestrator.http.stopping import TheStopping

router = make("health")


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(frozen=True)

    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """Whether requests may be sent here."""

    model_config = ConfigDict(frozen=True)

    status: Literal["ready", "not_ready", "stopping"]
    database: Check | None


async def monitor_of(request: Request) -> Monitor:
    found = request.app.state.monitor
    assert isinstance(found, Monitor)
    return found


TheMonitor = Annotated[Monitor, Depends(monitor_of)]


@router.get("/health/liveness")
async def health_liveness() -> Alive:
    """The process is up; nothing is looked at."""
    return Alive()


@router.get("/health/readiness", responses={503: {"model": Readiness, "description": "Send no requests here"}})
async def health_readiness(monitor: TheMonitor, stopping: TheStopping, response: Response) -> Readiness:
    """Whether requests may be sent here: the ledger answers and is migrated, and this process was not told to stop."""
    if stopping.announced:
        response.status_code = 503
        return Readiness(status="stopping", database=None)
    database = await monitor.database()
    if database.status is State.UP:
        return Readiness(status="ready", database=database)
    response.status_code = 503
    return Readiness(status="not_ready", database=database)


@router.get("/health", responses={503: {"model": Health, "description": "Unhealthy"}})
async def health_show(monitor: TheMonitor, request: Request, response: Response) -> Health:
    """How the servers and processes stand that flows need. Unhealthy (503): no database; degraded: anything else.
    Whoever has a key is told versions, too."""
    found = await monitor.all()
    asks = found.checks["database"].status is State.UP  # else nobody knows keys, and to ask would take a thread
    if not (asks and await request.app.state.gate.recognizes(request)):
        found = found.model_copy(update={"versions": None})
    if found.status is Overall.UNHEALTHY:
        response.status_code = 503
    return found
