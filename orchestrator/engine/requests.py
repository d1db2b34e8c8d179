"""Requests that have an idempotency key: the key, its answer and whatever the request does are one commit."""

from datetime import timedelta
from typing import Final

from orchestrator.errors import IdempotencyConflict
from orchestrator.ledger import requests
from orchestrator.ledger.joined import Joined
from orchestrator.ledger.requests import Answer, KeyedRequest
from orchestrator.ledger.tx import Ledger

LIFETIME: Final = timedelta(hours=24)


def begin(ledger: Ledger, asked: KeyedRequest) -> Joined | Answer:
    """The ledger in which the request is to be done, for `keep` or `leave` to end; or what it was answered before. Of
    two at once the second one waits here for the end of the first.

    Raises:
        IdempotencyConflict: the key was used for something else.
    """
    joined = Joined(ledger)
    try:
        found = _taken(joined, asked)
    except BaseException:
        joined.roll_back()
        raise
    if found is None:
        return joined
    joined.roll_back()
    digest, answer = found
    if digest != asked.digest:
        raise IdempotencyConflict(
            f"The key {asked.key!r} was used for another request to {asked.operation}. Fix: use a new key for a new "
            "request.",
            key=asked.key,
        )
    return answer


def _taken(joined: Joined, asked: KeyedRequest) -> tuple[bytes, Answer] | None:
    """None: by this request."""
    with joined.tx() as tx:
        while not requests.take(tx, asked, LIFETIME):
            if (found := requests.answered(tx, asked)) is not None:  # else it was removed in between
                return found
    return None


def keep(joined: Joined, asked: KeyedRequest, answer: Answer) -> None:
    """Commit what was done, with its answer."""
    try:
        with joined.tx() as tx:
            requests.keep(tx, asked, answer)
        joined.commit()
    finally:
        joined.roll_back()


def leave(joined: Joined, asked: KeyedRequest) -> None:
    """The request was refused: commit what stays of that, such as the event that says so. The key may be used again."""
    try:
        with joined.tx() as tx:
            requests.leave(tx, asked)
        joined.commit()
    finally:
        joined.roll_back()
