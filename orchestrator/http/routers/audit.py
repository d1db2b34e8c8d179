"""The audit over HTTP."""

from typing import Annotated

from fastapi import Query, Request, Response

from orchestrator.http.caller import TheClient
from orchestrator.http.paging import MOST_NUMBER, NUMBER, Cursor, Limit, Page, page, place
from orchestrator.http.parameters import Moment, moment
from orchestrator.http.routes import router as make
from orchestrator.ledger.access import AuditFilter, AuditRow

router = make("audit")

Name = Annotated[str | None, Query(max_length=200)]


@router.get("/audit")
def audit_ls(
    request: Request,
    response: Response,
    client: TheClient,
    actor: Name = None,
    action: Name = None,
    target: Name = None,
    since: Moment = None,
    until: Moment = None,
    before: Annotated[int | None, Query(ge=1, le=MOST_NUMBER, description="Only rows with a smaller id.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[AuditRow]:
    """What people and programs did, the newest first."""
    wanted = AuditFilter(
        actor=actor,
        action=action,
        target=target,
        since=moment("since", since),
        until=moment("until", until),
    )
    last = place(request, cursor, NUMBER) or before
    rows = client.audit.listed(wanted, limit=limit + 1, before=last)
    return page(request, response, rows, limit, lambda row: row.id)
