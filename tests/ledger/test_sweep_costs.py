"""What a keeper asks every second costs the same however much there is that is not due yet."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import psycopg
import pytest

from orchestrator.ledger import dispatches, statements, sweeps
from tests.support.factories import Lab

FILL = """
INSERT INTO flow_runs (id, flow, manifest_hash, status, trigger_body, sinks_open, ended_at)
SELECT gen_random_uuid(), 'old', 'x', 'succeeded', '{}', 0, now() FROM generate_series(1, 20000);
INSERT INTO flow_steps (run_id, step_key, position, type, status, queue, priority)
SELECT id, 'done', 0, 'work', 'succeeded', 'default', 5 FROM flow_runs;
INSERT INTO flow_step_claims (run_id, step_key, owner, version, attempt, claimed_at, renewed_at)
SELECT id, 'done', 'w', 1, 1, now(), now() FROM flow_runs;
INSERT INTO flow_runs (id, flow, manifest_hash, status, trigger_body, sinks_open, controlled, parent_run_id,
                       parent_told)
SELECT gen_random_uuid(), 'later', 'x', 'running', '{}', 1, TRUE, gen_random_uuid(), FALSE
  FROM generate_series(1, 5000);
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
        "to_wake",
        "untold",
        "requeue_expired",
        "expired",
        "past_deadline",
        "past_queue_deadline",
        "drop_keys",
        "due_schedules",
        "left_to_newer",
        "next_tick",
        "overrun",
        "startable_ticks",
        "any_waits",
        "open_backfills",
        "drop_ticks",
        "scaling_soon",
    ],
)
def test_nothing_is_read_that_is_not_due(later: Lab, name: str, mode: str) -> None:
    """A comparison with a volatile clock would walk through the whole index, every second, in every keeper."""
    known = {
        "page": 500,
        "crash_limit": 3,
        "deploy_limit": 9,
        "late": timedelta(0),
        "delay": timedelta(0),
        "most": 500,
        "format": 1,
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
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 15  # `due` looks into seven indexes


BACKLOG = """
INSERT INTO flow_workers (id, host, pid, pool, concurrency, prefetch, queues, handlers, release, seen_at)
SELECT 'w', 'h', 1, 'threads', 1, 1, '{deep}', '{f.a}', 'r', now() + interval '1 day' ON CONFLICT DO NOTHING;
INSERT INTO flow_steps (run_id, step_key, position, type, task, status, queued, dispatch_no, queue, priority, ready_at)
SELECT gen_random_uuid(), 'a', 0, 'a', 'f.a', 'ready', TRUE, 1, 'deep', 5, now() - n * interval '1 ms'
  FROM generate_series(1, {count}) AS n;
INSERT INTO flow_step_dispatches (run_id, step_key, dispatch_no, task, queue, priority, published_at, publish_count)
SELECT run_id, step_key, 1, task, queue, priority, now() + interval '1 hour', 1 FROM flow_steps WHERE queue = 'deep'
ON CONFLICT DO NOTHING;
INSERT INTO flow_step_claims (run_id, step_key, owner, version, attempt, claimed_at, renewed_at, expires_at, stop_at)
SELECT gen_random_uuid(), 'r', 'host/' || n % 20 || '/x/t1', 1, 1, now(), now(), now() + interval '1 day',
       now() + interval '1 day'
  FROM generate_series(1, {count}) AS n;
ANALYZE
"""


@pytest.fixture(scope="module")
def deep(_lab: Lab) -> Iterator[tuple[dict[str, int], dict[str, int]]]:
    """Pages that each question reads beside a backlog, and beside one that is three times as deep."""
    _lab.reset()
    found = []
    for count in (12_000, 24_000):
        _lab.execute(BACKLOG.replace("{count}", str(count)))
        found.append({name: _pages(_lab, name) for name in ("outstanding", "lost", "overrun")})
    yield found[0], found[1]
    _lab.reset()
    _lab.execute("ANALYZE")


def _pages(lab: Lab, name: str, **changes: Any) -> int:
    walk: dict[str, Any] = {"page": 500, **sweeps.START.values()}
    losses = {"crash_limit": 3, "deploy_limit": 9}
    values: dict[str, Any] = {
        "due": {"page": 500},
        "requeue_expired": {"page": 500, **losses},
        "expired": {**walk, **losses},
        "past_deadline": walk,
        "past_queue_deadline": walk,
        "outstanding": {"most": dispatches.WINDOW},
        "lost": {
            "queue": "deep",
            "priorities": [5],
            "missing": 16,
            "window": dispatches.WINDOW,
            "begin": None,
            **dict.fromkeys(("after", "unpublished_after", "worker_ttl"), timedelta(seconds=9)),
        },
        "overrun": {"owner": "host/1/x", "prefix": "host/1/x/%", **walk},
    }[name] | changes
    with psycopg.connect(lab.url) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.prepare_threshold = 0
        for _ in range(2):
            query = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statements.sql(name)
            (row,) = connection.execute(query, values).fetchall()
        connection.rollback()
    plan: Any = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.parametrize("name", ["outstanding", "lost", "overrun"])
def test_a_deeper_backlog_costs_no_more(deep: tuple[dict[str, int], dict[str, int]], name: str) -> None:
    """Nothing is lost and nothing overran. A million ready steps must be no standing load."""
    before, after = deep
    assert after[name] <= 1.2 * before[name] + 20, (before, after)


LEADERS: Final = ("outstanding", "lost", "due", "requeue_expired", "expired", "past_deadline", "past_queue_deadline")


@pytest.mark.slow
def test_a_million_ready_steps_are_no_standing_load(lab: Lab) -> None:
    """Beside 12,000 running handlers of twenty workers: a sweep of the leader, and of each worker, reads what it reads
    beside 12,000 ready steps."""
    lab.execute("SET session_replication_role = replica")  # without the recorder's triggers
    spent = []
    for count in (12_000, 988_000):
        lab.execute(BACKLOG.replace("{count}", str(count), 1).replace("{count}", "12000"))
        lab.execute("VACUUM ANALYZE")
        leader = sum(_pages(lab, name) for name in LEADERS)
        spent.append((leader, _pages(lab, "overrun")))
    lab.execute("SET session_replication_role = origin")
    (leader, worker), (leader_beside_a_million, worker_beside_a_million) = spent
    assert leader_beside_a_million <= 1.5 * leader, (spent, "indexes are one page deeper")
    assert worker_beside_a_million <= worker + 20, spent


PARKED = """
INSERT INTO flow_steps (run_id, step_key, position, type, task, status, queued, dispatch_no, queue, priority, ready_at)
SELECT gen_random_uuid(), 'a', 0, 'a', 'f.gone', 'ready', TRUE, 1, 'parked', 5, now() + n * interval '1 ms'
  FROM generate_series(1, 30000) AS n;
INSERT INTO flow_step_dispatches (run_id, step_key, dispatch_no, task, queue, priority)
SELECT run_id, step_key, 1, task, queue, priority FROM flow_steps WHERE queue = 'parked';
"""


@pytest.mark.parametrize("known", ["nothing", "all"])
@pytest.mark.parametrize("behind_s", [0, 15])
def test_a_backlog_that_nobody_can_run_is_read_a_window_at_a_time(lab: Lab, known: str, behind_s: int) -> None:
    """No live worker has the handler. Filtered before it was counted, all of it was read, by the leader, in each
    sweep; whatever the planner knows of it."""
    lab.execute("VACUUM flow_steps")  # what other tests removed would be read too
    begin = lab.rows("SELECT now() + %s * interval '1 s' AS at", behind_s)[0]["at"]
    lab.execute(PARKED)
    lab.execute("ANALYZE" if known == "all" else "SELECT")
    for window in (100, 1000):
        pages = _pages(lab, "lost", queue="parked", window=window, begin=begin)
        assert pages <= 2 * window + 20, "it reads the steps of the window"
