"""What is too old is removed, and nothing else."""

from datetime import timedelta
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from orchestrator.core.states import RunStatus
from orchestrator.engine.flows import switch
from orchestrator.engine.runs import cancel_run
from orchestrator.engine.schedules import operate as acts
from orchestrator.engine.schedules import tick
from orchestrator.engine.steps import retry_step
from orchestrator.engine.sweeps import retention
from orchestrator.errors import FlowDisabled, RunNotFound
from orchestrator.ledger import reads
from orchestrator.ledger import retention as ledger_retention
from orchestrator.ledger.schema import metadata
from orchestrator.ledger.ticks import Span
from tests.support.factories import Lab, after, call, loop
from tests.support.schedules import MINUTELY, NOON, at, deploy, events, fire, minutely, outcomes

MONTH = timedelta(days=30)
MINUTE = timedelta(minutes=1)


def rows_of(lab: Lab, run_id: Any) -> dict[str, int]:
    """How many rows of each table belong to the run."""
    column = {table.name: "id" if table.name == "flow_runs" else "run_id" for table in metadata.sorted_tables}
    tables = [table.name for table in metadata.sorted_tables if column[table.name] in table.columns]
    found = {
        table: lab.rows(f"SELECT count(*) AS n FROM {table} WHERE {column[table]}::text = %s", str(run_id))[0]["n"]
        for table in tables
    }
    return {table: count for table, count in found.items() if count}


def ended(lab: Lab, **fields: Any) -> Any:
    """A run that left rows everywhere and succeeded."""
    lab.flow({"a": call(), "each": loop([1, 2], run_after={"a": ["succeeded"]}), "b": after("each")}, deadline="P1D")
    run_id = lab.start(**fields)
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    return run_id


