"""Every hand-written statement: it can be planned against the migrated schema, by index, at constant cost."""

import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from orchestrator.core.states import ATTEMPT, RUN_MOVES, RunStatus, StepStatus
from orchestrator.ledger import statements
from tests.support.factories import Lab, after, call, loop

SOME_TIME = datetime(2030, 1, 1, tzinfo=UTC)
SOME_ID = UUID("01900000-0000-7000-8000-000000000001")
VALUES: dict[str, Any] = {
    **dict.fromkeys(("run_id", "id", "event_id", "source_id", "child", "parent", "owner_id", "payload_store"), SOME_ID),
    "store": str(SOME_ID),
    "reference": f"{SOME_ID}/a/1.json",
    "size": 5,
    "sha256": "0" * 64,
    "in_output": True,
    **dict.fromkeys(
        ("version", "attempt", "number", "epoch", "after", "position", "pid", "prefetch", "concurrency", "index"), 1
    ),
    **dict.fromkeys(("limit_bytes", "short_bytes", "short"), 1_000_000),
    **dict.fromkeys(
        (
            "failed",
            "crashed",
            "ended",
            "sinks",
            "failures",
            "sinks_open",
            "pointer",
            "missing",
            "before",
            "most",
            "window",
            "tx",
            "high",
        ),
        1,
    ),
    **dict.fromkeys(("page", "limit", "crash_limit", "deploy_limit", "count", "start", "let_in", "priority"), 5),
    **dict.fromkeys(
        ("asks", "chain", "timed_out", "enabled", "expired", "dead", "keep", "consuming", "stopping", "ok"), False
    ),
    **dict.fromkeys(
        (
            "lease",
            "lease_for",
            "delay",
            "every",
            "late",
            "grace",
            "fresh",
            "ttl",
            "worker_ttl",
            "unpublished_after",
            "longest",
        ),
        timedelta(seconds=9),
    ),
    **{
        key: ["a"]
        for key in (
            "step_keys",
            "from_states",
            "keys",
            "queues",
            "handlers",
            "needs",
            "path",
            "reasons",
            "loop_keys",
            "item_keys",
            "kept",
            "settled",
            "statuses",
        )
    },
    **{key: [1] for key in ("versions", "numbers", "priorities", "open", "unmet")},
    **{key: ["a"] for key in ("flows", "scopes", "groups", "key_ids")},
    **dict.fromkeys(("expires_in", "overlap", "lifetime"), timedelta(days=1)),
    **dict.fromkeys(("was", "became"), "{}"),
    "expires_at": None,
    "digest": b"a",
    "disabled": True,
    "cursors": [SOME_TIME],
    "run_ids": [SOME_ID],
    **dict.fromkeys(("output", "result", "inputs", "items", "requests", "rows", "manifest", "steps", "facts"), "[]"),
    **dict.fromkeys(("payload", "shown"), "{}"),
    "approval": True,
    "error": None,
    **dict.fromkeys(("at", "cursor", "due", "last", "until", "overridden_at", "paused_at"), SOME_TIME),
    "times": [SOME_TIME],
    "deploys": [False],
    "max_parallel": 1,
    **dict.fromkeys(("active", "reverse", "is_new"), True),
    "running": [SOME_ID],
    "operation_id": SOME_ID,
    "definition": "{}",
    "decisions": ["{}"],
    **dict.fromkeys(("deadline", "timeout", "queue_timeout"), "5 seconds"),
    "progress": [None],
    "accepted": ["a"],
    **dict.fromkeys(("pinned", "detached", "retried"), False),
    "refuses": "{}",
    **dict.fromkeys(("format", "ordinal"), 1),
    "pair": f"demo.work@{'f' * 64}",
    "ready_at": None,
    "halt": "cancelled",
    "begin": "-infinity",
    "begin_run": SOME_ID,
    "begin_step": "a",
    "silent": "10s",
    "status": "failed",
}
SPECIAL: dict[str, dict[str, Any]] = {
    "forget_polls": {"most": 20},
    "lost": {"after": timedelta(seconds=9)},
    "predecessors_ended": {"ended": [1]},
    "count_stopped": {"ended": [1]},
    "told_by": {"ended": [1]},
    "skip": {"reasons": ["b failed"], "facts": ["{}"]},
    "drop_runs": {"rows": 5, "begin": SOME_ID},
    "api_keys": {"ended": True},
    **{name: {"since": SOME_TIME} for name in ("taken_ticks", "add_backfill")},
    "mirrored_schedules": {"since": 1},
    **{name: {"late": timedelta(0)} for name in ("due_schedules", "left_to_newer")},
    **{name: {"version": "1", "before": "x"} for name in ("introduce", "keep_version", "make_current")},
    "drop_own_events": {"ids": [SOME_ID]},
    **{name: {"ids": ["a"]} for name in ("drain", "undrain")},
    "rejected": {"flow": "demo", "span": timedelta(hours=1)},
    "runs_beginning": {"low": "0" * 32, "high": "0" * 31 + "f"},
    **{name: {"ending": "abcd"} for name in ("runs_ending", "notifications_ending", "deliveries_ending")},
    **{name: {"after": "a"} for name in ("flows", "versions")},
    "keep_request_answer": {"status": 200, "headers": "{}", "answer": "{}"},
    "end_sessions": {"names": ["a session"]},
    **{name: {"id": "h/1/r"} for name in ("seen", "gone", "refuse", "wake")},
    "forget_schedules": {"event_ids": [SOME_ID]},
    "drop_events": {"ids": [SOME_ID]},
    "hello": {"id": "h/1/r", "versions": "{}"},
    **{name: {"id": "evt-1"} for name in ("add_signal", "keep_signal", "sent_signal", "take_signal")},
    "open_approvals": {"run": SOME_ID},
    "tree_of": {"each": 1},
    "add_operation": {
        "action": "cancel",
        "wanted": "{}",
        "options": "{}",
        "left_out": "{}",
        "foreseen": None,
        "key": "k",
    },
    "operations": {"last": SOME_ID, "open": True},
    "operations_beginning": {"low": "0" * 32, "high": "0" * 31 + "f"},
    "operation_runs": {"last": SOME_ID, "outcome": "done"},
    "move_operation": {"state": "paused", "over": True},
    **{
        name: {"begin": SOME_TIME, "until": SOME_TIME + timedelta(hours=1), "crowded": ["a"], "parts": 10}
        for name in ("timeline_bars", "timeline_density")
    },
    "write_logs": {"batches": "[]"},
    "log_batches": {"after_step": "a", "after_attempt": 1, "after_first": 1},
    "rollup_place": {"first": SOME_ID},
    **{name: {"bounds": [0.1, 1.0], "pages": 5} for name in ("rollup_next", "rollup_again")},
    "stats": {"since": SOME_TIME},
    **{name: {"slugs": ["hook"]} for name in ("drop_webhooks", "claim_webhooks")},
    "take_nonces": {"delivery_id": SOME_ID},
    "open_runs_with": {"wanted": ['{"order": 1}']},
    "keep_delivery": {"status": 202, "size_bytes": 2, "raw": b"{}", "replay_of": SOME_ID}
    | dict.fromkeys(("verdicts", "headers", "body"), "{}")
    | {"previous_key": False},
    "deliveries": {"before": SOME_ID},
    **{name: {"span": timedelta(days=1)} for name in ("webhooks", "delivery_counts")},
    "add_subscription": {"types": ["run.failed"], "include": ["output"]},
    "put_subscription": {"types": ["run.failed"], "include": ["output"], "enabled": True},
    **{name: {"before": SOME_ID, "state": "dead"} for name in ("notifications", "notifications_of")},
    "end_notification": {"state": "pending", "pause": timedelta(seconds=5), "claim": 1, "status": 500},
    "add_notification_attempt": {"claim": 1, "duration_ms": 20, "status": 500},
    "claim_notifications": {"breaker": 5, "side_by_side": 4},
    "endpoint_unasked": {"breaker": 5},
    "heard": {"types": ["run.failed"]},
    "heard_by": {"types": ["run.failed"], "ended": [1]},
    "add_notifications": {"give_up": timedelta(days=3)},
    "redrive": {"ids": [SOME_ID], "subscription_id": SOME_ID, "give_up": timedelta(days=3)},
    "endpoint_failed": {"rest": timedelta(minutes=1), "breaker": 5},
    "begin_feed": {"seen": "1:1:"},
    "restart_feed": {"seen": "1:1:"},
    "move_feed": {"seen": "1:1:", "until": None, "event_id": 1},
    "notification_counts": {"span": timedelta(days=1)},
    "gauge_evidence": {"kinds": ["backup"]},
    "gauge_sizes": {"tables": ["flow_runs"]},
    "given_outputs": {"flow": "demo", "version": "x", "source": "a"},
}
HOT = (
    "claim",
    "finish_mid",
    "finish_sink",
    "finish_child",
    "finish_item",
    "finish_open",
    "finish_last",
    "renew",
    "expired",
    "due",
    "lost",
    "outstanding",
    "past_deadline",
    "past_queue_deadline",
    "confirm",
    "lock_run",
    "end_claim",
    "finish_general",
    "end_attempt",
    "end_step",
    "ready",
    "predecessors_ended",
    "skip",
    "take",
    "child_ended",
    "outputs",
    "steps",
    "count_children",
    "children_with",
    "manifest_of",
    "events",
    "told_since",
    "told_by",
    "whole_history",
    "attempts",
    "recorded",
    "undelivered",
    "chained",
    "requeue_expired",
    "requeue_lost",
    "overrun",
    "held_by",
    "held_still",
    "release",
    "run_statuses",
    "runs_beginning",
    "runs_ending",
    "notifications_of",
    "notifications_ending",
    "deliveries_ending",
    "drop_keys",
    "drop_runs",
    "due_schedules",
    "left_to_newer",
    "next_tick",
    "named_schedules",
    "hold_undecided",
    "open_runs",
    "decide",
    "fail_ticks",
    "count_doubles",
    "startable_ticks",
    "start_queued",
    "open_backfills",
    "backfill",
    "start_pending",
    "shown_ticks",
    "lag_of_all",
    "lag_of",
    "taken_ticks",
    "add_pending",
    "end_backfill",
    "scheduled_for",
    "drop_ticks",
    "drop_own_events",
    "drop_stray_events",
    "rejected",
    "operations_due",
    "take_operation_run",
    "operation_runs",
    "rollup_next",
    "rollup_again",
    "drop_rollups",
    "write_logs",
    "log_batches",
    "log_places",
    "exported_attempts",
    "exported_outputs",
    "gauge_runs",
    "gauge_queues",
    "gauge_workers",
    "gauge_oldest_ended",
)
BIG = (
    "flow_runs",
    "flow_steps",
    "flow_step_attempts",
    "flow_outputs",
    "flow_step_dispatches",
    "flow_step_claims",
    "flow_events",
    "flow_schedule_ticks",
    "flow_operation_runs",
    "flow_step_logs",
)


