"""Accept triggers: accepted means durable."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from itertools import groupby
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError
from uuid_utils.compat import uuid7

from orchestrator.core import values
from orchestrator.core.facts import Dispatch, Started, StartRequest
from orchestrator.core.planner import Plan
from orchestrator.core.schemas import misfit
from orchestrator.core.suggest import did_you_mean
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import advance
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.errors import (
    Conflict,
    FlowDisabled,
    IdempotencyConflict,
    InputInvalid,
    ManifestUnreadable,
    NotFound,
    UsageError,
)
from orchestrator.ledger import definitions, starts
from orchestrator.ledger.borrowed import Borrowed, borrowed
from orchestrator.ledger.starts import NewRun
from orchestrator.ledger.tx import Ledger, refusal

TRIES = 3
"""A start plans with the flow's current manifest; a deploy in between makes it plan again."""
KEY_LENGTH = 255


def start(ledger: Ledger, requests: Sequence[StartRequest], *, key_ttl: timedelta | None = None) -> list[Started]:
    """Start one run per request, all or none; in one commit and, for one flow, one round trip.

    A request whose idempotency key was used with the same body gives the first run (`created` False). The same is what
    gives the first run's body when it is filled with the defaults of then: a deploy that adds one changes no request.

    Raises:
        FlowNotFound, FlowDisabled: nothing was started; the refusal of a disabled flow is recorded.
        InputInvalid: a body does not fit the flow's input schema.
        IdempotencyConflict: a key was used with another body.
    """
    fp("start.before")
    for request in requests:
        _check_texts(request)
    started: dict[int, Started] = {}
    groups = _by_version(requests)
    if len(groups) == 1:
        target, places = groups[0]
        started = _start_flow(ledger, None, target, requests, places, key_ttl)
    elif groups:
        started = ledger.retry(lambda tx: _start_all(ledger, tx, groups, requests, key_ttl))
    fp("start.committed")
    return [started[place] for place in range(len(requests))]


def start_in(ledger: Ledger, tx: Connection, requests: Sequence[StartRequest]) -> list[Started]:
    """Like `start`, as part of the caller's transaction: what else it writes is committed with the runs, or not at all.

    The caller sees to it that the definitions of the flows do not change meanwhile, and publishes after the commit.
    What is refused before the first statement leaves the transaction usable: InputInvalid, FlowDisabled, FlowNotFound.

    Raises: as `start`.
    """
    for request in requests:
        _check_texts(request)
    started = _start_all(ledger, tx, _by_version(requests), requests, None)
    return [started[place] for place in range(len(requests))]


def start_borrowed(ledger: Ledger, connection: Borrowed, requests: Sequence[StartRequest]) -> list[Started]:
    """Like `start_in`, in a transaction of somebody who knows nothing of us: whatever is refused leaves it usable.

    Raises: as `start`, and UsageError: the connection does not fit.
    """
    try:
        with borrowed(ledger, connection) as tx:
            return start_in(ledger, tx, requests)
    except (DBAPIError, psycopg.Error) as exc:
        if refusal(exc) is None:
            raise
        raise IdempotencyConflict(
            "An idempotency key was used with another input in this transaction. Fix: use a new key for a new request."
        ) from exc


_Target = tuple[str, str]
"""A flow, and the hash of the version that is asked for; empty: the current one."""


def _target(request: StartRequest) -> _Target:
    return request.flow, request.version or ""


def _by_version(requests: Sequence[StartRequest]) -> list[tuple[_Target, list[int]]]:
    """The places of the requests, by what they start."""
    ordered = sorted(range(len(requests)), key=lambda place: _target(requests[place]))
    return [(target, list(places)) for target, places in groupby(ordered, key=lambda place: _target(requests[place]))]


def _start_all(
    ledger: Ledger,
    tx: Connection,
    groups: list[tuple[_Target, list[int]]],
    requests: Sequence[StartRequest],
    key_ttl: timedelta | None,
) -> dict[int, Started]:
    started: dict[int, Started] = {}
    for target, places in groups:
        started |= _start_flow(ledger, tx, target, requests, places, key_ttl)
    return started


def _start_flow(
    ledger: Ledger,
    tx: Connection | None,
    target: _Target,
    requests: Sequence[StartRequest],
    places: list[int],
    key_ttl: timedelta | None,
) -> dict[int, Started]:
    flow, pinned = target
    current = ledger.current.get(flow)
    digests: dict[str, str] = {}
    for _ in range(TRIES):
        if current is None:
            current = ledger.current[flow] = _enabled_hash(ledger, flow)
        plan = ledger.plan(pinned or current)
        for place in places:
            _check_body(plan, requests[place].body)
        new = {place: _new_run(plan, requests[place], digests) for place in places}
        if tx is not None and not digests:  # a clash would end the caller's transaction, so it is asked before
            digests = _digests_of_same_requests(ledger, tx, flow, list(new.values()))
            new = {place: _new_run(plan, requests[place], digests) for place in places} if digests else new
        unique = _one_per_key(flow, new.values())
        try:
            created = _insert(ledger, tx, plan, unique, key_ttl, pinned=bool(pinned))
        except _Clash:
            with ledger.auto() as auto:
                digests |= _digests_of_same_requests(ledger, auto, flow, unique)
            continue
        if created is not None:
            return _answer(ledger, tx, flow, plan, new, *created)
        ledger.current.pop(flow, None)
        current = None
    raise Conflict(f"Flow {flow} changes its definition faster than it can be started. Fix: try again.", flow=flow)


