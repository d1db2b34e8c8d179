"""Sending: claim what is due, send it outside of any transaction, write down what came of it.

Whoever dies in between loses the claim when its time is over, and the notification is sent again with the same id: at
least once, in no order.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import random
from typing import Any, Final

from pydantic import JsonValue
from sqlalchemy import Connection

from orchestrator.core.access import Act, Actor
from orchestrator.core.subscriptions import OUTPUT_CAP, NotificationState, address_problem, is_reference, pause
from orchestrator.engine.faults import fp
from orchestrator.engine.runs import shown
from orchestrator.engine.subscriptions.keyring import Keyring
from orchestrator.errors import OrchestratorError, RunNotFound
from orchestrator.ledger import access, notifications, subscriptions
from orchestrator.ledger.notifications import Claimed, Tried
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.logs import log
from orchestrator.webhooks.out.model import AddressRules, MailServer, Message, Outcome, Target

LEASE: Final = timedelta(seconds=60)
"""How long a claim lasts: longer than any try takes."""
_GONE: Final = 410
_SYSTEM: Final = Actor("orchestrator")


@dataclass(frozen=True, slots=True)
class Post:
    """What a process needs to send: `send` does it once and says what came of it."""

    send: Callable[[Target, Message, Sequence[bytes]], Outcome]
    keyring: Keyring
    rules: AddressRules
    mail: MailServer | None = field(default=None, repr=False)


def claim(ledger: Ledger, limit: int, lease: timedelta = LEASE) -> list[Claimed]:
    """What is due, at most that much, for this process to send."""
    claimed = ledger.once(lambda tx: notifications.claim(tx, limit, lease))
    if claimed:
        fp("notification.claimed")
    return claimed


def deliver(ledger: Ledger, claimed: Claimed, post: Post) -> NotificationState | None:
    """Send it, and write down what came of that; how it stands then. None where the claim was over before that."""
    outcome = _sent(ledger, claimed, post)
    fp("notification.sent")
    tried = _tried(claimed, outcome)

    def work(tx: Connection) -> NotificationState | None:
        state = notifications.end(tx, claimed, tried)
        _noted(tx, claimed, outcome)
        if outcome.status == _GONE:
            _disable(tx, claimed)
        return state

    state = ledger.retry(work)
    fp("notification.committed")
    if not outcome.ok:
        log.warning(
            "notification.failed",
            extra={
                "notification": claimed.id,
                "subscription": claimed.name,
                "status": outcome.status,
                "error": outcome.error,
                "state": None if state is None else str(state),
            },
        )
    return state


@dataclass(frozen=True, slots=True)
class _Unsent(Outcome):
    """The endpoint was not asked: something is wrong here."""


def _sent(ledger: Ledger, claimed: Claimed, post: Post) -> Outcome:
    try:
        secrets = post.keyring.of(claimed)
        address = _address(claimed, post)
        message = Message(f"msg_{claimed.id.hex}", claimed.type, claimed.at, _data(ledger, claimed))
    except LookupError as exc:
        return _unsent(str(exc.args[0]))
    except OrchestratorError as exc:
        return _unsent(exc.message)
    try:
        return post.send(Target(claimed.kind, address, post.rules, post.mail), message, secrets)
    except Exception as exc:  # a mistake of ours: it costs this one a try, and not the process its thread
        log.exception("notification.broken", extra={"notification": claimed.id, "subscription": claimed.name})
        return _unsent(f"{type(exc).__name__}: {exc}")


def _unsent(why: str) -> _Unsent:
    return _Unsent(status=None, error=f"not sent: {why}", retry_after=None, duration_ms=0, ok=False, final=False)


def _address(claimed: Claimed, post: Post) -> str:
    if not is_reference(claimed.address):
        return claimed.address
    address = post.keyring.read(claimed.address).strip()
    if problem := address_problem(claimed.kind, address):
        raise LookupError(f"{claimed.address} gives no address: {problem}")
    return address


def _data(ledger: Ledger, claimed: Claimed) -> JsonValue:
    """What is told; with what the run returned, but for its secrets, where the subscription asks for that."""
    if "output" not in claimed.include or claimed.type != "run.succeeded" or claimed.run_id is None:
        return claimed.data  # type: ignore[no-any-return]
    try:
        output = shown.result(ledger, claimed.run_id)
    except RunNotFound:
        return {**claimed.data, "output_left_out": "the run was removed"}
    if len(json.dumps(output, ensure_ascii=False).encode()) > OUTPUT_CAP:
        return {**claimed.data, "output_left_out": f"it has more than {OUTPUT_CAP} bytes"}
    return {**claimed.data, "output": output}


def _tried(claimed: Claimed, outcome: Outcome) -> Tried:
    facts: dict[str, Any] = {
        "duration_ms": outcome.duration_ms,
        "status": outcome.status,
        "error": outcome.error and outcome.error[:500],
    }
    if outcome.ok:
        return Tried(NotificationState.DELIVERED, **facts)
    if outcome.final:
        return Tried(NotificationState.DEAD, **facts)
    wait = max(pause(claimed.tries + 1, random()), outcome.retry_after or timedelta(0))
    return Tried(NotificationState.PENDING, pause=wait, **facts)


def _noted(tx: Connection, claimed: Claimed, outcome: Outcome) -> None:
    """How the endpoint did."""
    if outcome.ok:
        notifications.endpoint_answered(tx, claimed.address)
    elif isinstance(outcome, _Unsent):
        notifications.endpoint_unasked(tx, claimed.address)
    else:
        notifications.endpoint_failed(tx, claimed.address)


def _disable(tx: Connection, claimed: Claimed) -> None:
    """The endpoint says that it is gone for good: it is told nothing more until somebody enables it."""
    row = subscriptions.get(tx, str(claimed.subscription_id), hold=True)
    if row is not None and row.enabled:
        subscriptions.disable(tx, row.id, why="the endpoint answered 410 Gone", by=_SYSTEM.name)
        was, became = {"enabled": True}, {"enabled": False, "status": _GONE}
        access.audit(tx, _SYSTEM, Act("subscription.disable", f"subscription/{row.id}", was=was, became=became))