def parameters(name: str) -> dict[str, Any]:
    """A value of the right type for each place of the statement."""
    wanted = set(re.findall(r"%\((\w+)\)s", statements.sql(name)))
    given = {**VALUES, **SPECIAL.get(name, {})}
    return {key: given.get(key, "a") for key in wanted}


def test_every_name_is_given_once() -> None:
    """The second statement of a name would silently take the place of the first."""
    folder = files("orchestrator.ledger").joinpath("sql")
    texts = [file.read_text(encoding="utf-8") for file in folder.iterdir()]
    for marker in ("name", "part"):
        given = [name for text in texts for name in re.findall(rf"^-- {marker}: (\w+)$", text, re.MULTILINE)]
        assert sorted(given) == sorted(set(given))


LEAVES_OUT_EVENTS = [
    name for name in statements.names() if statements.sql(name, essential=True) != statements.sql(name)
]


@pytest.mark.parametrize(
    ("name", "essential"),
    [*((name, False) for name in statements.names()), *((name, True) for name in LEAVES_OUT_EVENTS)],
)
def test_every_statement_runs_against_the_schema(lab: Lab, name: str, essential: bool) -> None:
    """With the types the product sends: not a column, not a cast may be wrong in a path that is seldom taken."""
    text = statements.sql(name, essential=essential)
    with lab.connection.transaction(force_rollback=True):
        if name != "take_time":  # a SET has no plan
            lab.connection.execute("EXPLAIN " + text, parameters(name))
        if name not in {
            "start",
            "switch",
            "rejected",
            "expand",
            "collect",
            "event",
            "halt",
            "put_schedule",
        }:
            lab.connection.execute(text, parameters(name))


