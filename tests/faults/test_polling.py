"""A worker dies while a step polls: neither its clock nor its count is lost, and nothing is asked twice at once."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest

from orchestrator.core.states import RunStatus
from orchestrator.ledger import reads
from tests.faults.arena import Arena, overlaps
from tests.faults.conftest import Make
from tests.support.cases import thinned


@pytest.fixture(scope="module")
def field(make_arena: Make) -> Iterator[Arena]:
    with make_arena(lease=timedelta(seconds=2), heartbeat=timedelta(seconds=0.5)) as made:
        yield made
        made.judge_all_again()


POINTS = [("handler.middle", 1), ("poll.before", 1), ("poll.committed", 0)]


@pytest.mark.parametrize(("point", "crashed"), thinned(POINTS, POINTS[2]))
def test_killed_at_its_first_poll(field: Arena, point: str, crashed: int) -> None:
    field.keep(2)
    run_id = field.start("polling", plan={"ready": f"{point}=killpg"})
    assert field.ended(run_id) is RunStatus.SUCCEEDED, field.log()
    field.struck(point)
    assert reads.runs.result(field.ledger, run_id) == 3
    attempts = reads.steps.attempts(field.ledger, run_id, "ready")
    assert Counter(one.status for one in attempts) == Counter(polled=2, succeeded=1, crashed=crashed)
    step = reads.steps.get(field.ledger, run_id, "ready")
    assert step.polls == 2
    assert step.started_at is not None
    assert step.started_at <= attempts[0].started_at <= step.started_at + timedelta(seconds=1)
    assert not overlaps(field.lines(run_id))
    events = Counter(event.type for event in reads.events.of_run(field.ledger, run_id))
    assert (events["step.started"], events["step.polled"]) == (1 + crashed, 1)
