"""A run is shown as waiting while only parked steps are left."""

from typing import Any

import pytest

from orchestrator.core.runfilter import RunFilter
from orchestrator.core.states import RunStatus
from orchestrator.engine.sweeps import sweep
from orchestrator.ledger import listing, reads
from tests.support.factories import Lab, after, call, loop, retry


@pytest.mark.parametrize("other", [{"b": call()}, {"b": call(), "c": after("b", "a")}, {"b": loop([1])}])
def test_the_run_waits_only_while_nothing_else_moves(lab: Lab, other: dict[str, Any]) -> None:
    """A back-off beside a step that is ready or running leaves the run RUNNING, whichever of them ends first."""
    run_id = lab.run({"a": call(retry=retry(2)), **other})
    lab.fail(lab.take(run_id, "a"))
    assert lab.status(run_id) is RunStatus.RUNNING
    b = lab.take(run_id, lab.ready(run_id)[0])
    assert lab.status(run_id) is RunStatus.RUNNING
    lab.done(b)
    assert lab.status(run_id) is RunStatus.WAITING
    assert reads.runs.get(lab.ledger, run_id).status is RunStatus.WAITING
    lab.forward(2)
    sweep.due(lab.ledger)
    assert lab.status(run_id) is RunStatus.RUNNING
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_run_waits_when_every_child_of_its_loop_does(lab: Lab) -> None:
    """An open loop does not count as work of its own."""
    run_id = lab.run({"each": loop([1, 2], body={"retry": retry(2)})})
    for key, status in (("each.0.do", RunStatus.RUNNING), ("each.1.do", RunStatus.WAITING)):
        lab.fail(lab.take(run_id, key))
        assert lab.status(run_id) is status


def test_runs_are_listed_by_the_status_that_is_shown(lab: Lab) -> None:
    """`waiting` and `running` are one word in the table and two in the list."""
    steps = {"a": call(retry=retry(2))}
    waiting, running, pending = lab.run(steps), lab.start(), lab.start()
    lab.fail(lab.take(waiting, "a"))
    lab.take(running, "a")
    listed = {
        status: [row.id for row in listing.list_runs(lab.ledger, RunFilter.of(status=status))] for status in RunStatus
    }
    assert {status: ids for status, ids in listed.items() if ids} == {
        RunStatus.WAITING: [waiting],
        RunStatus.RUNNING: [running],
        RunStatus.PENDING: [pending],
    }
