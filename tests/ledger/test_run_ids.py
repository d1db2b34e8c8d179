"""A run is found by either end of its id, at the same cost however many runs there are."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from orchestrator.errors import Conflict, RunNotFound
from orchestrator.ledger import reads, statements
from tests.support.factories import Lab

RUNS = 20_000
INSERT = """
INSERT INTO flow_runs (id, flow, manifest_hash, status, trigger_body, sinks_open, ended_at)
SELECT (lpad(to_hex(%(first)s::bigint + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid, 'old', 'x',
       'succeeded', '{}', 0, now()
  FROM unnest(%(ends)s::bigint[]) AS n
"""
"""Ids whose first twelve and last twelve digits are known."""
FIRST = 0x01900000_0000


def insert(lab: Lab, ends: list[int]) -> list[UUID]:
    lab.connection.execute(INSERT, {"first": FIRST, "ends": ends})
    return [UUID(f"{FIRST + n:012x}70008000{n:012x}") for n in ends]


@pytest.fixture
def many(unaudited_lab: Lab) -> Iterator[Lab]:
    """20,000 ended runs, which the planner knows about."""
    unaudited_lab.execute("VACUUM flow_runs")  # what earlier tests deleted would be read, too
    insert(unaudited_lab, list(range(1, RUNS + 1)))
    unaudited_lab.execute("ANALYZE flow_runs")
    yield unaudited_lab
    unaudited_lab.reset()
    unaudited_lab.execute("ANALYZE flow_runs")


def looked_up(lab: Lab, name: str, values: dict[str, Any], mode: str) -> tuple[set[str], int, int]:
    """The indexes that the statement used, the rows it gave, the pages it touched."""
    with psycopg.connect(lab.url) as connection:
        connection.execute(f"SET plan_cache_mode = force_{mode}_plan")
        connection.prepare_threshold = 0
        (row,) = connection.execute(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statements.sql(name), values
        ).fetchall()
    plan = row[0][0]["Plan"]
    return indexes(plan), int(plan["Actual Rows"]), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def indexes(plan: Any) -> set[str]:
    assert plan["Node Type"] != "Seq Scan"
    return {plan["Index Name"]} if "Index Name" in plan else set().union(*map(indexes, plan.get("Plans", ())))


@pytest.mark.parametrize("mode", ["generic", "custom"])
@pytest.mark.parametrize(("ending", "rows"), [("ffff", 0), ("4e20", 1), ("beef", 3), ("01beef", 1), ("77beef", 0)])
def test_an_ending_is_looked_up_by_index(many: Lab, mode: str, ending: str, rows: int) -> None:
    """Whether it fits none, one or several."""
    insert(many, [0xBEEF, 0x01BEEF, 0x02BEEF])
    used, found, pages = looked_up(many, "runs_ending", {"ending": ending}, mode)
    assert (used, found) == ({"ix_flow_runs_ending"}, rows)
    assert pages <= 20


@pytest.mark.parametrize("mode", ["generic", "custom"])
@pytest.mark.parametrize(("beginning", "rows"), [("ffff", 0), ("019000000001", 1), ("0190", 5)])
def test_a_beginning_is_looked_up_by_key(many: Lab, mode: str, beginning: str, rows: int) -> None:
    """Five are enough to say that several fit."""
    bounds = {"low": beginning.ljust(32, "0"), "high": beginning.ljust(32, "f")}
    used, found, pages = looked_up(many, "runs_beginning", bounds, mode)
    assert (used, found) == ({"pk_flow_runs"}, rows)
    assert pages <= 20


def test_part_of_an_id_finds_its_run(unaudited_lab: Lab) -> None:
    """Dashes and capitals do not matter; two that fit are named, the newest first; none and nonsense are not found."""
    one, two = insert(unaudited_lab, [0xAABEEF, 0xBBBEEF])
    find = reads.runs.find
    for text in (str(one), one.hex, one.hex[:12], str(one)[:13], str(one)[-6:].upper(), str(one)[-17:], one.hex[-17:]):
        assert find(unaudited_lab.ledger, text) == one, text
    with pytest.raises(Conflict, match=f"{two}, {one}"):
        find(unaudited_lab.ledger, "beef")
    for text in ("0000beef", "", "eef", "--ef", "%eef", "wxyz", one.hex + "0", "0" * 32):
        with pytest.raises(RunNotFound):
            find(unaudited_lab.ledger, text)