class _Clash(Exception):
    """Nothing was written: a key belongs to a request with another digest."""


def _insert(
    ledger: Ledger,
    tx: Connection | None,
    plan: Plan,
    new: Sequence[NewRun],
    key_ttl: timedelta | None,
    *,
    pinned: bool,
) -> tuple[set[UUID], tuple[Dispatch, ...]] | None:
    """The created runs, and what opening their first loops dispatched; None when the flow is not at this version any
    more, or disabled.

    Raises:
        _Clash: outside the caller's transaction, which could not go on.
    """
    flow, ttl = plan.manifest.name, key_ttl or plan.manifest.idempotency_ttl

    def work(connection: Connection) -> tuple[set[UUID], tuple[Dispatch, ...]]:
        ids = starts.start(connection, flow, plan, new, ttl, pinned=pinned)
        opened: list[Dispatch] = []
        if plan.goes_on_at_start:
            for run_id in sorted(ids):
                opened += advance.begin(HeldRun.lock(ledger, connection, run_id)).dispatches
        return ids, tuple(opened)

    try:
        if tx is not None:
            ids, opened = work(tx)
        elif plan.goes_on_at_start:
            ids, opened = ledger.retry(work)
        else:
            with ledger.auto() as auto:
                ids, opened = work(auto)
    except DBAPIError as exc:
        if refusal(exc) is None:
            raise
        if tx is not None:
            raise
        raise _Clash from exc
    keyless = any(each.key is None for each in new)
    if not ids and (keyless or not _takes_starts(ledger, plan, pinned=pinned)):
        return None
    return ids, opened


def _digests_of_same_requests(ledger: Ledger, tx: Connection, flow: str, new: Sequence[NewRun]) -> dict[str, str]:
    """By key, the digest that stands in the ledger, where it differs and yet the request is the same.

    Raises:
        IdempotencyConflict: one is another request.
    """
    keys = [each.key for each in new if each.key is not None]
    found = starts.first_requests(tx, flow, keys) if keys else {}
    same: dict[str, str] = {}
    for each in new:
        first = found.get(each.key or "")
        if each.key is None or first is None or first.request_hash == each.digest:
            continue  # it expired in between
        if not _is_same(ledger, first, each.given):
            why = f"belongs to run {first.run_id}, which was started with another input"
            raise _conflict(flow, each, why, first.run_id)
        same[each.key] = first.request_hash
    return same


def _is_same(ledger: Ledger, first: Row[Any], given: str) -> bool:
    """Whether `given`, filled with the defaults of the first run's version, is what that run was started with."""
    try:
        plan = ledger.plan(first.manifest_hash)
    except (NotFound, ManifestUnreadable):
        return _canonical(given) == _canonical(first.body)
    return _canonical(_with_defaults(plan, given)) == _canonical(first.body)


def _conflict(flow: str, new: NewRun, why: str, run_id: UUID | None = None) -> IdempotencyConflict:
    return IdempotencyConflict(
        f"Idempotency key {new.key!r} of flow {flow} {why}. Fix: use a new key for a new request.",
        flow=flow,
        key=new.key,
        run_id=run_id and str(run_id),
    )


def _takes_starts(ledger: Ledger, plan: Plan, *, pinned: bool) -> bool:
    with ledger.auto() as tx:
        row = starts.definition(tx, plan.manifest.name)
    return row is not None and row.enabled and (pinned or row.manifest_hash == plan.manifest.hash)


def _answer(
    ledger: Ledger,
    tx: Connection | None,
    flow: str,
    plan: Plan,
    new: dict[int, NewRun],
    created: set[UUID],
    opened: tuple[Dispatch, ...],
) -> dict[int, Started]:
    known = {each.key for each in new.values() if each.key is not None and each.id not in created}
    holders: dict[str, tuple[UUID, str]] = {}
    if known:
        if tx is not None:
            holders = starts.holders(tx, flow, sorted(known))
        else:
            with ledger.auto() as auto:
                holders = starts.holders(auto, flow, sorted(known))
    return {place: _one_answer(flow, plan, each, created, opened, holders) for place, each in new.items()}


def _one_answer(
    flow: str,
    plan: Plan,
    new: NewRun,
    created: set[UUID],
    opened: tuple[Dispatch, ...],
    holders: dict[str, tuple[UUID, str]],
) -> Started:
    if new.id in created:
        first = tuple(
            Dispatch(new.id, node.key, 1, node.task or "", node.queue, node.priority)
            for node in plan.roots()
            if not node.is_loop
        )
        return Started(new.id, True, first + tuple(each for each in opened if each.run_id == new.id))
    assert new.key is not None
    run_id, _ = holders[new.key]
    return Started(run_id, False, ())


