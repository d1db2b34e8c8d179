"""Registered flows and their versions."""

from dataclasses import asdict, dataclass
from datetime import timedelta

from pydantic import JsonValue

from orchestrator.errors import PayloadLost, PayloadUnavailable
from orchestrator.ledger import definitions, outputs
from orchestrator.ledger.reads import workers
from orchestrator.ledger.reads.rows import FlowRow, VersionRow
from orchestrator.ledger.rows import one, run
from orchestrator.ledger.tx import Ledger


def every(ledger: Ledger, after: str | None = None, most: int | None = None) -> list[FlowRow]:
    """The registered flows by name; `most` of them, behind the one named `after`."""
    with ledger.auto() as tx:
        return [FlowRow(*tuple(row)) for row in run(tx, "flows", name=None, after=after, most=most)]


def get(ledger: Ledger, name: str) -> FlowRow:
    """
    Raises:
        FlowNotFound: with the nearest name there is.
    """
    with ledger.auto() as tx:
        row = one(tx, "flows", name=name, after=None, most=None)
        if row is None:
            raise definitions.unknown_flow(tx, name)
    return FlowRow(*tuple(row))


def is_unserved(ledger: Ledger, name: str, ttl: timedelta = workers.TTL) -> bool:
    """Whether no live worker has a handler of the flow's current version.

    Raises:
        FlowNotFound: no such flow.
    """
    plan = ledger.plan(get(ledger, name).manifest_hash)
    handlers = {handler for worker in workers.every(ledger, ttl) if worker.live for handler in worker.handlers}
    return not handlers & {node.task for node in plan.every()}


def versions(ledger: Ledger, flow: str, after: str | None = None, most: int | None = None) -> list[VersionRow]:
    """The versions of a flow in their order; `most` of them, behind the one of the hash `after`.

    Raises:
        FlowNotFound: with the nearest name there is.
    """
    with ledger.auto() as tx:
        found = [VersionRow(*tuple(row)) for row in run(tx, "versions", flow=flow, after=after, most=most)]
        if not found and after is None:
            raise definitions.unknown_flow(tx, flow)
    return found


def current_versions(ledger: Ledger) -> dict[str, str]:
    """By flow, the hash of its current version."""
    with ledger.auto() as tx:
        return {row.name: row.manifest_hash for row in run(tx, "current_versions")}


def open_steps(ledger: Ledger, flow: str) -> dict[tuple[str, str], int]:
    """How many open runs have yet to end a step, by version (manifest hash) and step."""
    with ledger.auto() as tx:
        return {(row.manifest_hash, row.step_key): row.runs for row in run(tx, "open_steps", flow=flow)}


@dataclass(frozen=True, slots=True)
class Reader:
    """A step of one version of a flow that reads what another one, its `source`, gave."""

    flow: str
    version: str
    step_key: str
    source: str


def given_outputs(ledger: Ledger, by: Reader, limit: int) -> tuple[list[JsonValue], int]:
    """What a step gave in open runs that have yet to end the one that reads it; and how many more there are, in the
    payload store, that cannot be read here."""
    with ledger.auto() as tx:
        rows = run(tx, "given_outputs", **asdict(by), limit=limit).all()
    found: list[JsonValue] = []
    for row in sorted(rows, key=lambda row: row.payload is not None):
        try:
            found.append(outputs.whole(ledger, row))
        except PayloadLost:
            continue
        except PayloadUnavailable:  # so it is for all others
            break
    return found, len(rows) - len(found)
