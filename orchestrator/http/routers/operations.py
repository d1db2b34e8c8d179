"""Operations on many runs: foresee, make, follow, pause, resume, cancel."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, Path, Query, Request, Response

from orchestrator.client.operations import OperationHandle
from orchestrator.core.access import Role
from orchestrator.core.operations import Action, Foreseen, Outcome
from orchestrator.errors import Forbidden
from orchestrator.http.caller import TheCaller, TheClient
from orchestrator.http.models import Operate
from orchestrator.http.paging import AfterRun, Cursor, Limit, Page, after_id, page
from orchestrator.http.parameters import REPLAYED, IdempotencyKey
from orchestrator.http.routes import router as make
from orchestrator.ledger.operations import OperationRow, OutcomeRow

router = make("operations")


def operation_of(
    operation_id: Annotated[str, Path(max_length=36, description="An operation's id, or its last characters.")],
    client: TheClient,
) -> OperationHandle:
    return client.operation(operation_id)


TheOperation = Annotated[OperationHandle, Depends(operation_of)]
_SEEN: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": OperationRow | Foreseen, "description": "A dry run, or the operation that the key made before"}
}


@router.post("/operations", status_code=202, responses=_SEEN)
def operation_create(
    asked: Operate,
    request: Request,
    response: Response,
    client: TheClient,
    caller: TheCaller,
    key: IdempotencyKey,
) -> OperationRow | Foreseen:
    """Cancel, retry or delete many runs. They are listed now, and worked off by keepers; `Location` says how far that
    is. A dry run answers 200, and writes nothing. Who deletes runs has to be an admin."""
    if asked.action is Action.DELETE and not caller.grant.role.covers(Role.ADMIN):
        raise Forbidden(f"{caller.name} is no admin, and deletes no runs. Fix: use a key whose role is admin.")
    if asked.dry_run:
        response.status_code = 200
        return client.operate_plan(asked.action, asked.ids, **asked.wanted())
    made = client.operate(
        asked.action,
        asked.ids,
        reason=asked.reason,
        token=asked.token,
        force=asked.force,
        fresh=asked.fresh,
        idempotency_key=key,
        by=caller.name,
        **asked.wanted(),
    )
    response.headers["Location"] = str(request.url_for("operation_show", operation_id=str(made.id)).path)
    if not made.created:
        response.status_code = 200
        response.headers[REPLAYED] = "true"
    return made.row()


@router.get("/operations")
def operation_ls(
    request: Request,
    response: Response,
    client: TheClient,
    only_open: Annotated[bool, Query(alias="open", description="Only those that are not over.")] = False,
    after: Annotated[UUID | None, Query(description="Only those after this operation.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[OperationRow]:
    """Operations, newest first."""
    last = after_id(request, cursor, after)
    rows = client.operations(limit=limit + 1, after=last, only_open=only_open)
    return page(request, response, rows, limit, lambda row: str(row.id))


@router.get("/operations/{operation_id}")
def operation_show(operation: TheOperation) -> OperationRow:
    """One operation, with how many of its runs have which outcome by now."""
    return operation.row()


@router.get("/operations/{operation_id}/outcomes")
def operation_outcomes(
    request: Request,
    response: Response,
    operation: TheOperation,
    outcome: Annotated[Outcome | None, Query(description="Only runs with this outcome.")] = None,
    after: AfterRun = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[OutcomeRow]:
    """What became of each run, in the order of their ids."""
    last = after_id(request, cursor, after)
    rows = operation.outcomes(outcome=outcome, after=last, limit=limit + 1)
    return page(request, response, rows, limit, lambda row: str(row.run_id))


@router.post("/operations/{operation_id}/pause")
def operation_pause(operation: TheOperation, caller: TheCaller) -> OperationRow:
    """Begin nothing more of it: when this has answered, no run is touched until it is resumed."""
    return operation.pause(by=caller.name)


@router.post("/operations/{operation_id}/resume")
def operation_resume(operation: TheOperation, caller: TheCaller) -> OperationRow:
    """Go on with it."""
    return operation.resume(by=caller.name)


@router.post("/operations/{operation_id}/cancel")
def operation_cancel(operation: TheOperation, caller: TheCaller) -> OperationRow:
    """Leave the runs alone whose turn has not come; what was done stays done."""
    return operation.cancel(by=caller.name)
