"""A flow that the code does not have any more is removed, when nothing needs it."""

from datetime import timedelta

import pytest

from orchestrator.core.facts import WorkerInfo
from orchestrator.core.schedule_ids import schedule_id
from orchestrator.core.states import RunStatus
from orchestrator.engine import workers
from orchestrator.engine.flows import delete_flow, register, switch
from orchestrator.engine.schedules import operate
from orchestrator.engine.sweeps import retention
from orchestrator.errors import Conflict, FlowNotFound
from orchestrator.ledger import reads
from orchestrator.ledger.ticks import Span
from tests.support.factories import Lab, call
from tests.support.schedules import MINUTE, NOON, at, fire, minutely

DAY = timedelta(days=1)


def delete(lab: Lab, flow: str = "demo") -> None:
    delete_flow.delete(lab.ledger, flow, by="ann")


def refused(lab: Lab) -> str:
    with pytest.raises(Conflict) as caught:
        delete(lab)
    assert caught.value.facts["flow"] == "demo"
    return caught.value.message


def versions(lab: Lab) -> int:
    return len(lab.rows("SELECT hash FROM flow_definition_versions"))


def test_it_stays_as_long_as_something_needs_it_and_that_is_named(lab: Lab) -> None:
    """Each with what to do about it: runs, schedules, backfills, workers."""
    minutely(lab)
    one, two = lab.start(), lab.start()
    backfill = operate.backfill(lab.ledger, "demo", "m", Span(NOON - 3 * MINUTE, NOON), by="ann")
    workers.hello(
        lab.ledger,
        WorkerInfo("h/1/r", "h", 1, "prefork", 4, 4, ("default",), ("demo.work",), "1", versions={"demo": "x"}),
    )
    said = refused(lab)
    assert said.startswith("Flow demo cannot be deleted: 2 runs of it are open; its schedule m fires; 1 backfill of it")
    assert "1 live worker has its code (h/1/r). Fix: " in said
    assert "`orchestrator run ls --flow demo`" in said
    lab.drain(one)
    assert "1 run of it is open" in refused(lab)
    lab.drain(two)
    switch.disable(lab.ledger, "demo", "ann")
    assert backfill.id is not None
    operate.cancel_backfill(lab.ledger, "demo", "m", backfill.id, by="ann")
    assert refused(lab).startswith("Flow demo cannot be deleted: 1 live worker has its code (h/1/r). Fix: ")
    workers.gone(lab.ledger, "h/1/r")
    delete(lab)
    for act in (delete, lambda lab: lab.start()):
        with pytest.raises(FlowNotFound):
            act(lab)


def test_a_worker_of_the_release_before_is_known_by_its_tasks(lab: Lab) -> None:
    lab.flow({"a": call()})
    for flow, held in (("dem", False), ("demo", True)):
        info = WorkerInfo("h/1/r", "h", 1, "prefork", 4, 4, ("default",), (f"{flow}.work",), "1")
        workers.hello(lab.ledger, info)
        if held:
            assert "1 live worker has its code" in refused(lab)


def test_runs_that_ended_are_read_as_before_and_the_last_one_takes_the_versions_along(lab: Lab) -> None:
    manifest = lab.flow({"a": call()}, output="@steps('a').output")
    run_id = lab.start()
    lab.drain(run_id)
    delete(lab)
    assert reads.flows.every(lab.ledger) == []
    assert reads.runs.get(lab.ledger, run_id).version == "1"
    assert [step.key for step in reads.steps.page(lab.ledger, run_id)] == ["a"]
    assert reads.runs.result(lab.ledger, run_id) == "a"
    (event,) = [one for one in reads.events.of_flow(lab.ledger, "demo") if one.type == "flow.deleted"]
    assert event.facts == {"flow": "demo", "by": "ann"}
    lab.forward(2 * DAY)
    assert retention.forgotten_flows(lab.ledger) == 0
    assert lab.ledger.manifest(manifest.hash) == manifest
    retention.runs(lab.ledger, DAY)
    assert retention.forgotten_flows(lab.ledger) == 1
    assert (versions(lab), lab.rows("SELECT * FROM flow_events")) == (0, [])


def test_a_start_that_read_the_flow_before_still_has_its_version(lab: Lab) -> None:
    """So versions stay for a day, whether or not there are runs."""
    lab.flow({"a": call()})
    delete(lab)
    assert (retention.forgotten_flows(lab.ledger), versions(lab)) == (0, 1)
    lab.forward(2 * DAY)
    assert (retention.forgotten_flows(lab.ledger), versions(lab)) == (1, 0)


def test_code_that_has_it_registers_it_anew(lab: Lab) -> None:
    """As the first version of a flow, with its schedules."""
    minutely(lab)
    manifest = lab.ledger.manifest(reads.flows.get(lab.ledger, "demo").manifest_hash)
    switch.disable(lab.ledger, "demo", "ann")
    delete(lab)
    assert lab.rows("SELECT * FROM flow_schedule_states") == []
    assert reads.events.of_run(lab.ledger, schedule_id("demo", "m")) == []
    assert register.register(lab.ledger, manifest).current
    assert reads.flows.get(lab.ledger, "demo").enabled
    at(lab, NOON + 2 * MINUTE)
    assert len(fire(lab).started) == 1
    (row,) = lab.rows("SELECT id FROM flow_runs")
    lab.drain(row["id"])
    assert lab.status(row["id"]) is RunStatus.SUCCEEDED
