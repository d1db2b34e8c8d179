"""A delivery comes: gate by gate, then its nonce, its idempotency key and its run in one commit.

So a delivery that was answered with an error may be sent again, and one that was accepted starts nothing more, however
often it comes and at however many servers.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic
from typing import Final
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from uuid_utils.compat import uuid7

from orchestrator.core import search, trace
from orchestrator.core.facts import Dispatch, StartedRun, StartRequest
from orchestrator.core.happened import Delivered, RunOf
from orchestrator.core.signals import Signal
from orchestrator.engine.faults import fp
from orchestrator.engine.runs import start_run
from orchestrator.engine.signals import deliver
from orchestrator.engine.steps.notifying import notify_started
from orchestrator.engine.webhooks import keeping, telling
from orchestrator.engine.webhooks.arrival import Arrived, Outcome, Received
from orchestrator.engine.webhooks.gatekeeper import Gatekeeper
from orchestrator.errors import (
    Conflict,
    DeliveryConflict,
    DeliveryRefused,
    IdempotencyConflict,
    NotFound,
    OrchestratorError,
    RunNotFound,
    SignalTooLarge,
    SignalTooLate,
    SignalUnreadable,
    WebhookNotFound,
    WebhookUnreadable,
)
from orchestrator.ledger import webhooks
from orchestrator.ledger.tx import Ledger, refusal
from orchestrator.ledger.webhooks import KnownBy, WebhookRow
from orchestrator.observe.observer import notify
from orchestrator.observe.traces import incoming
from orchestrator.webhooks.gates import Door, Gate, Judged, Nonces, Verdict, judge, nonces
from orchestrator.webhooks.handshakes import Answer, handshake, reply
from orchestrator.webhooks.mapping import Mapped, mapped
from orchestrator.webhooks.request import Request

TRIGGER: Final = "webhook"


def receive(ledger: Ledger, keeper: Gatekeeper, slug: str, request: Request) -> Received:
    """Take a delivery to a webhook. Whatever becomes of it is kept, unless the database is away.

    Raises:
        WebhookNotFound: no flow has a webhook of that slug.
        sqlalchemy.exc.SQLAlchemyError: the database is away; nothing was stored, the publisher may send it again.
    """
    row, door = find(ledger, keeper, slug)
    telling.received(row, len(request.body))
    request = _at_its_url(request, door)
    return take(Arrived(ledger, keeper, row, door, request, row.now))


def find(ledger: Ledger, keeper: Gatekeeper, slug: str) -> tuple[WebhookRow, Door]:
    """The webhook of that slug, as the current version of its flow has it.

    Raises:
        WebhookNotFound: there is none.
    """
    with ledger.auto() as tx:
        row = webhooks.find(tx, slug)
    trigger = None if row is None else ledger.manifest(row.manifest_hash).webhooks.get(slug)
    if row is None or trigger is None:
        raise unknown(slug)
    ledger.current[row.flow] = row.manifest_hash  # an input is checked against it before the ledger is asked
    return row, keeper.door(row.manifest_hash, slug, trigger)


def unknown(slug: str) -> WebhookNotFound:
    """No flow has a webhook of that slug."""
    return WebhookNotFound(
        f"No flow has a webhook {slug!r:.120}. Fix: see `orchestrator webhook ls` for those there are.", slug=slug
    )


def _at_its_url(request: Request, door: Door) -> Request:
    """Called at the URL that the webhook says its publisher has, with the query of the request if that has none."""
    given = door.trigger.url
    if given is None:
        return request
    query = request.url.partition("?")[2]
    return replace(request, url=given if "?" in given or not query else f"{given}?{query}")


def take(arrived: Arrived) -> Received:
    """Through the gates, and on to the run. See `receive`."""
    arrived = _judged(arrived)
    refused = arrived.judged.refusal
    if refused is not None and arrived.door.mode == "enforce":
        return _refuse(arrived, refused)
    for verdict in arrived.judged.verdicts:
        if not verdict.passed:
            telling.would_refuse(arrived, verdict)
    fp("webhook.judged")
    answer = _handshake(arrived)
    if answer is not None:
        door = arrived.door
        received = Received(arrived.id, door.slug, arrived.flow, door.trigger.scheme, "handshake", 200, answer=answer)
        keeping.keep(arrived, received)
        return received
    return _accept(arrived)


def _judged(arrived: Arrived) -> Arrived:
    """All gates but those of the ledger."""
    door, keeper = arrived.door, arrived.keeper
    judged = judge(door, arrived.request, keeper.secrets(door.trigger), arrived.at)
    arrived = replace(arrived, judged=judged)
    if door.mode == "off" or arrived.replay_of is not None:
        return arrived
    if judged.refusal is None or door.mode == "audit":
        verdict, wait = keeper.rate(door, arrived.request.address, signed=judged.signed is not None)
        return arrived.told(replace(verdict, retry_after_s=wait))
    if judged.signed is None:
        verdict, wait = keeper.rate(door, arrived.request.address, signed=False)
        if not verdict.passed:
            return replace(arrived.counted(), judged=Judged((replace(verdict, retry_after_s=wait),)))
    return arrived


def _handshake(arrived: Arrived) -> Answer | None:
    key = arrived.judged.key
    return None if key is None else handshake(arrived.door.trigger.scheme, arrived.request, key)


# ---- accepted --------------------------------------------------------------------------------------------------


def _accept(arrived: Arrived) -> Received:
    """The nonce, the key, the run and the delivery itself: one commit."""
    try:
        said = mapped(arrived.door.trigger, arrived.request)
        work = _signal if arrived.door.trigger.signal is not None else _start
        received, notify_after = _committed(arrived, lambda tx: work(arrived, said, tx))
    except OrchestratorError as exc:
        return _refuse(arrived, _verdict_of(exc), exc)
    except SQLAlchemyError:
        telling.not_stored(arrived)
        raise
    fp("webhook.committed")
    notify_after()
    telling.accepted(arrived, received)
    return received


_Done = tuple[Received, Callable[[], None]]
"""With what observers are to be told after the commit."""


def _committed(arrived: Arrived, work: Callable[[Connection], _Done]) -> _Done:
    """In one transaction; once more, when a key was taken by somebody else meanwhile."""
    try:
        return arrived.ledger.retry(work)
    except DBAPIError as exc:
        if refusal(exc) is None:
            raise
    try:
        return arrived.ledger.retry(work)
    except DBAPIError as exc:
        if refusal(exc) is None:
            raise
        raise IdempotencyConflict(
            "The idempotency key of the delivery was used with another input. Fix: send a new key.", flow=arrived.flow
        ) from exc


def _start(arrived: Arrived, said: Mapped, tx: Connection) -> _Done:
    run_id = uuid7()
    first = _known(arrived, tx, run_id)
    if first is not None:
        return _done(arrived, tx, "seen", first.run_id), _nothing
    request = StartRequest(
        arrived.flow,
        said.text,
        key=said.key or _header_key(arrived),
        trigger=TRIGGER,
        headers=said.headers,
        trace=incoming.received(run_id, arrived.request.headers),
        run_id=run_id,
        schedule=arrived.door.slug,
    )
    (started,) = start_run.start_in(arrived.ledger, tx, [request])
    if started.run_id != run_id and (known := _nonces(arrived)) is not None:
        webhooks.point_nonces(tx, arrived.door.slug, _keys(known), started.run_id)
    received = _done(arrived, tx, "started" if started.created else "seen", started.run_id, started.dispatches)
    return received, lambda: _notify(arrived, started)


def _signal(arrived: Arrived, said: Mapped, tx: Connection) -> _Done:
    """What came before is known, whatever its run is by now, and whoever has its attribute. Else the run first, then
    the nonce: a signal that its run refuses is no delivery that was taken."""
    before = _remembered(arrived, tx)
    if before is not None:
        return _done(arrived, tx, "seen", before.run_id), _nothing
    trigger = arrived.door.trigger
    run_id = _meant(arrived, tx, said.run or "")
    signal = Signal(name=trigger.signal or "", payload=said.text, key=said.key or "", by=f"webhook {arrived.door.slug}")
    known = _nonces(arrived)
    id = f"webhook:{known.digest if known else arrived.id}"
    outcome = deliver.deliver_in(arrived.ledger, tx, run_id, id, signal)
    if isinstance(outcome.answer, OrchestratorError):
        refused = _kept_refusal(arrived, _verdict_of(outcome.answer), outcome.answer, tx)
        return replace(refused, dispatches=outcome.dispatches), lambda: deliver.notify_delivered(outcome)
    first = _known(arrived, tx, run_id)
    name: Outcome = "signalled" if first is None else "seen"
    return _done(arrived, tx, name, run_id, outcome.dispatches), lambda: deliver.notify_delivered(outcome)


def _meant(arrived: Arrived, tx: Connection, text: str) -> UUID:
    """The run that a delivery names: by its id, or by a search attribute of the flow.

    Raises:
        RunNotFound: there is none.
        Conflict: several have it.
    """
    name = arrived.door.trigger.search
    if name is None:
        return _run_id(text)
    schema = arrived.ledger.manifest(arrived.row.manifest_hash).input_schema
    values = search.readings(text, search.kinds([name], schema)[name])
    found = webhooks.open_runs_with(tx, arrived.flow, [json.dumps({name: value}) for value in values])
    if len(found) == 1:
        return found[0]
    if not found:
        raise RunNotFound(f"No open run of {arrived.flow} has `{name}` {text!r:.60}.", run_id=text[:60])
    raise Conflict(
        f"Several open runs of {arrived.flow} have `{name}` {text!r:.60}. Fix: name one by its id.", flow=arrived.flow
    )


def _run_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise RunNotFound(f"The delivery names no run: {text!r:.60} is not an id.", run_id=text[:60]) from None


def _header_key(arrived: Arrived) -> str | None:
    found = [value for name, value in arrived.request.headers if name == "idempotency-key"]
    return found[0].strip().strip('"') or None if found else None


def _done(
    arrived: Arrived, tx: Connection, outcome: Outcome, run_id: UUID | None, dispatches: tuple[Dispatch, ...] = ()
) -> Received:
    door = arrived.door
    sentence = f"Taken: run {run_id}." if outcome == "started" else f"Known: run {run_id}."
    received = Received(
        arrived.id,
        door.slug,
        arrived.flow,
        door.trigger.scheme,
        outcome,
        202 if outcome in ("started", "signalled") else 200,
        run_id,
        answer=reply(door.trigger.scheme, sentence),
        verdicts=arrived.judged.verdicts,
        dispatches=dispatches,
    )
    _settle(tx, arrived)
    keeping.keep_in(tx, arrived, received)
    fp("webhook.kept")
    return received


def _settle(tx: Connection, arrived: Arrived) -> None:
    """The delivery that a replay stands for is not kept whole any more; in the transaction that accepts it.

    Raises:
        Conflict: somebody else replayed it.
    """
    if arrived.replay_of is not None and not webhooks.replayed(tx, arrived.replay_of):
        raise Conflict(f"The delivery {arrived.replay_of} was replayed by somebody else. Fix: nothing is left to do.")


def _notify(arrived: Arrived, started: StartedRun) -> None:
    run = RunOf(started.run_id, arrived.flow, TRIGGER)
    if started.created:
        came = incoming.current() or trace.of_headers(arrived.request.headers)
        notify(Delivered("webhook", run, arrived.door.slug, monotonic() - arrived.began, came=came))
    notify_started(run, started)


def _nothing() -> None:
    """There is nothing to tell."""


# ---- the nonce -------------------------------------------------------------------------------------------------


def _nonces(arrived: Arrived) -> Nonces | None:
    """What a signed delivery is known by. One that nobody signed has nothing that could not be made up."""
    signed = arrived.judged.signed
    return None if signed is None else nonces(arrived.door, signed)


def _keys(known: Nonces) -> list[str]:
    return [known.key] if known.other_id is None else [known.key, known.other_id]


def _known(arrived: Arrived, tx: Connection, run_id: UUID) -> webhooks.Nonce | None:
    """The delivery that this one is again; None: it is new, and its nonces are taken.

    Raises:
        DeliveryConflict: its id came before, with something else.
    """
    known = _nonces(arrived)
    if known is None:
        return None
    by = KnownBy(arrived.door.slug, _keys(known), known.digest, arrived.id, run_id)
    taken = webhooks.take_nonces(tx, by, arrived.door.trigger.remember)
    return _first(arrived, known, taken)


def _remembered(arrived: Arrived, tx: Connection) -> webhooks.Nonce | None:
    """Like `_known`, and takes nothing. Of two at once neither may be remembered yet.

    Raises: as `_known`.
    """
    known = _nonces(arrived)
    if known is None:
        return None
    return _first(arrived, known, webhooks.nonces(tx, arrived.door.slug, _keys(known)))


def _first(arrived: Arrived, known: Nonces, taken: Sequence[webhooks.Nonce]) -> webhooks.Nonce | None:
    """Of those who have the nonces, the delivery that this one is again.

    Raises:
        DeliveryConflict: its id came before, with something else.
    """
    slug = arrived.door.slug
    others = [one for one in taken if one.delivery_id != arrived.id]
    if any(one.digest != known.digest for one in others) and arrived.door.mode == "enforce":
        raise DeliveryConflict(
            f"A delivery to webhook {slug} has the id of an earlier one and says something else; nothing was started. "
            "Fix: send a new delivery with a new id.",
            slug=slug,
        )
    return next((one for one in others if one.key == known.key and one.digest == known.digest), None)


# ---- refused ---------------------------------------------------------------------------------------------------


def _verdict_of(exc: OrchestratorError) -> Verdict:
    """The gate that an error of the engine stands for."""
    match exc:
        case DeliveryConflict():
            return Verdict(Gate.REPLAY, False, exc.message, 409)
        case IdempotencyConflict():
            return Verdict(Gate.IDEMPOTENCY, False, exc.message, 422)
        case WebhookUnreadable() | SignalUnreadable():
            status = 400
        case SignalTooLarge():
            status = 413
        case SignalTooLate():
            status = 410
        case NotFound():
            status = 404
        case Conflict():
            status = 409
        case _:
            status = 422
    return Verdict(Gate.START, False, exc.message, status)


def _refuse(arrived: Arrived, verdict: Verdict, error: OrchestratorError | None = None) -> Received:
    received = _refusal(arrived, verdict, error)
    keeping.keep(arrived, received)
    if not arrived.is_counted:
        telling.refused(arrived, verdict)
    return received


def _kept_refusal(arrived: Arrived, verdict: Verdict, error: OrchestratorError, tx: Connection) -> Received:
    received = _refusal(arrived, verdict, error)
    keeping.keep_in(tx, arrived, received)
    telling.refused(arrived, verdict)
    return received


def _refusal(arrived: Arrived, verdict: Verdict, error: OrchestratorError | None) -> Received:
    slug, scheme, verdicts = arrived.door.slug, arrived.door.trigger.scheme, arrived.judged.verdicts
    if error is None:
        error = DeliveryRefused(
            f"Webhook {slug} refused the delivery at the gate `{verdict.gate}`.",
            slug=slug,
            gate=str(verdict.gate),
            status=verdict.status,
            retry_after_s=verdict.retry_after_s,
        )
    if verdict not in verdicts:
        verdicts = (*verdicts, verdict)
    return Received(arrived.id, slug, arrived.flow, scheme, "refused", verdict.status, error=error, verdicts=verdicts)
