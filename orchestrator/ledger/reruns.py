"""Runs that are made of other runs."""

import json
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.rerun import Rerun
from orchestrator.core.settling import MARKED
from orchestrator.core.states import RunStatus
from orchestrator.errors import RunNotFound
from orchestrator.ledger.rows import one, run


@dataclass(frozen=True, slots=True)
class Source:
    """The run that is run again. `body` and `headers` are JSON text, as it was started with them."""

    id: UUID
    flow: str
    manifest_hash: str
    status: RunStatus
    body: str
    headers: str | None
    tags: tuple[str, ...]


def hold(tx: Connection, run_id: UUID) -> Source:
    """Read it, and see to it that it is neither retried nor removed meanwhile.

    Raises:
        RunNotFound: no such run.
    """
    row = one(tx, "rerun_source", run_id=run_id)
    if row is None:
        raise RunNotFound(f"No run {run_id}. Fix: `orchestrator run ls` lists them.", run_id=str(run_id))
    status = RunStatus(row.status)
    return Source(row.id, row.flow, row.manifest_hash, status, row.body, row.headers, tuple(row.tags))


def keep(tx: Connection, run_id: UUID, source: UUID, again: Rerun, *, step: str | None, by: str) -> None:
    """The new run, of which nothing was dispatched, takes over what is kept of its source."""
    facts = {"source": str(source), "from": step, "kept": again.kept, "by": by}
    run(
        tx,
        "keep_steps",
        run_id=run_id,
        source_id=source,
        kept=list(again.kept),
        settled=list(again.settled),
        reason=f"kept from run {source}",
        marked=MARKED,
        facts=json.dumps({name: value for name, value in facts.items() if value}),
    )
