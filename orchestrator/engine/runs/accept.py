"""What stands before a run: requests for one version of a flow, their input checked, and with which plan they start."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection
from uuid_utils.compat import uuid7

from orchestrator.core import search, values
from orchestrator.core.facts import StartRequest
from orchestrator.core.inputs import Input
from orchestrator.core.plan import Plan
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.errors import Conflict, FlowDisabled, UsageError
from orchestrator.ledger import definitions, starts
from orchestrator.ledger.starts import NewRun
from orchestrator.ledger.tx import Ledger

TRIES: Final = 3
"""A start plans with the flow's current manifest; a deploy in between makes it plan again."""
KEY_LENGTH: Final = 255


def accept_in(ledger: Ledger, tx: Connection, request: StartRequest) -> tuple[HeldRun, Input]:
    """Accept a request without an idempotency key as part of the caller's transaction; nothing of the run is dispatched
    before the caller opens it. The run, held, and what it was started with.

    Raises: as `start`.
    """
    (batch,) = batches_of([request])
    for plan in plans(ledger, batch):
        (new,) = new_runs(ledger, plan, batch, {})
        if starts.start(tx, plan, [new], pinned=bool(batch.version), closed=True):
            return HeldRun.lock(ledger, tx, new.id), new.input
    raise moving(batch)


@dataclass(frozen=True, slots=True)
class Batch:
    """`places`: where its requests stand among all. An empty `version` is the current one. `later`: its runs begin
    later."""

    flow: str
    version: str
    later: bool
    requests: list[StartRequest]
    places: list[int]


def batches_of(requests: Sequence[StartRequest]) -> list[Batch]:
    """In the order of their flows, so that two starts of the same flows take turns."""
    found: dict[tuple[str, str, bool], Batch] = {}
    for place, request in enumerate(requests):
        _check_texts(request)
        target = request.flow, request.version or "", request.begins is not None
        batch = found.setdefault(target, Batch(*target, [], []))
        batch.requests.append(request)
        batch.places.append(place)
    return [found[target] for target in sorted(found)]


def plans(ledger: Ledger, batch: Batch) -> Iterator[Plan]:
    """What to start with: first what this process believes, then what the ledger says.

    Raises:
        FlowNotFound, FlowDisabled: it takes no starts.
    """
    for attempt in range(TRIES):
        if attempt or not (batch.version or batch.flow in ledger.current):
            ledger.current[batch.flow] = _enabled_hash(ledger, batch.flow)
        yield ledger.plan(batch.version or ledger.current[batch.flow])


def moving(batch: Batch) -> Conflict:
    return Conflict(
        f"Flow {batch.flow} changes its definition faster than it can be started. Fix: try again.", flow=batch.flow
    )


def new_runs(ledger: Ledger, plan: Plan, batch: Batch, digests: Mapping[str, str]) -> list[NewRun]:
    """`digests`: of keys whose request is known to be the same as the first one."""
    names = ledger.names_of(plan.manifest)
    return [_new_run(plan, request, digests, names) for request in batch.requests]


def _new_run(plan: Plan, request: StartRequest, digests: Mapping[str, str], names: frozenset[str]) -> NewRun:
    inputs, body = plan.inputs, request.body
    given = inputs.accept(body) if request.checked else inputs.read(body, names)
    tags = tuple(dict.fromkeys((*plan.manifest.tags, *request.tags)))
    digest = None
    if request.key is not None:
        digest = digests.get(request.key) or given.digest
    found: Mapping[str, search.Scalar] = {}
    if plan.manifest.search:
        shown = [name for name in plan.manifest.search if not search.is_secret(name, names)]
        found = search.values(shown, given.value)
    return NewRun(request.run_id or uuid7(), request, given, tags, digest, found)


# ---- what is refused -------------------------------------------------------------------------------------------


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
