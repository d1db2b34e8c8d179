"""A ledger to play with: flows from plain dicts, a worker without Celery, a clock that moves, an audit at the end."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from orchestrator.core.facts import (
    Chain,
    Claimant,
    Dispatch,
    Failure,
    Finished,
    Lease,
    StartRequest,
    StepError,
    Success,
)
from orchestrator.core.manifest import Manifest
from orchestrator.core.plan import Plan
from orchestrator.core.states import FINAL_RUN, FINAL_STEP, RUN_MOVES, STEP_MOVES, RunStatus, StepStatus
from orchestrator.engine.flows import register
from orchestrator.engine.runs import start_run
from orchestrator.engine.steps import claim_step, fail_step, finish_step
from orchestrator.ledger import reads, rows, statements
from orchestrator.ledger.schema import metadata
from orchestrator.ledger.tx import Ledger
from tests.support.race import Later, race

LEASE = timedelta(seconds=30)
BOOM = StepError("ValueError", "boom")

RECORDER = """
CREATE TABLE test_moves (kind text, old text, new text, run_id uuid, step_key text);
CREATE FUNCTION test_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_TABLE_NAME = 'flow_runs' THEN
    INSERT INTO test_moves VALUES ('run', OLD.status, NEW.status, NEW.id, NULL);
  ELSE
    INSERT INTO test_moves VALUES ('step', OLD.status, NEW.status, NEW.run_id, NEW.step_key);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER test_record AFTER UPDATE ON flow_runs FOR EACH ROW
  WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION test_record();
CREATE TRIGGER test_record AFTER UPDATE ON flow_steps FOR EACH ROW
  WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION test_record();
"""
"""Every change of a status, as it was committed: what the table of moves is held against."""


def call(type_: str = "work", /, **fields: Any) -> dict[str, Any]:
    """A plain step of a manifest."""
    return {"type": type_, **fields}


def after(*keys: str, **fields: Any) -> dict[str, Any]:
    """A plain step that waits for the success of others."""
    return call(run_after={key: ["succeeded"] for key in keys}, **fields)


def loop(
    for_each: Any, *, concurrency: int | None = None, body: Mapping[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """A loop whose body gets the item."""
    window = {} if concurrency is None else {"concurrency": concurrency}
    child = {"type": "work", "inputs": {"item": "@item()", "index": "@index()"}, **(body or {})}
    return {"for_each": for_each, "steps": {"do": child}, **window, **fields}


def retry(attempts: int, *delays_s: float) -> dict[str, Any]:
    """A step's `retry`."""
    return {"max_attempts": attempts, "backoff": {"delays": [f"PT{delay}S" for delay in delays_s or (1.0,)]}}