def test_runs_that_stay_are_passed_by_some_at_a_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are kept for their keys, or because they are open: a statement looks at a bounded number of them."""
    monkeypatch.setattr(ledger_retention, "WINDOW", 3)
    lab.flow({"a": call()})
    kept = [lab.start() for _ in range(7)]
    old = lab.start()
    lab.do(old, "a")
    lab.forward(MONTH * 2)
    passed = retention.Passed()
    found = []
    while not found or not passed.all:
        found.append(retention.runs(lab.ledger, MONTH, passed=passed))
    assert found == [0, 0, 1, 0]
    assert lab.rows("SELECT count(*) AS n FROM flow_runs")[0]["n"] == len(kept)


def test_a_run_that_ended_long_ago_leaves_nothing(lab: Lab) -> None:
    run_id = ended(lab, tags=("old",))
    assert len(rows_of(lab, run_id)) == 8
    lab.forward(MONTH)
    young = ended(lab)
    before = rows_of(lab, young)
    assert retention.runs(lab.ledger, MONTH) == 1
    assert rows_of(lab, run_id) == {}
    assert rows_of(lab, young) == before
    with pytest.raises(RunNotFound):
        reads.runs.get(lab.ledger, run_id)
    assert retention.runs(lab.ledger, MONTH) == 0


def test_a_run_stays_until_its_end_is_old(lab: Lab) -> None:
    """Its start does not matter: an open run is never removed, nor one that just ended."""
    lab.flow({"a": call(), "b": after("a")})
    open_, late = lab.start(), lab.start()
    lab.forward(MONTH * 2)
    lab.do(late, "a", "b")
    assert retention.runs(lab.ledger, MONTH) == 0
    lab.forward(MONTH)
    assert retention.runs(lab.ledger, MONTH) == 1
    assert rows_of(lab, late) == {}
    lab.do(open_, "a", "b")
    assert lab.status(open_) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_every_end_counts(lab: Lab, how: str) -> None:
    run_id = lab.run({"a": call()})
    if how == "failed":
        lab.do_fail(run_id, "a")
    else:
        cancel_run.cancel(lab.ledger, run_id, by="op", reason="enough", grace=timedelta(seconds=1))
    lab.forward(MONTH)
    assert retention.runs(lab.ledger, MONTH) == 1
    assert rows_of(lab, run_id) == {}


def test_a_run_that_is_being_retried_stays(lab: Lab) -> None:
    """The retry holds the run; after its commit the run is open."""
    run_id = lab.run({"a": call()})
    lab.do_fail(run_id, "a")
    lab.forward(MONTH)
    with lab.holding("SELECT 1 FROM flow_runs WHERE id = %s FOR UPDATE", run_id):
        assert retention.runs(lab.ledger, MONTH) == 0
    retry_step.retry(lab.ledger, run_id, None, by="op")
    assert retention.runs(lab.ledger, MONTH) == 0
    lab.do(run_id, "a")


def test_an_idempotency_key_keeps_its_run(lab: Lab) -> None:
    """The same request gives the same run for as long as the key was promised, and a new one afterwards."""
    lab.flow({"a": call()}, idempotency_ttl="P60D")
    run_id = lab.start(key="k")
    lab.do(run_id, "a")
    lab.forward(MONTH)
    assert retention.runs(lab.ledger, MONTH) == 0
    assert lab.start(key="k") == run_id
    lab.forward(MONTH)
    assert retention.runs(lab.ledger, MONTH) == 1
    again = lab.start(key="k")
    assert again != run_id
    lab.do(again, "a")


def test_pages_are_bounded_by_runs_and_by_steps(lab: Lab) -> None:
    """A page holds at least one run, however large."""
    lab.flow({"a": call(), "b": after("a")})
    for _ in range(7):
        lab.do(lab.start(), "a", "b")
    lab.forward(MONTH)
    sizes = [
        retention.runs(lab.ledger, MONTH, page=3),
        retention.runs(lab.ledger, MONTH, steps=3),
        retention.runs(lab.ledger, MONTH, steps=1),
        retention.runs(lab.ledger, MONTH),
    ]
    assert sizes == [3, 2, 1, 1]


def test_two_keepers_remove_each_run_once(lab: Lab) -> None:
    lab.flow({"a": call()})
    for _ in range(40):
        lab.do(lab.start(), "a")
    lab.forward(MONTH)

    def drain() -> int:
        return sum(iter(lambda: retention.runs(lab.ledger, MONTH, page=5), 0))

    assert sum(lab.race(drain, drain)) == 40


# ---- idempotency keys ----


def keys(lab: Lab) -> list[str]:
    return [row["key"] for row in lab.rows("SELECT key FROM flow_idempotency_keys ORDER BY key")]


def test_expired_keys_are_removed_in_pages(lab: Lab) -> None:
    """Those of a flow that keeps them for longer stay; so does what another keeper holds."""
    lab.flow({"a": call()})
    lab.flow({"a": call()}, name="slow", idempotency_ttl="P7D")
    for n in range(5):
        lab.start(key=f"k{n}")
    lab.start("slow", key="slow")
    assert retention.keys(lab.ledger) == 0
    lab.forward(timedelta(hours=24, seconds=1))
    with lab.holding("SELECT 1 FROM flow_idempotency_keys WHERE key = 'k3' FOR UPDATE"):
        assert [retention.keys(lab.ledger, page=3) for _ in range(3)] == [3, 1, 0]
    assert keys(lab) == ["k3", "slow"]
    assert retention.keys(lab.ledger) == 1


def test_a_key_that_is_taken_anew_meanwhile_stays(lab: Lab) -> None:
    """A start with an expired key writes its row again; the clean-up passes by, then finds it young."""
    lab.flow({"a": call()})
    first = lab.start(key="k")
    lab.forward(timedelta(days=2))
    renew = "UPDATE flow_idempotency_keys SET expires_at = flow_now() + interval '1 day' WHERE key = 'k'"
    with lab.holding(renew):
        assert retention.keys(lab.ledger) == 0
    assert retention.keys(lab.ledger) == 0
    assert lab.start(key="k") == first


def test_a_start_beside_the_clean_up_of_its_key(lab: Lab) -> None:
    """One of the two is first; the key then belongs to the new run in either case."""
    lab.flow({"a": call()})
    for _ in range(20):
        first = lab.start(key="k")
        lab.forward(timedelta(days=2))
        second, _ = lab.race(lambda: lab.start(key="k"), lambda: retention.keys(lab.ledger))
        assert second != first
        assert lab.start(key="k") == second


# ---- schedules ----


def test_ticks_go_with_their_runs_or_when_they_are_as_old(lab: Lab) -> None:
    """What still waits stays, however old; so does a tick whose run is open."""
    minutely(lab, overlap="queue")
    at(lab, NOON + 2 * MINUTE)
    (open_,) = fire(lab).started
    at(lab, NOON + 3 * MINUTE)
    fire(lab)
    acts.backfill(lab.ledger, "demo", "m", Span(NOON - 2 * MINUTE, NOON), by="op")
    (done,) = tick.waiting(lab.ledger).started
    lab.do(done, "a")
    acts.pause(lab.ledger, "demo", "m", by="op")
    before = [(-2, "started"), (-1, "pending"), (1, "missed"), (2, "started"), (3, "skipped")]
    assert outcomes(lab) == before
    lab.forward(MONTH - 5 * MINUTE)
    assert (retention.runs(lab.ledger, MONTH), retention.ticks(lab.ledger, MONTH)) == (0, 0)
    assert outcomes(lab) == before
    lab.forward(10 * MINUTE)
    assert retention.runs(lab.ledger, MONTH) == 1
    assert outcomes(lab) == before[1:]
    assert retention.ticks(lab.ledger, MONTH) == 2
    assert outcomes(lab) == [(-1, "pending"), (2, "started")]
    assert events(lab)
    assert retention.ticks(lab.ledger, MONTH) == 4
    assert events(lab) == []
    assert retention.ticks(lab.ledger, MONTH) == 0
    lab.do(open_, "a")


def test_old_backfills_go_and_open_ones_stay(lab: Lab) -> None:
    minutely(lab)
    acts.backfill(lab.ledger, "demo", "m", Span(NOON - 2 * MINUTE, NOON - MINUTE), by="op")
    lab.do(*tick.waiting(lab.ledger).started, "a")
    tick.waiting(lab.ledger)
    acts.backfill(lab.ledger, "demo", "m", Span(NOON - MINUTE, NOON), by="op")
    acts.pause(lab.ledger, "demo", "m", by="op")
    lab.forward(MONTH)
    retention.ticks(lab.ledger, MONTH)
    assert len(lab.rows("SELECT * FROM flow_schedule_backfills")) == 1


def test_ticks_are_removed_in_pages(lab: Lab) -> None:
    at(lab, NOON)
    deploy(lab, m={**MINUTELY, "overlap": "skip", "missed": "all"})
    at(lab, NOON + 8 * MINUTE)
    (run_id,) = fire(lab).started
    lab.do(run_id, "a")
    acts.pause(lab.ledger, "demo", "m", by="op")
    lab.forward(MONTH)
    assert [retention.ticks(lab.ledger, MONTH, page=3) for _ in range(3)] == [3, 3, 1]


def test_events_of_schedules_are_removed_in_pages(lab: Lab) -> None:
    """All at once they could take longer than a statement may, and none would ever go."""
    minutely(lab)
    for _ in range(4):
        acts.pause(lab.ledger, "demo", "m", by="op")
        acts.resume(lab.ledger, "demo", "m", by="op")
    lab.forward(MONTH + MINUTE)
    assert [retention.ticks(lab.ledger, MONTH, page=4) for _ in range(4)] == [4, 4, 1, 0]
    assert events(lab) == []


def test_events_of_flows_are_removed_when_they_are_old(lab: Lab) -> None:
    """Those that earlier releases wrote under ids of no run go too; those of runs stay with their run."""
    run_id = lab.run({"a": call(), "b": after("a")})
    switch.disable(lab.ledger, "demo", "ann")
    with pytest.raises(FlowDisabled):
        lab.start()
    strays = [uuid7() for _ in range(7)]
    for stray in strays:
        lab.execute("INSERT INTO flow_events (run_id, type) VALUES (%s, 'trigger.rejected_disabled')", stray)
    lab.execute("INSERT INTO flow_events (run_id, type) VALUES (%s, 'flow.disabled')", uuid7())
    lab.forward(MONTH + MINUTE)
    switch.enable(lab.ledger, "demo", "ann")
    kept = len(lab.events(run_id))
    removed = 0
    while count := retention.ticks(lab.ledger, MONTH, page=3):
        removed += count
    assert removed == 2 + 8
    left = lab.rows("SELECT type FROM flow_events WHERE run_id <> %s", run_id)
    assert [row["type"] for row in left] == ["flow.enabled"]
    assert len(lab.events(run_id)) == kept
    lab.do(run_id, "a", "b")
