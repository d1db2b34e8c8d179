"""Requests that have an idempotency key, and what they were answered."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import Connection

from orchestrator.ledger.rows import one, run


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request of one caller to one route. `digest` is that of all that it says."""

    caller: str
    operation: str
    key: str
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: `body` is JSON, or empty."""

    status: int
    headers: Mapping[str, str]
    body: str


def take(tx: Connection, asked: KeyedRequest, ttl: timedelta) -> bool:
    """Whether the key is this request's now; where another one has it, this waits for the end of that."""
    row = one(
        tx,
        "take_request_key",
        caller=asked.caller,
        operation=asked.operation,
        key=asked.key,
        digest=asked.digest,
        ttl=ttl,
    )
    return row is not None


def answered(tx: Connection, asked: KeyedRequest) -> tuple[bytes, Answer] | None:
    """The digest of the request that has the key, and its answer; None: no request has it."""
    row = one(tx, "request_answered", caller=asked.caller, operation=asked.operation, key=asked.key)
    return None if row is None else (row.digest, Answer(row.status, row.headers, row.answer))


def keep(tx: Connection, asked: KeyedRequest, answer: Answer) -> None:
    """This is what the key is answered from now on."""
    run(
        tx,
        "keep_request_answer",
        caller=asked.caller,
        operation=asked.operation,
        key=asked.key,
        status=answer.status,
        headers=json.dumps(dict(answer.headers)),
        answer=answer.body,
    )


def leave(tx: Connection, asked: KeyedRequest) -> None:
    """The key is nobody's again."""
    run(tx, "leave_request_key", caller=asked.caller, operation=asked.operation, key=asked.key)


def drop(tx: Connection, page: int) -> int:
    """Remove keys that expired; how many."""
    row = one(tx, "drop_request_keys", page=page)
    return int(row.removed) if row else 0