@pytest.mark.parametrize("name", statements.names())
def test_every_statement_is_asked_for(name: str) -> None:
    """A statement that nobody runs has no contract worth checking."""
    from pathlib import Path

    import orchestrator

    sources = "\n".join(path.read_text() for path in Path(orchestrator.__file__).parent.rglob("*.py"))
    assert f'"{name}"' in sources


# ---- plans on a ledger with a history ----

FILL = """
INSERT INTO flow_runs (id, flow, manifest_hash, status, trigger_body, sinks_open, created_at, ended_at)
SELECT gen_random_uuid(), 'old', 'x', 'succeeded', '{}', 0, now(), now() FROM generate_series(1, 20000);
INSERT INTO flow_steps (run_id, step_key, position, type, task, status, queue, priority)
SELECT id, key, 0, 'work', 'old.work', 'succeeded', 'default', 5
  FROM flow_runs, unnest(ARRAY['a', 'b']) AS key WHERE flow = 'old';
INSERT INTO flow_step_attempts (run_id, step_key, attempt, version, owner, status)
SELECT run_id, step_key, 1, 1, 'w', 'succeeded' FROM flow_steps;
INSERT INTO flow_outputs (run_id, step_key, output) SELECT run_id, step_key, '1' FROM flow_steps;
INSERT INTO flow_step_dispatches (run_id, step_key, dispatch_no, task, queue, priority)
SELECT run_id, step_key, 1, task, queue, priority FROM flow_steps;
INSERT INTO flow_step_claims (run_id, step_key, owner, version, attempt, claimed_at, renewed_at)
SELECT run_id, step_key, 'w', 1, 1, now(), now() FROM flow_steps;
INSERT INTO flow_events (run_id, type, step_key) SELECT run_id, 'step.succeeded', step_key FROM flow_steps;
INSERT INTO flow_step_logs (run_id, step_key, attempt, first, lines)
SELECT run_id, step_key, 1, 1, '[]' FROM flow_steps;
INSERT INTO flow_run_controls (run_id, deadline, closed) SELECT id, now(), TRUE FROM flow_runs WHERE flow = 'old';
INSERT INTO flow_definitions (name, version, manifest_hash) VALUES ('old', '1', 'x');
INSERT INTO flow_schedule_states (flow, trigger_key, definition, next_tick_at, due_at)
SELECT 'old', 'k' || n, '{}', now() + interval '1 day', now() + interval '1 day' FROM generate_series(1, 200) AS n;
INSERT INTO flow_schedule_ticks (flow, trigger_key, scheduled_at, kind, outcome, run_id, lag, by)
SELECT 'old', 'k' || n % 200, now() - n * interval '1 minute', 'cron', 'started', id, '1 second', 'beat'
  FROM (SELECT id, row_number() OVER () AS n FROM flow_runs WHERE flow = 'old') AS numbered;
INSERT INTO flow_operations (id, action, wanted, options, reason, by, total, left_out)
SELECT gen_random_uuid(), 'cancel', '{}', '{}', 'x', 'op', 20000, '{}';
INSERT INTO flow_operation_runs (operation_id, run_id, outcome)
SELECT o.id, r.id, 'done' FROM flow_operations o, flow_runs r WHERE r.flow = 'old';
"""


