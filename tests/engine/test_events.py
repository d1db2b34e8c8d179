"""Which events are kept is a setting; what people see is the same history."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import pytest

from orchestrator.engine.steps import release
from orchestrator.engine.sweeps import sweep
from orchestrator.ledger import reads
from orchestrator.ledger.tx import Ledger
from tests.support.factories import LEASE, Lab, after, call, loop, retry

DERIVED = {"step.started", "step.succeeded", "step.dispatched"}


@pytest.fixture
def essential(lab: Lab) -> Iterator[Ledger]:
    """The same database, by a process that keeps essential events only."""
    ledger = lab.another(name="test", essential=True)
    yield ledger
    ledger.close()


@contextmanager
def used(lab: Lab, ledger: Ledger) -> Iterator[None]:
    """What the lab does here, it does with `ledger`."""
    everything, lab.ledger = lab.ledger, ledger
    try:
        yield
    finally:
        lab.ledger = everything


def history(ledger: Ledger, run_id: UUID) -> list[tuple[str, str | None, int | None]]:
    return [(one.type, one.step_key, one.attempt) for one in reads.events.of_run(ledger, run_id)]


def chain(lab: Lab) -> UUID:
    run_id = lab.run({"a": call(), "b": after("a"), "c": after("b"), "d": after("b")})
    lab.drain(run_id, chain=True)
    return run_id


def fan(lab: Lab) -> UUID:
    run_id = lab.run({"list": call(), "each": loop("@steps('list').output", concurrency=2), "join": after("each")})
    lab.drain(run_id, lambda lease: [1, 2, 3, 4] if lease.step_key == "list" else 1, chain=True)
    return run_id


def troubled(lab: Lab) -> UUID:
    """A failure that is retried, a lost worker, a step given back, a step that is skipped."""
    run_id = lab.run({"a": call(retry=retry(3, 1.0)), "b": after("a"), "c": call(run_after={"a": ["failed"]})})
    lab.fail(lab.take(run_id, "a"))
    lab.forward(timedelta(seconds=2))
    sweep.due(lab.ledger)
    lab.take(run_id, "a")
    lab.forward(LEASE + timedelta(seconds=2))
    sweep.expired(lab.ledger, crash_limit=3)
    lab.do(run_id, "a")
    lab.forward(2)
    lab.drain(run_id)
    return run_id


@pytest.mark.parametrize("play", [chain, fan, troubled])
def test_the_history_is_the_same_where_essential_events_are_kept(
    lab: Lab, essential: Ledger, play: Callable[[Lab], UUID]
) -> None:
    whole = history(lab.ledger, play(lab))
    with used(lab, essential):
        run_id = play(lab)
    kept = {row["type"] for row in lab.rows("SELECT type FROM flow_events WHERE run_id = %s", run_id)}
    assert kept & {"step.started", "step.succeeded"} <= {"step.succeeded"}
    found = history(essential, run_id)
    let_in = [("step.dispatched", f"each.{n}.do", None) for n in range(1, 2)]  # stands in `step.expanded`, too
    assert sorted(found, key=str) == sorted([*whole, *(let_in if play is fan else [])], key=str)
    for key in {key for _, key, _ in whole if key is None or "." not in key}:
        assert [one for one in found if one[1] == key] == [one for one in whole if one[1] == key]


def test_what_was_written_is_not_told_twice(lab: Lab, essential: Ledger) -> None:
    """Processes may differ, and a setting may be changed while a run is open."""
    run_id = lab.run({"a": call(), "b": after("a"), "c": after("b")})
    lab.do(run_id, "a")
    with used(lab, essential):
        lab.do(run_id, "b")
    lab.do(run_id, "c")
    found = history(essential, run_id)
    assert len(found) == len(set(found))
    assert [one for one, _, _ in found] == [
        "run.accepted",
        "step.dispatched",
        "run.started",
        *["step.started", "step.succeeded", "step.dispatched"] * 2,
        "step.started",
        "step.succeeded",
        "run.succeeded",
    ]


def test_a_history_is_read_in_pages(lab: Lab, essential: Ledger) -> None:
    with used(lab, essential):
        run_id = fan(lab)
    whole = reads.events.of_run(essential, run_id)
    found, last = [], 0
    while page := reads.events.of_run(essential, run_id, after=last, limit=3):
        found += page
        last = page[-1].id
    assert found == whole
    assert [one.at for one in whole] == sorted(one.at for one in whole)


def test_a_running_step_has_begun(lab: Lab, essential: Ledger) -> None:
    with used(lab, essential):
        run_id = lab.run({"a": call()})
        lease = lab.take(run_id, "a")
    assert history(essential, run_id)[-1] == ("step.started", "a", 1)
    release.release(essential, lease)
    after = [kind for kind, _, _ in history(essential, run_id)]
    assert "step.released" in after
    assert "step.started" not in after, "it was given back unstarted"