def _new_run(plan: Plan, request: StartRequest, digests: Mapping[str, str]) -> NewRun:
    """`digests`: of keys whose request is known to be the same as the first one."""
    tags = tuple(dict.fromkeys((*plan.manifest.tags, *request.tags)))
    body = _with_defaults(plan, request.body)
    digest = None
    if request.key is not None:
        digest = digests.get(request.key) or hashlib.sha256(_canonical(body).encode()).hexdigest()
    run_id = request.run_id or uuid7()
    return NewRun(
        run_id,
        body,
        request.key,
        digest,
        tags,
        request.trigger,
        request.headers,
        scheduled_for=request.scheduled_for,
        schedule=request.schedule,
        given=request.body,
    )


def _canonical(body: str) -> str:
    return json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))


def _with_defaults(plan: Plan, body: str) -> str:
    """The checked body with the defaults of what it leaves out, so that steps find every parameter.

    They are put at the end of the text: what was given is stored to the last digit.
    """
    defaults = _defaults(plan.input_schema)
    given = json.loads(body) if defaults else None
    missing = {name: value for name, value in defaults.items() if isinstance(given, dict) and name not in given}
    if not missing:
        return body
    added = json.dumps(missing, ensure_ascii=False)
    return f"{body.rstrip()[:-1]}, {added[1:]}" if given else added


@lru_cache(maxsize=256)
def _defaults(schema: str) -> dict[str, Any]:
    properties = json.loads(schema).get("properties")
    parts = properties.items() if isinstance(properties, dict) else ()
    return {name: part["default"] for name, part in parts if isinstance(part, dict) and "default" in part}


def _one_per_key(flow: str, new: Iterable[NewRun]) -> list[NewRun]:
    """The first request of each key: the statement may not meet a key twice."""
    first: dict[str, NewRun] = {}
    unique = []
    for each in new:
        same = each if each.key is None else first.setdefault(each.key, each)
        if same.digest != each.digest:
            raise _conflict(flow, each, "is given twice in one call, with different inputs")
        if same is each:
            unique.append(each)
    return unique


def _check_texts(request: StartRequest) -> None:
    refused = values.refusal([request.key, *request.tags, request.trigger])
    if refused is not None:
        raise UsageError(
            f"The key, a tag or the trigger's name of a start of {request.flow} is {refused.problem}, which cannot be "
            "stored. Fix: remove it."
        )
    if request.key is not None and not 1 <= len(request.key) <= KEY_LENGTH:
        raise UsageError(
            f"An idempotency key has 1 to {KEY_LENGTH} characters, this one has {len(request.key)}. "
            + ("Fix: shorten it, for example to a hash." if request.key else "Fix: give one, or leave it out."),
            key=request.key[:50],
        )


def _enabled_hash(ledger: Ledger, flow: str) -> str:
    with ledger.auto() as tx:
        row = starts.definition(tx, flow)
        if row is not None and row.enabled:
            return str(row.manifest_hash)
        if row is not None:
            starts.rejected(tx, flow)
            why = f" ({row.switch_reason})" if row.switch_reason else ""
            raise FlowDisabled(
                f"Flow {flow} is disabled{why}, by {row.switched_by}; nothing was started. "
                f"Fix: `orchestrator flow enable {flow}`.",
                flow=flow,
            )
        raise definitions.unknown_flow(tx, flow)


def _check_body(plan: Plan, body: str) -> None:
    try:
        value: Any = json.loads(body, parse_constant=_not_json)
    except ValueError as exc:
        raise InputInvalid(
            f"The input of {plan.manifest.name} is not JSON: {exc}. Fix: send a JSON object.", path=""
        ) from exc
    refused = values.refusal(value) if values.suspect(body) else None
    if refused is not None:
        raise InputInvalid(
            f"The input of flow {plan.manifest.name} holds at `{refused.place}` {refused.problem}, which cannot be "
            "stored. Fix: replace or remove it.",
            flow=plan.manifest.name,
            path=refused.place,
        )
    error = misfit(plan.input_schema, value)
    if error is not None:
        path = values.show_path(error.path)
        unknown = "" if path else _unknown(plan.manifest.input_schema, value)
        raise InputInvalid(
            f"The input of flow {plan.manifest.name} does not fit{f' at `{path}`' if path else ''}: "
            f"{unknown or f'{error.message}.'} Fix: see "
            f"`orchestrator flow show {plan.manifest.name}` for what it takes.",
            flow=plan.manifest.name,
            path=path,
        )


def _unknown(schema: Mapping[str, Any], value: object) -> str:
    """The first parameter that a flow does not have: more likely a slip than the one that is then missing."""
    known = schema.get("properties", {})
    if not isinstance(value, dict) or not isinstance(known, dict) or schema.get("additionalProperties") is not False:
        return ""
    found = next((name for name in value if name not in known), None)
    if found is None:
        return ""
    return f"unknown input `{found}`; {did_you_mean(found, known) or 'it takes none.'}"


def _not_json(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")