@pytest.fixture(scope="module")
def history(_lab: Lab) -> Iterator[Lab]:
    """20,000 ended runs, and one that is under way."""
    _lab.reset()
    _lab.execute(FILL)
    _lab.flow({"a": call(), "b": after("a"), "each": loop([1, 2, 3])})
    _lab.start()
    _lab.execute("ANALYZE")
    yield _lab
    _lab.reset()
    _lab.execute("ANALYZE")


def scans(plan: Any, tables: Collection[str] = BIG) -> Iterator[str]:
    """Tables that a plan reads from end to end."""
    if plan["Node Type"] == "Seq Scan" and plan["Relation Name"] in tables:
        yield plan["Relation Name"]
    for inner in plan.get("Plans", ()):
        yield from scans(inner, tables)


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("name", HOT)
def test_hot_statements_never_read_a_big_table_from_end_to_end(history: Lab, name: str, generic: bool) -> None:
    """Also as a generic plan, which the driver's prepared statements get after some executions."""
    text = statements.sql(name)
    (run_id,) = (row["id"] for row in history.rows("SELECT id FROM flow_runs WHERE flow = 'demo'"))
    values = {key: (run_id if value == SOME_ID else value) for key, value in parameters(name).items()}
    with psycopg.connect(history.url) as connection:
        connection.execute(f"SET plan_cache_mode = force_{'generic' if generic else 'custom'}_plan")
        connection.prepare_threshold = 0
        (row,) = connection.execute("EXPLAIN (FORMAT JSON) " + text, values).fetchall()
        connection.rollback()
    assert list(scans(row[0][0]["Plan"])) == []


