"""Long results of a soak are kept in a folder that all share: what the ledger says of it, and what is there, agree; and
when its runs are forgotten, nothing is left."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

import psycopg

from orchestrator.engine import payloads
from orchestrator.engine.sweeps import retention
from orchestrator.ledger.tx import Ledger
from orchestrator.settings import Settings
from tests.proof.history import Change, History, Row
from tests.proof.verdict import Violation

THRESHOLD: Final = 1024
"""Bytes from which a result goes there."""
PATIENCE_S: Final = 60.0
_NOW: Final = timedelta(0)


def read(history: History, folder: Path) -> History:
    """The history with every result, wherever it is."""
    table = "flow_outputs"
    final = {**history.final, table: tuple(_whole(row, folder) for row in history.final.get(table, ()))}
    return replace(history, changes=tuple(_read(one, folder) for one in history.changes), final=final)


def _read(change: Change, folder: Path) -> Change:
    if change.table != "flow_outputs":
        return change
    return replace(change, old=_whole(change.old, folder), new=_whole(change.new, folder))


def _whole(row: Row, folder: Path) -> Row:
    """A row of an output."""
    file = folder / row["reference"] if "reference" in row and "output" not in row else None
    return row if file is None or not file.exists() else {**row, "output": json.loads(file.read_text())}


def astray(final: Mapping[str, Sequence[Row]], folder: Path) -> Iterator[Violation]:
    """What is recorded is there, whole; what is there has a run that it is removed with."""
    owners = {(row["run_id"], row["owner_id"]) for row in final.get("flow_payloads", ())}
    for row in final.get("flow_outputs", ()):
        if "reference" not in row:
            continue
        place, file = (row["run_id"], row["step_key"]), folder / row["reference"]
        data = file.read_bytes() if file.exists() else b""
        if len(data) != row["size_bytes"] or hashlib.sha256(data).hexdigest() != row["sha256"]:
            yield Violation("payloads", f"{len(data)} bytes are there of {row['size_bytes']}", *place, (str(row),))
        if (row["run_id"], owner := row["reference"].partition("/")[0]) not in owners:
            yield Violation("payloads", f"nothing says that it has payloads of run {owner}", *place, (str(row),))
    known = {owner for _, owner in owners}
    for file in _files(folder):
        if (owner := file.relative_to(folder).parts[0]) not in known:
            yield Violation("payloads", f"{file.name} is there, and no run has it", owner)


def left(settings: Settings, url: str, folder: Path) -> Iterator[Violation]:
    """Forget all runs that have ended, and what they kept outside of the ledger: nothing of it is there then. What a
    worker that was killed still holds is passed by, so this is done until nothing is left."""
    ledger = Ledger.connect(url, statement_timeout=timedelta(seconds=PATIENCE_S), name="soak")
    ledger.payloads = settings.payloads()
    try:
        payloads.begin(ledger)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP FUNCTION proof_record CASCADE")  # what is done here is not recorded
            connection.execute("UPDATE flow_idempotency_keys SET expires_at = now() - interval '1 day'")
            ends = monotonic() + PATIENCE_S
            while (found := [*_after_a_pass(ledger, connection, folder)]) and monotonic() < ends:
                sleep(0.5)
    finally:
        ledger.close()
    yield from found


def _after_a_pass(ledger: Ledger, connection: "psycopg.Connection[Any]", folder: Path) -> Iterator[Violation]:
    passed = retention.Passed()
    while retention.runs(ledger, _NOW, passed=passed) or not passed.all:
        pass
    while payloads.sweep(ledger, grace=_NOW):
        pass
    for owner, run_id in connection.execute("SELECT owner_id, run_id FROM flow_payloads").fetchall():
        yield Violation("payloads", f"run {run_id} is forgotten, and something is noted of it", str(owner))
    for file in _files(folder):
        yield Violation("payloads", f"its runs are forgotten, and {file.relative_to(folder)} is there")


def _files(folder: Path) -> Iterator[Path]:
    """Results: every other file is the store's own."""
    yield from folder.rglob("*.json")
