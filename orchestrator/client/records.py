"""Runs with all that belongs to them, one record after the other: no more than a page of any kind is held."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from orchestrator.client.access import Access
from orchestrator.client.run_handle import RunHandle
from orchestrator.client.wanted import Wanted, filter_of
from orchestrator.engine.runs import export, shown
from orchestrator.errors import ManifestUnreadable, RunNotFound
from orchestrator.ledger import listing
from orchestrator.ledger.reads.rows import RunRow

Record = dict[str, JsonValue]

_LARGE: Final = 20
"""Rows of a page that may each have megabytes: runs with their inputs, outputs."""
_SMALL: Final = 500


def records(client: Access, wanted: Wanted) -> Iterator[Record]:
    """See `Client.all_records`."""
    which, last = filter_of(wanted), None
    while rows := client.read(listing.list_runs, which, limit=_LARGE, after=last):
        for row in client.call(shown.rows, rows):
            yield _record("run", row.id, asdict(row))
            try:
                yield from _below(client, row)
            except (RunNotFound, ManifestUnreadable) as exc:  # it was removed meanwhile, or is of a newer release
                yield _record("error", row.id, {"code": exc.code, "message": exc.message})
        last = rows[-1].id


def _below(client: Access, row: RunRow) -> Iterator[Record]:
    handle: RunHandle[Any] = RunHandle(client, row.id)
    for step in handle.all_steps():
        yield _record("step", row.id, asdict(step))
    place = export.FIRST
    while attempts := client.call(export.attempts, row.id, row.manifest_hash, place, _SMALL):
        for key, attempt in attempts:
            yield _record("attempt", row.id, {"step": key, **asdict(attempt)})
        place = (attempts[-1][0], attempts[-1][1].attempt)
    last = ""
    while outputs := client.call(export.outputs, row.id, row.manifest_hash, last, _LARGE):
        for output in outputs:
            yield _record("output", row.id, asdict(output))
        last = outputs[-1].step
    for event in handle.all_events():
        yield _record("event", row.id, asdict(event))


def _record(kind: str, run_id: UUID, facts: dict[str, Any]) -> Record:
    made: Record = to_jsonable_python({"record": kind, "run": run_id, **facts})
    return made
