"""What a keeper asks every second costs the same however much there is that is not due yet."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from orchestrator.ledger import statements, sweeps
from tests.support.factories import Lab

FILL = """
INSERT INTO flow_runs (id, flow, manifest_hash, status, trigger_body, sinks_open, ended_at)
SELECT gen_random_uuid(), 'old', 'x', 'succeeded', '{}', 0, now() FROM generate_series(1, 20000);
INSERT INTO flow_steps (run_id, step_key, position, type, status, queue, priority)
SELECT id, 'done', 0, 'work', 'succeeded', 'default', 5 FROM flow_runs;
INSERT INTO flow_step_claims (run_id, step_key, owner, version, attempt, claimed_at, renewed_at)
SELECT id, 'done', 'w', 1, 1, now(), now() FROM flow_runs;
INSERT INTO flow_runs (id, flow, manifest_hash, status, trigger_body, sinks_open, controlled)
SELECT gen_random_uuid(), 'later', 'x', 'running', '{}', 1, TRUE FROM generate_series(1, 5000);
CREATE TEMP TABLE open AS SELECT id FROM flow_runs WHERE flow = 'later';
INSERT INTO flow_run_controls (run_id, deadline) SELECT id, now() + interval '1 day' FROM open;
INSERT INTO flow_steps (run_id, step_key, position, type, status, due_at, queue, priority)
SELECT id, 'sleeps', 0, 'work', 'waiting', now() + interval '1 day', 'default', 5 FROM open;
INSERT INTO flow_steps (run_id, step_key, position, type, status, queued, queue_deadline, queue, priority)
SELECT id, 'queues', 0, 'work', 'ready', TRUE, now() + interval '1 day', 'default', 5 FROM open;
INSERT INTO flow_steps (run_id, step_key, position, type, status, queue, priority)
SELECT id, 'runs', 0, 'work', 'running', 'default', 5 FROM open;
INSERT INTO flow_step_claims (run_id, step_key, owner, version, attempt, claimed_at, renewed_at, expires_at)
SELECT id, 'runs', 'w', 1, 1, now(), now(), now() + interval '1 day' FROM open;
INSERT INTO flow_idempotency_keys (flow, key, run_id, request_hash, expires_at)
SELECT 'later', id::text, id, 'x', now() + interval '1 day' FROM open;
DROP TABLE open;
INSERT INTO flow_definitions (name, version, manifest_hash) VALUES ('later', '1', 'x');
INSERT INTO flow_schedule_states (flow, trigger_key, definition, next_tick_at, due_at)
SELECT 'later', 'k' || n, '{}', now() + interval '1 day', now() + interval '1 day' FROM generate_series(1, 5000) AS n;
INSERT INTO flow_schedule_ticks (flow, trigger_key, scheduled_at, kind, outcome, run_id, lag, by)
SELECT 'later', 'k', now() - row_number() OVER () * interval '1 second', 'cron', 'started', id, '1 second', 'beat'
  FROM flow_runs;
INSERT INTO flow_schedule_ticks (flow, trigger_key, scheduled_at, kind, outcome, by)
SELECT 'later', 'other', now() - n * interval '1 second', 'cron', 'skipped', 'beat' FROM generate_series(1, 20000) AS n;
ANALYZE
"""


@pytest.fixture(scope="module")
def later(_lab: Lab) -> Iterator[Lab]:
    """A history, and 5,000 sleepers, ready steps, live claims, deadlines and keys; nothing of it is due today."""
    _lab.reset()
    _lab.execute(FILL)
    yield _lab
    _lab.reset()
    _lab.execute("ANALYZE")


@pytest.mark.parametrize("mode", ["generic", "custom"])
@pytest.mark.parametrize(
    "name",
    [
        "due",
        "requeue_expired",
        "expired",
        "past_deadline",
        "past_queue_deadline",
        "drop_keys",
        "due_schedules",
        "next_tick",
        "overrun",
        "startable_ticks",
        "any_waits",
        "open_backfills",
        "drop_ticks",
    ],
)
def test_nothing_is_read_that_is_not_due(later: Lab, name: str, mode: str) -> None:
    """A comparison with a volatile clock would walk through the whole index, every second, in every keeper."""
    known = {
        "page": 500,
        "crash_limit": 3,
        "deploy_limit": 9,
        "late": timedelta(0),
        "ttl": timedelta(days=9),
        **sweeps.START.values(),
        "owner": "w",
        "prefix": "w/%",
    }
    values = {key: value for key, value in known.items() if f"%({key})s" in statements.sql(name)}
    with psycopg.connect(later.url) as connection:
        connection.execute(f"SET plan_cache_mode = force_{mode}_plan")
        connection.execute("SET enable_seqscan = off")  # these tables are so small that reading all is quick too
        connection.prepare_threshold = 0
        for _ in range(2):  # the first one reads the catalog too
            query = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statements.sql(name)
            (row,) = connection.execute(query, values).fetchall()
        connection.rollback()
    plan: Any = row[0][0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 10
