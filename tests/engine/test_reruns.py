"""A new run is made of one that there was."""

import functools
import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.core.facts import StartedRun
from orchestrator.core.rerun import Rerun
from orchestrator.core.settling import Settle
from orchestrator.core.states import RunStatus
from orchestrator.engine import faults
from orchestrator.engine.flows import switch
from orchestrator.engine.runs import delete_run, explain, rerun
from orchestrator.engine.runs.rerun import Again
from orchestrator.engine.steps import retry_step, settle_step
from orchestrator.engine.subflows import report
from orchestrator.errors import Conflict, FlowDisabled, InputInvalid, RunNotFound, StepNotFound, UsageError
from orchestrator.ledger import reads
from tests.support.eventually import eventually
from tests.support.factories import Lab, after, call, keys, loop

SHOP = {
    "price": call(inputs={"order": "@triggerBody().order"}),
    "charge": after("price", inputs={"amount": "@steps('price').output"}),
    "refund": call(run_after={"charge": ["failed"]}),
    "ship": after("charge"),
    "mail": after("ship", inputs={"paid": "@steps('charge').output"}),
}


def again(lab: Lab, run_id: UUID, step: str | None = None, body: Any = None) -> StartedRun:
    given = None if body is None else json.dumps(body)
    return rerun.start(lab.ledger, Again(run_id, step, given), by="ann")


def foreseen(lab: Lab, run_id: UUID, step: str | None = None, body: Any = None) -> Rerun:
    given = None if body is None else json.dumps(body)
    return rerun.foresee(lab.ledger, Again(run_id, step, given))


@pytest.fixture
def failed(lab: Lab) -> UUID:
    """Paid, and not shipped."""
    run_id = lab.run(SHOP, body={"order": 7}, tags=["shop"])
    lab.do(run_id, "price", "charge")
    lab.do_fail(run_id, "ship")
    assert lab.status(run_id) is RunStatus.FAILED
    return run_id


def test_from_a_step_on_what_is_before_it_is_kept(lab: Lab, failed: UUID) -> None:
    """With its output, and without an attempt; nothing of it is ever dispatched."""
    started = again(lab, failed, "ship")
    lab.audit()
    assert keys(started.dispatches) == ["ship"]
    made = started.run_id
    assert lab.statuses(made) == {
        "price": "succeeded",
        "charge": "succeeded",
        "refund": "skipped",
        "ship": "ready",
        "mail": "blocked",
    }
    charge = lab.step(made, "charge")
    assert (charge["attempts"], charge["dispatch_no"], charge["reason"]) == (0, 0, f"kept from run {failed}")
    assert lab.step(made, "refund")["reason"] == (
        f"kept from run {failed}: charge succeeded, `run_after` asks for failed"
    )
    lab.do(made, "ship")
    assert lab.inputs(lab.take(made, "mail")) == {"paid": "charge"}
    row = lab.run_row(made)
    assert (row["source_run_id"], row["trigger_type"], row["trigger_body"]) == (failed, "rerun", {"order": 7})
    (accepted,) = [one for one in reads.events.of_run(lab.ledger, made) if one.type == "run.accepted"]
    assert accepted.facts == {"source": str(failed), "from": "ship", "kept": ["price", "charge"], "by": "ann"}


def test_who_marked_a_step_that_is_kept_is_told_in_every_rerun(lab: Lab, failed: UUID) -> None:
    settle_step.settle(lab.ledger, Settle(failed, "ship", "ann", "by hand", "1"))
    lab.drain(failed)
    made = again(lab, failed, "mail").run_id
    reason = f"kept from run {failed}: marked as done by ann: by hand"
    assert (lab.step(made, "ship")["status"], lab.step(made, "ship")["reason"]) == ("succeeded", reason)
    lab.drain(made)
    assert lab.step(again(lab, made, "mail").run_id, "ship")["reason"] == f"kept from run {made}: {reason}"


