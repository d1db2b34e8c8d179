"""What was tried and found out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import Connection

from orchestrator.core.evidence import Kind
from orchestrator.ledger.rows import run


@dataclass(frozen=True, slots=True)
class Evidence:
    """Something was tried `at` that time, and did (`ok`) or did not do what it should; `facts` say what was found."""

    kind: Kind
    at: datetime
    ok: bool
    facts: Mapping[str, JsonValue]
    by: str

    @classmethod
    def of(cls, kind: str, *rest: object) -> "Evidence":
        return cls(Kind(kind), *rest)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Tried:
    """The same, before it is recorded. Without `at`: just now."""

    kind: Kind
    ok: bool
    facts: Mapping[str, JsonValue]
    at: datetime | None = None


def keep(tx: Connection, tried: Tried, by: str) -> Evidence:
    """Record it."""
    row = run(
        tx, "keep_evidence", kind=tried.kind, at=tried.at, ok=tried.ok, facts=json.dumps(dict(tried.facts)), by=by
    ).one()
    return Evidence.of(*tuple(row))


def last(tx: Connection, kind: Kind | None = None, most: int = 1) -> list[Evidence]:
    """The newest of each kind, or of one, at most that many of it."""
    return [Evidence.of(*tuple(row)) for row in run(tx, "evidence", kind=kind, most=most)]