def test_a_page_of_steps_costs_the_page_and_children_are_counted_once(history: Lab) -> None:
    history.flow({"each": loop("@triggerBody().items")}, name="wide")
    run_id = history.start("wide", {"items": list(range(2000))})
    page = {"run_id": run_id, "step_keys": [f"each.{n}.do" for n in range(1000, 1010)]}
    assert touched(history, "steps", page) <= 10 * 30
    assert touched(history, "count_children", {"run_id": run_id, "loop_keys": ["each"]}) <= 2 * 2000


# ---- constant work ----


def touched(lab: Lab, name: str, values: dict[str, Any]) -> int:
    """Buffers that one execution touches; rolled back."""
    with lab.connection.transaction(force_rollback=True):
        (row,) = lab.connection.execute(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statements.sql(name), values
        ).fetchall()
        plan = row["QUERY PLAN"][0]["Plan"]
        return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


@pytest.mark.parametrize("concurrency", [None, 4])
def test_finishing_a_child_costs_the_same_in_a_wide_loop(lab: Lab, concurrency: int | None) -> None:
    """Nobody reads or locks the siblings: 10 or 10,000 of them make no difference but the depth of an index."""
    lab.flow({"each": loop("@triggerBody().items", concurrency=concurrency)})
    cost = {}
    for width in (10, 10_000):
        run_id = lab.start(body={"items": list(range(width))})
        lab.execute("ANALYZE flow_steps")
        for n in range(3):
            lab.do(run_id, f"each.{n}.do")
        lease = lab.take(run_id, "each.3.do")
        values = {
            "run_id": run_id,
            "step_key": lease.step_key,
            "version": lease.fence,
            "owner": lease.owner,
            "output": "1",
            "inputs": None,
            "loop_key": "each",
            "body_key": "do",
            "chain": False,
            "lease_for": timedelta(seconds=30),
        }
        touched(lab, "finish_child", values)
        cost[width] = touched(lab, "finish_child", values)
    assert cost[10_000] <= cost[10] * 1.5 + 20, cost


def test_claiming_costs_the_same_in_a_wide_loop(lab: Lab) -> None:
    """The claim is by key."""
    lab.flow({"each": loop("@triggerBody().items")})
    cost = {}
    for width in (10, 10_000):
        run_id = lab.start(body={"items": list(range(width))})
        lab.execute("ANALYZE flow_steps")
        values = {
            "run_id": run_id,
            "step_key": "each.5.do",
            "number": 1,
            "owner": "w",
            "lease_for": timedelta(seconds=30),
        }
        values["accepted"] = None
        touched(lab, "claim", values)
        cost[width] = touched(lab, "claim", values)
    assert cost[10_000] <= cost[10] * 1.5 + 20, cost


def test_a_tick_costs_the_same_after_a_long_history(lab: Lab) -> None:
    """What is open is looked for among the last hundred runs; skipped ticks are not read."""
    lab.flow({"a": call()}, triggers={"m": {"type": "every", "interval": "PT1M", "overlap": "skip"}})
    cost = {}
    ticks_ = """
      INSERT INTO flow_schedule_ticks (flow, trigger_key, scheduled_at, kind, outcome, run_id, by)
      SELECT 'demo', 'm', now() - (%s - n) * interval '1 second', 'cron',
             CASE WHEN n < 200 THEN 'started' ELSE 'skipped' END,
             CASE WHEN n < 200 THEN gen_random_uuid() END, 'beat' FROM generate_series(1, %s) AS n
      ON CONFLICT DO NOTHING"""
    values = {"flows": ["demo"], "keys": ["m"]}
    for length in (200, 20_000):
        lab.execute(ticks_, length, length)
        lab.execute("ANALYZE flow_schedule_ticks")
        touched(lab, "open_runs", values)
        cost[length] = touched(lab, "open_runs", values)
    assert cost[20_000] <= cost[200] * 1.5 + 20, cost


