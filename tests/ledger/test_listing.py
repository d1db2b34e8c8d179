"""A page of runs costs what its rows cost, also when hardly any run fits, or none."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event

from orchestrator.core.runfilter import RunFilter
from orchestrator.core.states import RunStatus
from orchestrator.ledger import listing
from tests.support.factories import Lab, call

FILL = """
INSERT INTO flow_runs (id, flow, manifest_hash, status, trigger_body, sinks_open, ended_at, tags)
SELECT gen_random_uuid(), 'demo', v.hash, 'succeeded', '{}', 0, now(), ARRAY['common']
  FROM flow_definition_versions v, generate_series(1, 30000) WHERE v.flow = 'demo';
INSERT INTO flow_runs (id, flow, manifest_hash, status, halt, failures, trigger_body, sinks_open, ended_at, tags)
SELECT gen_random_uuid(), 'demo', v.hash, s, NULLIF(s, 'failed'), (s = 'failed')::int, '{}', 0, now(),
       ARRAY['common', 'rare']
  FROM flow_definition_versions v, unnest(ARRAY['failed', 'cancelled', 'timed_out']) AS s WHERE v.flow = 'demo';
UPDATE flow_runs SET error = '{"type": "ValueError", "message": "boom"}' WHERE status = 'failed';
ANALYZE
"""


@pytest.fixture(scope="module")
def many(_lab: Lab) -> Iterator[Lab]:
    """30,000 runs that succeeded, three that did not."""
    _lab.reset()
    _lab.execute("VACUUM")  # what earlier tests deleted would be walked through
    _lab.flow({"a": call()})
    _lab.flow({"a": call()}, name="idle")
    _lab.execute(FILL)
    yield _lab
    _lab.reset()
    _lab.execute("ANALYZE")


@pytest.mark.parametrize(
    ("wanted", "rows"),
    [
        ({}, 50),
        ({"flow": "demo"}, 50),
        ({"tag": "common"}, 50),
        ({"tag": "rare"}, 3),
        ({"tag": "none"}, 0),
        *[({"status": RunStatus(status)}, 1) for status in ("failed", "cancelled", "timed_out")],
        *[({"status": RunStatus(status)}, 0) for status in ("pending", "running", "waiting")],
        ({"status": RunStatus.FAILED, "flow": "idle"}, 0),
        ({"flow": "idle"}, 0),
        ({"error": "no such error"}, 0),
        ({"key": "no such key"}, 0),
        ({"key": "no such key", "flow": "idle"}, 0),
        ({"error": "BOOM"}, 1),
        ({"status": RunStatus.FAILED, "tag": "common"}, 1),
    ],
    ids=str,
)
def test_a_listing_reads_little_more_than_it_shows(many: Lab, wanted: dict[str, Any], rows: int) -> None:
    """30,000 runs are 600 pages."""
    plans: list[Any] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if "ORDER BY flow_runs.id DESC" in statement:
            cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement, parameters)
            plans.append(cursor.fetchone()[0][0]["Plan"])
            # Among a million runs, not yet among these, the plan for any tag walks through all of them.
            assert cursor.execute("SHOW plan_cache_mode").fetchone() == ("force_custom_plan",)

    event.listen(many.ledger.engine, "before_cursor_execute", explain)
    try:
        for _ in range(2):  # the first one reads the catalog too
            assert len(listing.list_runs(many.ledger, RunFilter.of(**wanted))) == rows
    finally:
        event.remove(many.ledger.engine, "before_cursor_execute", explain)
    assert plans[1]["Shared Hit Blocks"] + plans[1]["Shared Read Blocks"] <= 130