def test_whole_nothing_is_kept(lab: Lab) -> None:
    """On the version that is current now, with the run's own input, headers and tags, and never with its key."""
    lab.flow(SHOP)
    run_id = lab.start(body={"order": 1}, headers='{"x-request-id": "a"}', tags=("big",), key="once")
    lab.drain(run_id)
    newer = lab.flow({"price": SHOP["price"], "gift": call()})
    started = again(lab, run_id)
    assert keys(started.dispatches) == ["gift", "price"]
    row = lab.run_row(started.run_id)
    assert row["manifest_hash"] == newer.hash
    assert (row["trigger_body"], row["trigger_headers"]) == ({"order": 1}, {"x-request-id": "a"})
    assert (row["tags"], row["trigger_key"], row["source_run_id"]) == (["big"], None, run_id)
    lab.drain(started.run_id)
    assert lab.status(started.run_id) is RunStatus.SUCCEEDED


def test_from_a_step_on_the_version_is_the_one_of_the_run(lab: Lab, failed: UUID) -> None:
    lab.flow({"price": call()})
    started = again(lab, failed, "ship")
    assert lab.run_row(started.run_id)["manifest_hash"] == lab.run_row(failed)["manifest_hash"]


def test_with_another_input(lab: Lab, failed: UUID) -> None:
    assert foreseen(lab, failed, "ship", {"order": 8}).changed == ("price",)
    assert foreseen(lab, failed, "ship", {"order": 7}).changed == ()
    made = again(lab, failed, "price", {"order": 8}).run_id
    assert lab.inputs(lab.take(made, "price")) == {"order": 8}


def test_another_input_has_to_fit(lab: Lab) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    run_id = lab.run({"a": call()}, body={"n": 1}, input_schema=schema)
    lab.drain(run_id)
    for step in (None, "a"):
        with pytest.raises(InputInvalid, match="`n`"):
            again(lab, run_id, step, {"n": "x"})
        with pytest.raises(InputInvalid):
            foreseen(lab, run_id, step, {"n": "x"})
    assert len(lab.rows("SELECT 1 FROM flow_runs")) == 1


def test_the_input_has_to_fit_the_version_of_today(lab: Lab) -> None:
    run_id = lab.run({"a": call()}, body={})
    lab.drain(run_id)
    lab.flow({"a": call()}, input_schema={"type": "object", "required": ["n"]})
    with pytest.raises(InputInvalid, match="n"):
        again(lab, run_id)
    assert again(lab, run_id, None, {"n": 1}).created


def test_a_loop_is_kept_whole(lab: Lab) -> None:
    """By its list, without its items. A loop that runs again has them."""
    run_id = lab.run(
        {"each": loop("@triggerBody().items"), "sum": after("each", inputs={"all": "@steps('each').output"})},
        body={"items": [1, 2]},
    )
    lab.do(run_id, "each.0.do", "each.1.do")
    lab.do_fail(run_id, "sum")
    made = again(lab, run_id, "sum").run_id
    assert lab.statuses(made) == {"each": "succeeded", "sum": "ready"}
    assert lab.inputs(lab.take(made, "sum")) == {"all": ["each.0.do", "each.1.do"]}
    made = again(lab, run_id, "each").run_id
    assert lab.drain(made) == ["each.0.do", "each.1.do", "sum"]


def test_a_loop_over_what_is_kept_opens_at_once(lab: Lab) -> None:
    run_id = lab.run({"list": call(), "each": loop("@steps('list').output")})
    lab.do(run_id, "list", output=[1, 2, 3])
    lab.drain(run_id)
    made = again(lab, run_id, "each")
    assert keys(made.dispatches) == ["each.0.do", "each.1.do", "each.2.do"]
    lab.drain(made.run_id)
    assert lab.status(made.run_id) is RunStatus.SUCCEEDED