def test_claiming_notifications_reads_neither_the_backlog_nor_what_is_over(unaudited_lab: Lab) -> None:
    """Senders ask twenty times a second while they are busy; an endpoint that is away leaves a hundred thousand."""
    lab = unaudited_lab
    lab.execute(
        "INSERT INTO flow_endpoints (address) VALUES ('x');"
        "INSERT INTO flow_subscriptions (id, name, kind, address, types, include, created_by)"
        f" VALUES ('{SOME_ID}', 'crm', 'json', 'x', '{{}}', '{{}}', 'ann'),"
        " (gen_random_uuid(), 'shop', 'json', 'x', '{}', '{}', 'ann')"
    )
    rows = """
      INSERT INTO flow_notifications (id, subscription_id, event_id, type, at, data, state, due_at, give_up_at)
      SELECT gen_random_uuid(), %s, n, 'run.failed', now(), '{}',
             CASE WHEN n %% 2 = 0 THEN 'pending' ELSE 'delivered' END, now() - n * interval '1 second',
             now() + interval '1 day' FROM generate_series(%s::int, %s::int) AS n"""
    values = {"breaker": 5, "side_by_side": 4, "limit": 32, "lease": timedelta(minutes=1)}
    cost = {}
    for first, last in ((1, 100), (101, 20_000)):
        lab.execute(rows, SOME_ID, first, last)
        lab.execute("ANALYZE flow_notifications")
        touched(lab, "claim_notifications", values)
        cost[last] = touched(lab, "claim_notifications", values)
    assert cost[20_000] <= cost[100] * 1.5 + 40, cost


def test_what_one_subscription_is_told_is_found_beside_many_of_others(unaudited_lab: Lab) -> None:
    """By its name, or by the end of an id."""
    lab = unaudited_lab
    lab.execute(
        "INSERT INTO flow_endpoints (address) VALUES ('x');"
        "INSERT INTO flow_subscriptions (id, name, kind, address, types, include, created_by)"
        f" VALUES ('{SOME_ID}', 'crm', 'json', 'x', '{{}}', '{{}}', 'ann'),"
        " (gen_random_uuid(), 'shop', 'json', 'x', '{}', '{}', 'ann')"
    )
    rows = """
      INSERT INTO flow_notifications (id, subscription_id, event_id, type, at, data, give_up_at)
      SELECT gen_random_uuid(), (SELECT id FROM flow_subscriptions WHERE name = %s), n, 'run.failed', now(), '{}', now()
        FROM generate_series(1, %s::int) AS n"""
    lab.execute(rows, "crm", 5)
    asked = {
        "notifications_of": {"subscription": "crm", "state": None, "before": None, "limit": 50},
        "notifications_ending": {"ending": "abcdabcd"},
    }
    cost: dict[str, dict[int, int]] = {name: {} for name in asked}
    for others in (100, 20_000):
        lab.execute("DELETE FROM flow_notifications WHERE subscription_id <> %s", SOME_ID)
        lab.execute(rows, "shop", others)
        lab.execute("VACUUM ANALYZE flow_notifications")
        for name, values in asked.items():
            touched(lab, name, values)
            cost[name][others] = touched(lab, name, values)
    assert all(found[20_000] <= found[100] * 1.5 + 20 for found in cost.values()), cost


