"""A keeper dies while it wakes: what waited is over once, never early, and nothing is lost."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest

from orchestrator.core.facts import StartRequest
from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import start_run
from orchestrator.ledger import reads
from tests.faults.arena import Arena
from tests.faults.conftest import Make

NAPS = ("sleep", "second_nap", "late_nap")


@pytest.fixture(scope="module")
def field(make_arena: Make) -> Iterator[Arena]:
    with make_arena(lease=timedelta(seconds=2), heartbeat=timedelta(seconds=0.5)) as made:
        yield made
        made.judge_all_again()


@pytest.mark.parametrize("point", ["wake.selected", "wake.committed"])
def test_a_keeper_is_killed_while_it_wakes(field: Arena, point: str) -> None:
    field.keep(2)
    field.order(point, "killpg", "main")
    run_id = field.start("napping")
    assert field.ended(run_id) is RunStatus.SUCCEEDED, field.log()
    field.struck(point)
    for key in NAPS:
        step = reads.steps.get(field.ledger, run_id, key)
        assert step.started_at is not None
        assert step.ended_at is not None
        assert step.ended_at - step.started_at >= timedelta(seconds=1), f"{key} was over early"
    events = Counter((event.type, event.step_key) for event in reads.events.of_run(field.ledger, run_id))
    assert all(events["step.succeeded", key] == events["step.parked", key] == 1 for key in NAPS), events
    starts = [line for line in field.lines(run_id) if (line.step_key, line.kind) == ("woken", "end")]
    assert len(starts) == 1


@pytest.mark.parametrize("point", ["wake.selected", "wake.committed"])
def test_a_keeper_is_killed_while_it_opens_a_run(field: Arena, point: str) -> None:
    field.keep(2)
    field.order(point, "killpg", "main")
    request = StartRequest("single", '{"plan": {}}', begins=timedelta(seconds=1))
    (started,) = start_run.start(field.ledger, [request])
    assert field.ended(started.run_id) is RunStatus.SUCCEEDED, field.log()
    field.struck(point)
    row = reads.runs.get(field.ledger, started.run_id)
    assert row.started_at is not None
    assert row.started_at - row.created_at >= timedelta(seconds=1)
    events = Counter(event.type for event in reads.events.of_run(field.ledger, started.run_id))
    assert (events["run.opened"], events["run.accepted"], events["run.succeeded"]) == (1, 1, 1)
