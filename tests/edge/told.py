"""What the journals of clients say, as the checker reads it; and what no client may be told."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

from tests.edge.journal import Exchange
from tests.proof.history import FINAL_RUN, Call, Delivery
from tests.proof.verdict import Violation

Reply = Literal["ok", "refused", "unknown"]
_REPLIES: Final[dict[str, Literal["new", "seen"]]] = {"started": "new", "signalled": "new", "seen": "seen"}


def calls(exchanges: Iterable[Exchange]) -> Iterator[Call]:
    """The starts. What reached nobody was not asked."""
    for one in exchanges:
        if one.kind != "deliver" and one.fate != "unreachable":
            yield from _starts(one)


def _starts(one: Exchange) -> Iterator[Call]:
    reply: Reply = "ok" if one.taken else "refused" if _is_refused(one) else "unknown"
    given = one.facts
    items: list[Any] = one.answer["items"] if one.kind == "batch" and one.taken else [one.answer] * len(given["bodies"])
    for n, (body, item) in enumerate(zip(given["bodies"], items, strict=True)):
        key = given["keys"][n] if given["keys"] else None
        run_id = item["id"] if one.taken else None
        status = item.get("status") if one.taken and given["wait"] else None
        yield Call(
            "start",
            given["flow"],
            one.begun_ns,
            one.ended_ns,
            reply,
            key,
            json.dumps(body),
            run_id,
            request=None if given["request"] is None else f"{given['request']}#{n}",
            asked=json.dumps(given["bodies"], sort_keys=True),
            ended_as=status if status in FINAL_RUN else None,
        )


def _is_refused(one: Exchange) -> bool:
    return one.status == 422 and one.answer.get("code") == "idempotency_conflict"


def deliveries(exchanges: Iterable[Exchange]) -> Iterator[Delivery]:
    """What came to webhooks."""
    for one in exchanges:
        if one.kind == "deliver" and one.fate != "unreachable":
            given = one.facts
            yield Delivery(
                given["slug"],
                given["flow"],
                given["event"],
                json.dumps(given["body"]),
                one.begun_ns,
                one.ended_ns,
                _reply(one),
                one.answer["run_id"] if one.taken else None,
                given["signal"],
                given["order"],
                given["genuine"],
                insists=given["genuine"],
            )


def _reply(one: Exchange) -> Literal["new", "seen", "refused", "unknown"]:
    if one.taken:
        return _REPLIES[one.answer["outcome"]]
    return "refused" if 400 <= one.status < 500 else "unknown"


def unfit(exchanges: Iterable[Exchange]) -> Iterator[Violation]:
    """Answers that nobody may get: of the server's errors there is 503, which says when to come again; and a request
    that is in order is refused for what it says only."""
    for one in exchanges:
        if one.fate == "answered" and not _is_fit(one):
            sentence = f"{one.kind} was answered with {one.status}, Retry-After {one.retry_after}"
            yield Violation("answers", sentence, evidence=(str(one.answer)[:500], str(one.facts)[:500]))


def _is_fit(one: Exchange) -> bool:
    if one.taken:
        return True
    if one.status == 503:
        return one.retry_after is not None
    if one.kind != "deliver":
        return _is_refused(one)
    if not one.facts["genuine"]:
        return one.status in (401, 429)
    return bool(one.facts["signal"]) and one.status in (404, 409, 410)