def test_listing_schedules_reads_no_run_that_has_ended(unaudited_lab: Lab) -> None:
    """The last runs of ten thousand schedules are a million."""
    lab = unaudited_lab
    lab.flow({"a": call()}, triggers={"m": {"type": "every", "interval": "PT1M", "overlap": "skip"}})
    asked = dict.fromkeys(("flow", "key", "after_flow", "after_key", "most"))
    cost = {}
    for count in (5, 95):
        lab.execute(
            "WITH run AS (INSERT INTO flow_runs (id, flow, manifest_hash, status, trigger_body, sinks_open, ended_at,"
            " scheduled_for) SELECT gen_random_uuid(), 'demo', 'x', 'succeeded', '{}', 0, now(),"
            " now() - n * interval '1 second' FROM generate_series(1, %s) AS n RETURNING id, scheduled_for)"
            " INSERT INTO flow_schedule_ticks (flow, trigger_key, scheduled_at, kind, outcome, run_id, by)"
            " SELECT 'demo', 'm', scheduled_for, 'cron', 'started', id, 'beat' FROM run",
            count,
        )
        touched(lab, "shown_schedules", asked)
        cost[count] = touched(lab, "shown_schedules", asked)
    assert cost[95] <= cost[5] + 20, cost


@pytest.fixture
def many_schedules(lab: Lab) -> Iterator[Lab]:
    """Ten thousand; neither they nor what is left of them is seen by other tests."""
    lab.flow({"a": call()})
    lab.execute("VACUUM FULL flow_schedule_states")
    lab.execute(
        "INSERT INTO flow_schedule_states (flow, trigger_key, definition, next_tick_at, due_at)"
        " SELECT 'demo', 'k' || n, '{}', now(), now() FROM generate_series(1, 10000) AS n"
    )
    lab.execute("ANALYZE flow_schedule_states")
    yield lab
    lab.reset()
    lab.execute("VACUUM FULL ANALYZE flow_schedule_states")


def test_a_batch_reads_its_schedules_and_no_others(many_schedules: Lab) -> None:
    """With a generic plan: the server has to guess how many a batch has, and to guess few."""
    with psycopg.connect(many_schedules.url, autocommit=True) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.prepare_threshold = 0
        for name in ("named_schedules", "hold_undecided", "open_runs", "decide", "count_doubles"):
            (row,) = connection.execute("EXPLAIN (FORMAT JSON) " + statements.sql(name), parameters(name)).fetchall()
            assert list(scans(row[0][0]["Plan"], {"flow_schedule_states"})) == [], name


# ---- states ----


def test_statuses_in_the_statements_are_declared() -> None:
    """A misspelt literal would be found by nobody else."""
    known = {*map(str, StepStatus), *map(str, RunStatus), *map(str, ATTEMPT)}
    for name in statements.names():
        text = statements.sql(name)
        for match in re.findall(
            r"\bstatus (?:=|<>) '(\w+)'|\bstatus = CASE (.*?) END|\bstatus IN \(([^)]*)\)", text, re.DOTALL
        ):
            literals = re.findall(r"'(\w+)'", match[1] + match[2]) + ([match[0]] if match[0] else [])
            assert set(literals) <= known, f"{name}: {literals}"


def test_moves_into_final_runs_leave_open_ones_only() -> None:
    """Or an operator's retry."""
    assert {
        str(target) for (source, _), target in RUN_MOVES.items() if source in {"failed", "cancelled", "timed_out"}
    } == {"running"}


def test_flow_refuse_takes_everything_back(lab: Lab) -> None:
    """A refused statement wrote nothing, whatever ran before the refusal."""
    run_id = lab.run({"each": loop([1])})
    lease = lab.take(run_id, "each.0.do")
    before = lab.snapshot()
    values = {
        **parameters("finish_child"),
        "run_id": run_id,
        "step_key": lease.step_key,
        "version": lease.fence,
        "owner": "w1",
    }
    with pytest.raises(psycopg.Error) as caught:
        lab.connection.execute(
            statements.sql("finish_child"), {**values, "loop_key": "each", "body_key": "do", "output": "1"}
        )
    assert caught.value.sqlstate == "FLOW1"
    assert lab.snapshot() == before
    lab.done(lease)


def test_an_unknown_run_id_is_no_error(lab: Lab) -> None:
    """Statements by key give no row."""
    values = {"run_id": uuid4(), "step_key": "a", "number": 1, "owner": "w", "lease_for": timedelta(seconds=1)}
    values["accepted"] = None
    assert lab.connection.execute(statements.sql("claim"), values).fetchall() == []