def test_a_flow_that_was_called_is_kept_by_its_result(lab: Lab) -> None:
    """No run of it is started again; from the call on there is a new one."""
    lab.flow({"x": call()}, name="child", output="@steps('x').output")
    run_id = lab.run({"pay": {"flow": "child"}, "ship": call(inputs={"paid": "@steps('pay').output"})})

    def children(parent: UUID) -> list[UUID]:
        return [row["id"] for row in lab.rows("SELECT id FROM flow_runs WHERE parent_run_id = %s", parent)]

    lab.drain(children(run_id)[0])
    report.untold(lab.ledger)
    lab.do_fail(run_id, "ship")
    made = again(lab, run_id, "ship").run_id
    assert children(made) == []
    assert lab.inputs(lab.take(made, "ship")) == {"paid": "x"}
    made = again(lab, run_id, "pay").run_id
    assert lab.statuses(made)["pay"] == "running"
    assert len(children(made)) == 1


def test_a_failure_that_was_handled_happens_anew(lab: Lab) -> None:
    run_id = lab.run({"a": call(), "rescue": call(run_after={"a": ["failed"]}), "last": after("rescue")})
    lab.do_fail(run_id, "a")
    lab.do(run_id, "rescue", "last")
    made = again(lab, run_id, "last").run_id
    assert lab.drain(made) == ["a"]
    assert lab.statuses(made) == {"a": "succeeded", "rescue": "skipped", "last": "skipped"}


@pytest.mark.parametrize("branches", [1, 3])
def test_a_kept_branch_ends_and_the_run_ends_with_the_other(lab: Lab, branches: int) -> None:
    """What is kept and has nothing after it counts as ended: the run is over when the rest is."""
    kept = {f"k{n}": call() for n in range(branches)}
    run_id = lab.run({**kept, "k_next": after("k0"), "a": call(), "b": after("a", "k0")})
    lab.drain(run_id)
    made = again(lab, run_id, "a").run_id
    lab.audit()
    assert lab.drain(made) == ["a", "b"]
    assert lab.status(made) is RunStatus.SUCCEEDED


def test_a_rerun_is_run_again(lab: Lab, failed: UUID) -> None:
    """What it kept is kept once more; a retry of it goes on in place."""
    made = again(lab, failed, "ship").run_id
    lab.do_fail(made, "ship")
    retry_step.retry(lab.ledger, made, "ship", by="ann")
    lab.do_fail(made, "ship")
    third = again(lab, made, "mail").run_id
    assert lab.statuses(third)["charge"] == "succeeded"
    assert lab.step(third, "charge")["reason"] == f"kept from run {made}"
    assert lab.drain(third) == ["ship", "mail"]


def test_the_lineage_is_told_both_ways(lab: Lab, failed: UUID) -> None:
    made = [again(lab, failed, step).run_id for step in (None, "ship")]
    assert reads.runs.reruns(lab.ledger, failed) == made[::-1]
    assert reads.runs.get(lab.ledger, made[0]).source == failed
    assert f"made of run {failed}" in explain.explain(lab.ledger, made[0]).sentence
    assert f"the last time as run {made[1]}" in explain.explain(lab.ledger, failed).sentence
    assert f"has succeeded: kept from run {failed}." in explain.explain(lab.ledger, made[1], "charge").sentence


def test_a_dry_run_writes_nothing(lab: Lab, failed: UUID) -> None:
    lab.flow({"price": call("other"), "gift": call()})
    before = lab.snapshot()
    assert foreseen(lab, failed, "ship") == Rerun(kept=("price", "charge"), settled=("refund",), again=("ship", "mail"))
    assert foreseen(lab, failed) == Rerun(again=("price",), new=("gift",), dropped=("charge", "refund", "ship", "mail"))
    assert lab.snapshot() == before


# ---- what is refused ----


