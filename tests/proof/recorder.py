"""Records a ledger from outside: triggers of a scratch database, and the log that handlers write."""

import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from tests.proof.history import KEYS, Change, Invocation, Message, Row, with_old
from tests.support.lines import whole_lines

_SQL: Final = Path(__file__).with_name("recorder.sql")
_LEFT_OUT: Final[Mapping[str, tuple[str, ...]]] = {
    "flow_runs": ("trigger_body", "trigger_headers", "tags"),
    "flow_steps": ("needs", "item"),
    "flow_step_attempts": ("inputs", "error_traceback"),
    "flow_step_claims": ("progress",),
}
"""Big, and nothing is decided by them."""
_ON_THE_WALL: Final = frozenset({"scheduled_at", "scheduled_for", "next_tick_at", "last_tick_at"})
"""Times that a rule names; they stay on the wall clock, to the second."""
_LENGTH: Final = re.compile(r"^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?$")


def install(url: str) -> None:
    """Record from now on what happens to this ledger. Call it after the migration, before the first run."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_SQL.read_text())
        for table in KEYS:
            left_out = sql.SQL(", ").join(map(sql.Literal, _LEFT_OUT.get(table, ())))
            connection.execute(
                sql.SQL(
                    "CREATE TRIGGER proof_record AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW"
                    " EXECUTE FUNCTION proof_record({})"
                ).format(sql.Identifier(table), left_out)
            )


@dataclass(frozen=True)
class Offset:
    """Monotonic minus wall clock. On one machine the database's clock is the wall clock; that one is slewed, a little
    all the time, so it is read twice and what lies between is on the line."""

    wall_ns: int
    offset_ns: int
    later_ns: int = 0
    drift_ns: int = 0

    @classmethod
    def now(cls) -> "Offset":
        _, wall_ns, offset_ns = min(_reading() for _ in range(20))
        return cls(wall_ns, offset_ns)

    def until_now(self) -> "Offset":
        """Between the first reading and this one."""
        now = Offset.now()
        return replace(self, later_ns=now.wall_ns - self.wall_ns, drift_ns=now.offset_ns - self.offset_ns)

    def monotonic_ns(self, wall_ns: int) -> int:
        """That moment on the monotonic clock."""
        share = (wall_ns - self.wall_ns) / self.later_ns if self.later_ns else 0.0
        return wall_ns + self.offset_ns + int(self.drift_ns * share)


def _reading() -> tuple[int, int, int]:
    """How long it took, the wall clock, and the offset."""
    before = time.monotonic_ns()
    wall = time.time_ns()
    after = time.monotonic_ns()
    return after - before, wall, (before + after) // 2 - wall


def changes(url: str, offset: Offset) -> list[Change]:
    """What the triggers recorded, on the monotonic clock."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        connection.execute("SET timezone = 'UTC'")
        found = connection.execute("SELECT * FROM proof_history ORDER BY seq").fetchall()
    return with_old(
        Change(
            seq=row["seq"],
            at=_instant(row["at"], offset),
            xid=row["xid"],
            table=row["table_name"],
            op=row["op"],
            old=_plain(row["old"] or {}, offset),
            new=_plain(row["new"] or {}, offset),
            run_id=str(row["run_id"] or ""),
            step_key=row["step_key"] or "",
            wall=_since_1970(row["at"]),
        )
        for row in found
    )


def final_rows(url: str, offset: Offset) -> dict[str, tuple[Row, ...]]:
    """Every row of every table of the ledger, as it stands."""
    found: dict[str, tuple[Row, ...]] = {}
    with psycopg.connect(url, row_factory=dict_row) as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.execute("SET intervalstyle = 'iso_8601'")
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename LIKE 'flow\\_%'"
        ).fetchall()
        for table in (row["tablename"] for row in tables):
            query = sql.SQL("SELECT jsonb_strip_nulls(to_jsonb(t)) AS row FROM {} AS t").format(sql.Identifier(table))
            found[table] = tuple(_plain(row["row"], offset) for row in connection.execute(query).fetchall())
    return found


def manifests(url: str) -> dict[str, Row]:
    """By hash, with their format."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        rows = connection.execute("SELECT hash, manifest, format FROM flow_definition_versions").fetchall()
    return {row["hash"]: {**row["manifest"], "format": row["format"]} for row in rows}


def effects(url: str) -> dict[str, tuple[int, ...]]:
    """What transactional steps left behind: key to attempts."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        rows = connection.execute(
            "SELECT key, array_agg(attempt) AS attempts FROM proof_effects GROUP BY key"
        ).fetchall()
    return {row["key"]: tuple(row["attempts"]) for row in rows}


def _plain(row: Mapping[str, Any], offset: Offset) -> Row:
    """Moments and lengths of time as nanoseconds."""
    return {name: _value(name, value, offset) for name, value in row.items()}


def _value(name: str, value: Any, offset: Offset) -> Any:
    if not isinstance(value, str) or name in {"output", "key", "step_key"}:
        return value
    if name in _ON_THE_WALL:
        return _since_1970(datetime.fromisoformat(value))
    if name.endswith("_at") or name in {"deadline", "queue_deadline", "at"}:
        return _instant(datetime.fromisoformat(value), offset)
    if name in {"timeout", "queue_timeout", "queue_wait"} and (length := _LENGTH.match(value)):
        days, hours, minutes, seconds = (float(part or 0) for part in length.groups())
        return int((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1e9)
    return value


def _instant(moment: datetime, offset: Offset) -> int:
    return offset.monotonic_ns(_since_1970(moment))


def _since_1970(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


# ---- the effects log ----


def write_line(path: str, **facts: object) -> None:
    """One line, written whole: concurrent writers never tear each other's."""
    line = json.dumps({"pid": os.getpid(), "ns": time.monotonic_ns(), **facts}, separators=(",", ":")) + "\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def read_log(path: Path) -> tuple[list[Invocation], list[Message]]:
    """The invocations and the messages of an effects log."""
    lines = [json.loads(line) for line in whole_lines(path)]
    ends = {line["token"]: line for line in lines if line["kind"] in ("end", "error")}
    begun = [_invocation(line, ends.get(line["token"])) for line in lines if line["kind"] == "start"]
    return begun, _messages(lines)


def _invocation(start: Mapping[str, Any], end: Mapping[str, Any] | None) -> Invocation:
    parts = start["step"].split(".")
    return Invocation(
        run_id=start["run"],
        step_key=start["step"],
        attempt=start["attempt"],
        pid=start["pid"],
        key=start["key"],
        started_ns=start["ns"],
        ended_ns=end["ns"] if end else None,
        outcome=end["kind"] if end else None,
        token=start["token"],
        seen=tuple(start["seen"]),
        loop_index=int(parts[1]) if len(parts) == 3 else None,
    )


def _messages(lines: Iterable[Mapping[str, Any]]) -> list[Message]:
    return [
        Message(line["run"], line["step"], line["number"], line["pid"], line["ns"])
        for line in lines
        if line["kind"] == "message"
    ]
