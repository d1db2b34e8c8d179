"""What serves the flows: workers, the queues they take from, the handlers they have; and what the problems mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Query, Request
from pydantic import Field

from orchestrator.client.groups.workers import Queue
from orchestrator.core.releases import Rollout
from orchestrator.core.scaling import Scaling
from orchestrator.http.caller import TheActor, TheClient
from orchestrator.http.codes import Meaning, meaning
from orchestrator.http.models import Strict
from orchestrator.http.paging import Page
from orchestrator.http.problems import Refused
from orchestrator.http.routes import router as make
from orchestrator.http.scaling import Reckoned
from orchestrator.ledger.reads.rows import UnservedRow, WorkerRow

router = make("system")


@dataclass(frozen=True, slots=True)
class Handler:
    """A task that live workers run."""

    task: str
    workers: int
    queues: Sequence[str]


class Drain(Strict):
    """`target`: the id of a process, its host, the release of its code, or a scaling group. `undo`: it is to go on."""

    target: Annotated[str, Field(min_length=1, max_length=500)]
    undo: bool = False


class Queues(Page[Queue]):
    """`broker`: whether it answered."""

    broker: Literal["up", "down"]


@router.get("/workers")
def worker_ls(client: TheClient) -> Page[WorkerRow]:
    """The worker processes that the ledger knows."""
    return Page(items=client.workers.listed())


@router.post("/workers/drain")
def worker_drain(client: TheClient, actor: TheActor, what: Drain) -> Page[WorkerRow]:
    """Tell live worker processes to stop, or, before they have begun, to go on. Each begins when it next says that it
    is there, and stops as at SIGTERM."""
    return Page(items=client.workers.drain(what.target, undo=what.undo, by=actor))


@router.get("/handlers")
def handler_ls(client: TheClient) -> Page[Handler]:
    """The tasks that live workers run."""
    live = [row for row in client.workers.listed() if row.live]
    tasks = sorted({task for row in live for task in row.handlers})
    return Page(items=[_handler(task, [row for row in live if task in row.handlers]) for task in tasks])


@router.get("/releases")
def release_ls(client: TheClient) -> Rollout:
    """The releases of the flows' code that live workers are of, whether they may be stopped, and what needs them."""
    return client.workers.releases()


@router.get("/queues")
def queue_ls(client: TheClient) -> Queues:
    """The queues: what is ready on them and since when, what runs, who takes from them; and how many messages lie in
    the broker. While that does not answer, this does within some seconds, without them."""
    items = client.workers.queues()
    return Queues(items=items, broker="down" if any(one.messages is None for one in items) else "up")


@router.get("/scaling")
def scaling_show(
    request: Request,
    client: TheClient,
    group: Annotated[str, Query(max_length=100, description="One of those that the settings name.")] = "default",
) -> Scaling:
    """How many workers a group needs now, what that is made of, and why: `replicas` is for an autoscaler."""
    reckoned = request.app.state.reckoned
    assert isinstance(reckoned, Reckoned)
    return reckoned.of(client, group)


@router.get("/unserved")
def unserved_ls(client: TheClient) -> Page[UnservedRow]:
    """Tasks whose ready steps no live worker takes."""
    return Page(items=client.workers.unserved())


@router.get("/problems/{code}")
def problem_show(code: str) -> Meaning:
    """What the `code` of a problem means, which its `type` points to."""
    found = meaning(code)
    if found is None:
        raise Refused(404, f"There is no problem {code!r}.")
    return found


def _handler(task: str, workers: Sequence[WorkerRow]) -> Handler:
    return Handler(task, len(workers), sorted({queue for row in workers for queue in row.queues}))