def test_what_is_refused(lab: Lab) -> None:
    run_id = lab.run({"a": call(), "each": loop([1])})
    with pytest.raises(Conflict, match=r"is pending, and outputs are kept of a run that has ended. Fix: .*run cancel"):
        again(lab, run_id, "a")
    for ask in (again, foreseen):
        with pytest.raises(StepNotFound, match=r"no step 'eech'.*did you mean `each`"):
            ask(lab, run_id, "eech")
        with pytest.raises(UsageError, match=r"each\.0\.do is inside the loop each.*again from each"):
            ask(lab, run_id, "each.0.do")
        with pytest.raises(RunNotFound):
            ask(lab, uuid4())
    assert keys(again(lab, run_id).dispatches) == ["a", "each.0.do"]  # whole, an open run may be run again


def test_a_disabled_flow_takes_no_reruns(lab: Lab, failed: UUID) -> None:
    switch.disable(lab.ledger, "demo", "ann", "not now")
    for step in (None, "ship"):
        with pytest.raises(FlowDisabled, match="not now"):
            again(lab, failed, step)


# ---- two at once ----


def test_two_reruns_at_once_are_two_runs(lab: Lab, failed: UUID) -> None:
    made = lab.race(*(functools.partial(again, lab, failed, "ship") for _ in range(4)))
    assert len({one.run_id for one in made}) == 4
    assert len(reads.runs.reruns(lab.ledger, failed)) == 4


@pytest.mark.parametrize("act", ["retry", "delete"])
def test_a_rerun_beside(lab: Lab, failed: UUID, act: str) -> None:
    """It holds its source: what is kept of it is there, and final, until it is taken over."""
    acts = {
        "retry": lambda: retry_step.retry(lab.ledger, failed, None, by="op"),
        "delete": lambda: delete_run.delete(lab.ledger, failed, by="op"),
    }
    with lab.holding("SELECT 1 FROM flow_definitions FOR UPDATE") as holder:
        holder.execute("LOCK TABLE flow_steps IN EXCLUSIVE MODE")
        making = lab.later(lambda: again(lab, failed, "ship"))
        eventually(lambda: lab.waiting_sessions() == 1)
        acting = lab.later(acts[act])
        eventually(lambda: lab.waiting_sessions() == 2)
    made = making.result()
    acting.result()
    assert lab.statuses(made.run_id)["charge"] == "succeeded"
    assert reads.steps.output(lab.ledger, made.run_id, "charge") == "charge"


@pytest.mark.parametrize("act", ["retry", "delete"])
def test_a_rerun_after_its_source_changed_is_refused(lab: Lab, failed: UUID, act: str) -> None:
    with lab.holding("SELECT 1 FROM flow_runs WHERE id = %s FOR UPDATE", failed) as holder:
        making = lab.later(lambda: again(lab, failed, "ship"))
        eventually(lambda: lab.waiting_sessions() == 1)
        if act == "retry":
            holder.execute("UPDATE flow_runs SET status = 'running', ended_at = NULL WHERE id = %s", [failed])
        else:
            holder.execute("DELETE FROM flow_runs WHERE id = %s", [failed])
    with pytest.raises(Conflict if act == "retry" else RunNotFound):
        making.result()
    lab.execute("UPDATE flow_runs SET status = 'failed', ended_at = flow_now() WHERE status = 'running'")
    lab.execute("DELETE FROM flow_steps WHERE run_id NOT IN (SELECT id FROM flow_runs)")
    lab.execute("DELETE FROM test_moves")


def test_whatever_dies_in_between_leaves_nothing(lab: Lab, failed: UUID) -> None:
    """One commit makes the run, what it keeps, and its dispatches."""
    before = lab.snapshot()

    def die() -> None:
        raise KeyboardInterrupt

    faults.arm("rerun.kept", die)
    with pytest.raises(KeyboardInterrupt):
        again(lab, failed, "ship")
    faults.disarm()
    assert lab.snapshot() == before
