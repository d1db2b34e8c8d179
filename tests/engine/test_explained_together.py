"""A page of runs is explained in the words of one, in a number of statements that does not grow with the runs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event

from orchestrator.core.facts import StepError
from orchestrator.engine.runs import cancel_run, rerun
from orchestrator.engine.runs.explain import explain, explain_many
from orchestrator.engine.runs.rerun import Again
from orchestrator.ledger.tx import Ledger
from tests.support.factories import Lab, after, call, loop, retry

WORKER = (
    "INSERT INTO flow_workers (id, host, pid, pool, concurrency, prefetch, queues, handlers, release, refuses)"
    " VALUES (%s, 'h', 1, 'threads', 1, 1, %s, %s, '1', %s)"
)


def kinds(lab: Lab) -> Iterator[UUID]:
    """A run of every kind that is stuck, one that moves, and those that are over."""
    lab.flow({"x": call()}, name="called")
    yield lab.run({"a": call()})  # ready, nobody has it
    yield lab.run({"a": call(queue="far")})
    moves = lab.run({"a": call(), "b": after("a")})
    lab.take(moves, "a")
    yield moves
    silent = lab.run({"a": call()})
    lab.take(silent, "a", lease=timedelta(milliseconds=1))
    yield silent
    waits = lab.run({"a": call(retry=retry(3))})
    lab.fail(lab.take(waits, "a"))
    yield waits
    yield lab.run({"a": {"sleep": "PT1H"}, "b": after("a")})
    yield lab.run({"a": {"signal": {"name": "paid"}}})
    yield lab.run({"a": {"approval": {"title": "really?", "to": "ops"}}})
    yield lab.run({"each": loop([1, 2, 3], concurrency=1)})
    many = lab.run({"each": loop(list(range(30)))})
    lab.fail(lab.take(many, "each.3.do"))
    yield many
    yield lab.run({"a": {"flow": "called"}})
    cancelled = lab.run({"a": call()})
    lab.take(cancelled, "a")
    cancel_run.cancel(lab.ledger, cancelled, by="ann", reason="enough", grace=timedelta(seconds=10))
    yield cancelled
    done = lab.run({"a": call()})
    lab.done(lab.take(done, "a"), "x")
    yield done
    failed = lab.run({"a": call(), "b": after("a")})
    lab.fail(lab.take(failed, "a"), StepError("ValueError", "boom", None))
    yield failed
    yield rerun.start(lab.ledger, Again(failed, None, None), by="ann").run_id
    allowed = lab.run({"a": call(may_fail=True)})
    lab.fail(lab.take(allowed, "a"))
    yield allowed
    gone = lab.run({"a": call()})
    cancel_run.cancel(lab.ledger, gone, by="ann", reason="enough", grace=timedelta(seconds=10))
    yield gone


@contextmanager
def stopped_clock(lab: Lab) -> Iterator[None]:
    """So that both say the same of how long something has lasted."""
    now = lab.rows("SELECT flow_now()::text AS now")[0]["now"]
    lab.execute(
        "CREATE OR REPLACE FUNCTION flow_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE "
        f"AS $$ SELECT '{now}'::timestamptz $$"
    )
    yield
    lab.forward(0)


@contextmanager
def counted(ledger: Ledger) -> Iterator[list[str]]:
    said: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    event.listen(ledger.engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(ledger.engine, "before_cursor_execute", note)


@pytest.mark.parametrize("workers", ["none", "elsewhere", "here", "another version"])
def test_a_page_is_explained_as_each_of_its_runs_is(lab: Lab, workers: str) -> None:
    runs = list(kinds(lab))
    if workers != "none":
        tasks = lab.rows(
            "SELECT DISTINCT s.task, r.manifest_hash FROM flow_steps s JOIN flow_runs r ON r.id = s.run_id"
            " WHERE s.task IS NOT NULL"
        )
        refused = {f"{one['task']}@{one['manifest_hash']}": "its code is another" for one in tasks}
        refuses = json.dumps(refused if workers == "another version" else {})
        queue = "elsewhere" if workers == "elsewhere" else "default"
        lab.execute(WORKER, "h/1/r", [queue], sorted({one["task"] for one in tasks}), refuses)
    with stopped_clock(lab):
        single = {run_id: explain(lab.ledger, run_id) for run_id in runs}
        assert explain_many(lab.ledger, [*runs, uuid4()]) == single
    assert len({one.sentence.replace(str(run_id), "") for run_id, one in single.items()}) > 10


def test_the_statements_do_not_grow_with_the_runs(lab: Lab) -> None:
    few = list(kinds(lab))
    many = [*few, *kinds(lab), *kinds(lab)][:50]
    counts = []
    for runs in (few, many):
        with counted(lab.ledger) as said:
            explain_many(lab.ledger, runs)
        counts.append(len(said))
    with counted(lab.ledger) as alone:
        for run_id in many:
            explain(lab.ledger, run_id)
    print(f"statements: {counts[0]} for {len(few)} runs, {counts[1]} for {len(many)}, one by one {len(alone)}")
    assert counts[1] <= counts[0] + 2
    assert counts[1] < len(alone) / 5
