"""Pages of lists: keyset cursors that say which query they belong to, and no totals."""

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Final, Generic, TypeVar
from uuid import UUID

from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from orchestrator.core.values import refusal
from orchestrator.http.problems import Refused

T = TypeVar("T")
P = TypeVar("P")

MOST: Final = 500
Limit = Annotated[int, Query(ge=1, le=MOST, description="Items of a page.")]
Cursor = Annotated[str | None, Query(max_length=500, description="`next` of the page before.")]
AfterRun = Annotated[UUID | None, Query(description="Only those after this run.")]
MOST_NUMBER: Final = 2**63 - 1
MOST_SMALL: Final = 2**31 - 1
"""As PostgreSQL's bigint and integer hold them."""
NUMBER: Final = TypeAdapter(Annotated[int, Field(ge=0, le=MOST_NUMBER)])
RUN: Final = TypeAdapter(UUID)
KEY: Final = TypeAdapter(str)
KEYS: Final = TypeAdapter(tuple[str, str])
_PLACE: Final = ("cursor", "limit", "count", "after", "before", "explain")
"""Parameters that do not say what is listed."""


class Page(BaseModel, Generic[T]):
    """Some of a list. `next` is the `cursor` of the page after it; null: this is the last one."""

    model_config = ConfigDict(frozen=True)

    items: Sequence[T]
    next: str | None = None
    count: int | None = None
    """With `count=1`: how many there are in all, at most as many as are counted."""
    capped: bool | None = None
    """Whether there may be more than were counted."""


def after_id(request: Request, cursor: str | None, after: UUID | None = None) -> UUID | None:
    """The run that a cursor stands for, or the one that was named."""
    found = place(request, cursor, RUN)
    return after if found is None else found


def place(request: Request, cursor: str | None, kind: TypeAdapter[P]) -> P | None:
    """The place of this kind that a cursor stands for; None: the beginning. Anybody can write a cursor.

    Raises:
        Refused: it is none of ours, or of another query.
    """
    if cursor is None:
        return None
    try:
        query, found = json.loads(base64.urlsafe_b64decode(cursor.encode() + b"=="))
        if query != _query(request):
            fix = "send the query that it came with."
            raise Refused(400, "The cursor is of another query.", "cursor_mismatch", fix)
        if refusal(found) is None:
            return kind.validate_python(found)
    except (ValueError, TypeError, RecursionError):  # not base64 or JSON, not a pair, not a place of that kind
        pass
    raise Refused(400, "The cursor is none of this API.", "cursor_invalid", "begin without one.")


def page(request: Request, response: Response, items: Sequence[T], limit: int, place_of: Any) -> Page[T]:
    """`items` were asked for one more than `limit`. `place_of` an item: as JSON can hold it."""
    if len(items) <= limit:
        return Page(items=items)
    shown = items[:limit]
    text = json.dumps([_query(request), place_of(shown[-1])], separators=(",", ":"))
    cursor = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
    url = request.url.include_query_params(cursor=cursor)
    response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    return Page(items=shown, next=cursor)


def _query(request: Request) -> str:
    asked = sorted((name, value) for name, value in request.query_params.multi_items() if name not in _PLACE)
    return hashlib.sha256(json.dumps([request.url.path, asked]).encode()).hexdigest()[:12]