@dataclass
class Lab:
    """One test's ledger. The methods play the parts around the engine: a worker, a broker, people."""

    url: str
    ledger: Ledger
    connection: psycopg.Connection[dict[str, Any]] = field(init=False, repr=False)
    """The test's own session, each statement its own commit."""
    offset_s: float = 0.0
    way: Callable[..., Ledger] | None = None
    """How ledgers of other processes are made, where they are not `Ledger.connect(url, …)`."""

    shares_sessions: bool = False
    """Whether a session that ends between two statements is the pooler's, and nobody sees it."""

    def another(self, **options: Any) -> Ledger:
        """The same database, as another process has it."""
        return Ledger.connect(self.url, **options) if self.way is None else self.way(**options)

    def __post_init__(self) -> None:
        self.connection = psycopg.connect(self.url, autocommit=True, row_factory=dict_row)

    def reset(self) -> None:
        """An empty ledger at the database's own time."""
        tables = [table.name for table in reversed(metadata.sorted_tables)]
        self.execute("; ".join(f"DELETE FROM {table}" for table in (*tables, "test_moves")))
        if self.offset_s:
            self.forward(-self.offset_s)
        self.ledger.current.clear()

    # ---- flows and runs ----

    def flow(self, steps: Mapping[str, Any], name: str = "demo", **fields: Any) -> Manifest:
        """Register a manifest."""
        manifest = Manifest(name=name, steps=dict(steps), **fields)
        register.deploy(self.ledger, manifest)
        return manifest

    def start(self, flow: str = "demo", body: Any = None, **fields: Any) -> UUID:
        """The id of a new run."""
        (started,) = start_run.start(
            self.ledger, [StartRequest(flow, json.dumps({} if body is None else body), **fields)]
        )
        return started.run_id

    def run(self, steps: Mapping[str, Any], body: Any = None, **fields: Any) -> UUID:
        """Register and start."""
        self.flow(steps, **fields)
        return self.start(body=body, flow=fields.get("name", "demo"))

    # ---- a worker ----

    def take(self, run_id: UUID, key: str, owner: str = "w1", lease: timedelta = LEASE) -> Lease:
        """Claim a step that is ready."""
        found = self.try_take(run_id, key, owner, lease)
        assert found is not None, f"{key} cannot be claimed: {self.statuses(run_id)}"
        return found

    def try_take(self, run_id: UUID, key: str, owner: str = "w1", lease: timedelta = LEASE) -> Lease | None:
        return claim_step.claim(self.ledger, run_id, key, self.number(run_id, key), Claimant(owner, lease))

    def number(self, run_id: UUID, key: str) -> int:
        """The step's present dispatch number."""
        (row,) = self.rows("SELECT dispatch_no FROM flow_steps WHERE run_id = %s AND step_key = %s", run_id, key)
        return int(row["dispatch_no"])

    def done(self, lease: Lease, output: Any = None, *, chain: bool = False, inputs: str | None = None) -> Finished:
        """Finish with success."""
        offer = Chain(LEASE, frozenset({lease.task})) if chain else None
        return finish_step.finish(self.ledger, lease, Success(json.dumps(output), inputs, offer))

    def fail(self, lease: Lease, error: StepError = BOOM, *, retryable: bool = True, jitter: float = 0.5) -> Finished:
        """Finish with failure."""
        return fail_step.fail(self.ledger, lease, Failure(error, retryable, jitter=jitter))

    def do(self, run_id: UUID, *keys: str, output: Any = None) -> Finished:
        """Claim and finish each."""
        finished = Finished()
        for key in keys:
            finished = self.done(self.take(run_id, key), key if output is None else output)
        return finished

    def do_fail(self, run_id: UUID, key: str, **fields: Any) -> Finished:
        """Claim and fail for good."""
        return self.fail(self.take(run_id, key), retryable=False, **fields)

    def inputs(self, lease: Lease) -> Any:
        """What the handler would get."""
        return json.loads(claim_step.inputs(self.ledger, lease))

    def drain(
        self, run_id: UUID, work: Callable[[Lease], Any] | None = None, *, chain: bool = False, limit: int = 10_000
    ) -> list[str]:
        """Run whatever is ready until nothing is; the keys in the order they ran."""
        order: list[str] = []
        while ready := self.ready(run_id):
            lease: Lease | None = self.take(run_id, ready[0])
            while lease is not None:
                order.append(lease.step_key)
                assert len(order) <= limit
                lease = self.done(lease, work(lease) if work else lease.step_key, chain=chain).next
        return order

    # ---- what is there ----

    def close(self) -> None:
        self.connection.close()
        self.ledger.close()

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        return self.connection.execute(query, values).fetchall()

    def execute(self, query: str, *values: Any) -> None:
        self.connection.execute(query, values or None)

    def statuses(self, run_id: UUID) -> dict[str, str]:
        """Status by step key."""
        found = self.rows("SELECT step_key, status FROM flow_steps WHERE run_id = %s ORDER BY step_key", run_id)
        return {row["step_key"]: row["status"] for row in found}

    def status(self, run_id: UUID) -> RunStatus:
        return reads.runs.status(self.ledger, run_id)

    def step(self, run_id: UUID, key: str) -> dict[str, Any]:
        """A step's whole row."""
        (row,) = self.rows("SELECT * FROM flow_steps WHERE run_id = %s AND step_key = %s", run_id, key)
        return row

    def run_row(self, run_id: UUID) -> dict[str, Any]:
        (row,) = self.rows("SELECT * FROM flow_runs WHERE id = %s", run_id)
        return row

    def ready(self, run_id: UUID) -> list[str]:
        """Keys of ready steps, oldest first."""
        order = "ORDER BY ready_at, position, loop_index"
        query = f"SELECT step_key FROM flow_steps WHERE run_id = %s AND status = 'ready' {order}"
        return [row["step_key"] for row in self.rows(query, run_id)]

    def events(self, run_id: UUID) -> list[str]:
        """`type` or `type step`, in order."""
        return [f"{e.type} {e.step_key}" if e.step_key else e.type for e in reads.events.of_run(self.ledger, run_id)]

    def attempts(self, run_id: UUID, key: str) -> list[tuple[int, str]]:
        """Number and status of each attempt."""
        return [(row.attempt, row.status) for row in reads.steps.attempts(self.ledger, run_id, key)]

    def snapshot(self) -> dict[str, list[str]]:
        """Every row but counters of suppressed messages: equal before and after what may write nothing."""
        tables = (
            "flow_runs",
            "flow_steps",
            "flow_step_attempts",
            "flow_outputs",
            "flow_step_claims",
            "flow_events",
            "flow_run_controls",
        )
        return {table: sorted(row["t"] for row in self.rows(f"SELECT t::text FROM {table} AS t")) for table in tables}

    # ---- the clock ----

    def forward(self, by: timedelta | float) -> None:
        """Move the ledger's clock ahead, on top of what it was moved before."""
        seconds = by.total_seconds() if isinstance(by, timedelta) else by
        self.offset_s += seconds
        self.execute(
            "CREATE OR REPLACE FUNCTION flow_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE "
            f"AS $$SELECT clock_timestamp() + interval '{self.offset_s} seconds'$$"
        )

    def now(self) -> datetime:
        return reads.clock.now(self.ledger)

    # ---- locks ----

    @contextmanager
    def holding(self, query: str, *values: Any) -> Iterator[psycopg.Connection[Any]]:
        """Another session that ran `query` and has not committed; it commits at the end of the block."""
        with psycopg.connect(self.url) as connection:
            connection.execute(query, values)
            yield connection

    def waiting_sessions(self) -> int:
        """Sessions of this database that wait for a lock."""
        query = (
            "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return int(self.rows(query)[0]["n"])

    def race(self, *calls: Callable[[], Any]) -> list[Any]:
        """Let calls collide; their results or exceptions."""
        return race(*calls, at_end=self.ledger.release_thread)

    def later(self, call: Callable[[], Any]) -> Later:
        """A call that is expected to wait."""
        return Later(call, at_end=self.ledger.release_thread)

    # ---- the audit ----

    def audit(self) -> None:
        """Every rule that holds between two transactions, whatever the test did."""
        for move in self.rows("SELECT DISTINCT kind, old, new FROM test_moves"):
            declared = RUN_MOVES if move["kind"] == "run" else STEP_MOVES
            pairs = {(str(source), str(target)) for (source, _), target in declared.items()}
            assert (move["old"], move["new"]) in pairs, f"{move} is no declared move"
        wrong = self.rows(
            "SELECT w.step_key, s.status FROM flow_signal_waiters w JOIN flow_steps s USING (run_id, step_key)"
            " WHERE (w.closed_at IS NULL) <> (s.status = 'waiting')"
        )
        assert not wrong, f"a wait is open as long as its step waits: {wrong}"
        for run in self.rows("SELECT * FROM flow_runs"):
            self._audit_run(run)

    def _audit_run(self, run: dict[str, Any]) -> None:
        steps = {row["step_key"]: row for row in self.rows("SELECT * FROM flow_steps WHERE run_id = %s", run["id"])}
        claims = {
            row["step_key"]: row for row in self.rows("SELECT * FROM flow_step_claims WHERE run_id = %s", run["id"])
        }
        open_ = {key for key, step in steps.items() if StepStatus(step["status"]) not in FINAL_STEP}
        live = {key for key, claim in claims.items() if claim["expires_at"] is not None}
        running = {key for key, step in steps.items() if step["status"] == "running" and step["type"] is not None}
        assert live == running, f"live claims {live} are not the running steps {running}"
        for key, step in steps.items():
            assert step["queued"] == (step["status"] == "ready"), key
            assert step["due_at"] is None or step["status"] == "waiting", key
            assert step["queue_deadline"] is None or step["queued"], key
        self._audit_counters(run, steps)
        if RunStatus(run["status"]) in FINAL_RUN:
            assert not open_, f"the run is {run['status']} with open steps {open_}"
            assert run["ended_at"] is not None
            (left,) = self.rows(
                "SELECT count(*) AS n FROM flow_run_controls WHERE run_id = %s AND NOT closed", run["id"]
            )
            assert left["n"] == 0, "the controls of an ended run are closed"
        else:
            called = {key for key in open_ if steps[key]["status"] == "running" and steps[key]["kind"] == "flow"}
            moving = {key for key in open_ if steps[key]["status"] in {"ready", "waiting"}} | running | called
            later = self.rows(
                "SELECT FROM flow_run_controls WHERE run_id = %s AND NOT closed AND start_at IS NOT NULL", run["id"]
            )
            assert moving or later, f"the run is {run['status']} and nothing of it can move: {self.statuses(run['id'])}"
            assert run["ended_at"] is None
        self._audit_dispatches(run["id"])

    def _audit_counters(self, run: dict[str, Any], steps: dict[str, dict[str, Any]]) -> None:
        plan = self.ledger.plan(run["manifest_hash"])
        status = {key: StepStatus(step["status"]) for key, step in steps.items()}
        halted = run["halt"] is not None
        for key, node in plan.nodes.items():
            before = node.definition.run_after
            if status[key] is StepStatus.BLOCKED:
                assert steps[key]["deps_open"] == sum(status[name] not in FINAL_STEP for name in before), key
                unmet = sum(
                    status[name] in FINAL_STEP and status[name] not in accepted for name, accepted in before.items()
                )
                assert steps[key]["deps_unmet"] == unmet, key
        self._audit_items(plan, steps, status)
        for key, node in plan.nodes.items():
            if node.is_loop and status[key] is StepStatus.RUNNING:
                children = [status[name] for name, step in steps.items() if step["loop_key"] == key]
                assert steps[key]["children_open"] == sum(child not in FINAL_STEP for child in children), key
                window = node.definition.concurrency
                moving = sum(child not in FINAL_STEP and child is not StepStatus.BLOCKED for child in children)
                assert window is None or moving <= window, f"{moving} of {key} at once, the window is {window}"
        if not halted:
            blocked = {key for key in plan.nodes if status[key] is StepStatus.BLOCKED}
            loose = {key for key, node in plan.nodes.items() if not any(edge.target in blocked for edge in node.edges)}
            sinks = sum(status[key] not in FINAL_STEP for key in loose)
            assert run["sinks_open"] == sinks, f"sinks_open is {run['sinks_open']}, {sinks} are open"
            failures = sum(plan.unhandled(key, status) for key in plan.nodes)
            assert run["failures"] == failures

    def _audit_items(self, plan: Plan, steps: dict[str, dict[str, Any]], status: dict[str, StepStatus]) -> None:
        """Each item that is under way counts its own steps, as its run does."""
        for key, step in steps.items():
            if step["kind"] != "item" or status[key] is not StepStatus.RUNNING:
                continue
            own = {name: status[name] for name, row in steps.items() if row["loop_key"] == key}
            blocked = {name for name, one in own.items() if one is StepStatus.BLOCKED}
            nodes = {name: plan.node(name) for name in own}
            for name in blocked:
                before = nodes[name].definition.run_after
                assert steps[name]["deps_open"] == sum(status[one] not in FINAL_STEP for one in before), name
            loose = {n for n, node in nodes.items() if not any(edge.target in blocked for edge in node.edges)}
            assert step["children_open"] == sum(own[name] not in FINAL_STEP for name in loose), key
            assert step["children_failed"] == sum(plan.unhandled(name, own) for name in own), key

    def _audit_dispatches(self, run_id: UUID) -> None:
        lost = self.rows(
            "SELECT s.step_key FROM flow_steps s LEFT JOIN flow_step_dispatches d USING (run_id, step_key, dispatch_no)"
            " WHERE s.run_id = %s AND s.status = 'ready' AND d.run_id IS NULL",
            run_id,
        )
        assert not lost, f"ready without a dispatch: {lost}"


def mutate(monkeypatch: pytest.MonkeyPatch, **wrong: str) -> None:
    """Run other text under the names of statements: a check that a test would notice."""
    original = statements.sql
    for name, text in wrong.items():
        assert text != original(name), "the mutant is the original"
    monkeypatch.setattr(rows, "sql", lambda name: wrong.get(name) or original(name))


def keys(dispatches: tuple[Dispatch, ...]) -> list[str]:
    """The step keys of dispatches, sorted."""
    return sorted(dispatch.step_key for dispatch in dispatches)
