"""Signals to runs, and the answers that runs wait for."""

from collections.abc import Sequence
from typing import Annotated, Any, Final
from uuid import uuid4

from fastapi import Body, Query, Request, Response
from pydantic import TypeAdapter

from orchestrator.client.client import Client
from orchestrator.client.given import payload_text
from orchestrator.core.signals import Delivery, Signal
from orchestrator.engine.signals import approvals, deliver
from orchestrator.engine.signals.approvals import Approval
from orchestrator.errors import Conflict
from orchestrator.http.caller import TheCaller, TheClient
from orchestrator.http.paging import Cursor, Limit, Page, page, place
from orchestrator.http.parameters import REPLAYED, IdempotencyKey, StepKey, TheRun, length
from orchestrator.http.problems import Refused
from orchestrator.http.routes import router as make

router = make("signals")

_ASKED: Final = TypeAdapter(tuple[str, str])
_KEPT: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": Delivery, "description": "Kept for a step that waits for it later"}
}


@router.post("/runs/{run_id}/signals/{name}", responses=_KEPT)
def run_signal(
    run: TheRun,
    name: str,
    response: Response,
    caller: TheCaller,
    id: IdempotencyKey,
    payload: Annotated[Any, Body(description="What is sent.")] = None,
    key: Annotated[str, Query(max_length=200, description="Which of the waits of that name.")] = "",
    ttl: Annotated[str | None, Query(max_length=40, description="How long it is kept, such as 5m.")] = None,
) -> Delivery:
    """Send a signal: a step that waits takes it (200), or it is kept for one that will (202). With an
    `Idempotency-Key` it is delivered once."""
    if run.client.call(approvals.asks, run.id, name):  # and whom it asks is looked at where it is answered
        raise Conflict(
            f"{name} is an approval. Fix: answer it: POST /api/approvals/{run.id}/{name}/answer.", run_id=str(run.id)
        )
    done = run.signal(name, payload, key=key, id=id, by=caller.name, ttl=length("ttl", ttl))
    return _told(done, response)


@router.get("/approvals")
def approval_ls(
    request: Request,
    response: Response,
    client: TheClient,
    to: Annotated[str | None, Query(max_length=200, description="Only what this one is asked.")] = None,
    after: Annotated[str | None, Query(max_length=440, description="Only those after this one, RUN/STEP.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Approval]:
    """What is asked and not answered, the oldest first."""
    last = place(request, cursor, _ASKED) or (after and after.split("/", 1))
    rows = client.approvals(to, limit=limit + 1, after=_approval(client, last) if last else None)
    return page(request, response, rows, limit, lambda row: [str(row.run_id), row.step])


@router.get("/approvals/{run_id}/{step}")
def approval_show(run: TheRun, step: StepKey) -> Approval:
    """What is asked, what an answer looks like (`form`, a JSON Schema), and who gave it."""
    return run.approval(step)


@router.post("/approvals/{run_id}/{step}/answer", responses=_KEPT)
def approval_answer(
    run: TheRun,
    step: StepKey,
    response: Response,
    caller: TheCaller,
    id: IdempotencyKey,
    answer: Annotated[Any, Body(description="Fits the form.")] = None,
) -> Delivery:
    """Answer. Of two answers the first counts; the other one is told who was first. An approval that asks a user, a
    group or a role takes the answer of nobody else."""
    signal = Signal(step, payload_text(answer), id=id, by=caller.name, answers=True, may=caller.answers_for)
    done = run.client.call(deliver.deliver, run.id, id or uuid4().hex, signal)
    run.client.publish(done.dispatches)
    return _told(done.delivery(), response)


def _approval(client: Client, place: Sequence[str]) -> Approval:
    match place:
        case [run_id, step]:
            return client.run(run_id).approval(step)
    raise Refused(400, f"after={place[0]!r} is no approval.", fix="write RUN/STEP.")


def _told(done: Delivery, response: Response) -> Delivery:
    if done.duplicate:
        response.headers[REPLAYED] = "true"
    response.status_code = 200 if done.delivered else 202
    return done
