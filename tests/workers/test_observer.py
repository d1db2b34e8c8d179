"""What observers are told, beside what the ledger holds; in this process, with a real ledger and broker."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest

from orchestrator.core.facts import Claimant, Dispatch, StartRequest
from orchestrator.core.happened import Accepted, Dispatched, Ended, Fact, Failed, Refused, Skipped, Started, Succeeded
from orchestrator.core.states import FINAL_RUN
from orchestrator.engine.flows import register, switch
from orchestrator.engine.runs import cancel_run, start_run
from orchestrator.engine.steps import claim_step, release
from orchestrator.engine.sweeps import sweep
from orchestrator.errors import FlowDisabled
from orchestrator.ledger import reads
from orchestrator.observe import observer
from orchestrator.workers.app.celery_app import make_app
from orchestrator.workers.run.deliver import deliver
from orchestrator.workers.state import WorkerState, state_of
from tests.workers import flows_observed
from tests.workers.conftest import Bench

F = TypeVar("F", bound=Fact)
FLOWS = {value.name: value for value in vars(flows_observed).values() if type(value).__name__ == "Flow"}


class Notes:
    """Keeps every fact."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.facts.append

    def of(self, kind: type[F]) -> list[F]:
        return [fact for fact in self.facts if isinstance(fact, kind)]


@pytest.fixture
def notes() -> Iterator[Notes]:
    made = Notes()
    observer.listen(made)
    yield made
    observer.unlisten(made)


@pytest.fixture
def state(bench: Bench) -> Iterator[WorkerState]:
    made = state_of(make_app(bench.settings, FLOWS))
    for one in FLOWS.values():
        register.register(bench.ledger, one.manifest)
    yield made
    made.close()


def start(bench: Bench, state: WorkerState, flow: str, **body: Any) -> UUID:
    (run,) = start_run.start(bench.ledger, [StartRequest(flow, json.dumps(body), trigger="test")])
    state.runtime().publisher.publish(run.dispatches)
    return run.run_id


def work(bench: Bench, state: WorkerState, notes: Notes, run_id: UUID) -> None:
    """Deliver what was dispatched until the run has ended."""
    done: set[Dispatch] = set()
    while reads.runs.status(bench.ledger, run_id) not in FINAL_RUN:
        waiting = [fact.dispatch for fact in notes.of(Dispatched) if fact.dispatch not in done]
        for one in waiting:
            done.add(one)
            deliver(state, one)
        if not waiting:
            state.runtime().publisher.publish(sweep.due(bench.ledger).dispatches)


def rows(bench: Bench, statement: str, run_id: UUID) -> list[tuple[Any, ...]]:
    with bench.ledger.auto() as tx:
        return [tuple(row) for row in tx.exec_driver_sql(statement, (run_id,))]


def agree(bench: Bench, notes: Notes, run_id: UUID) -> None:
    """The facts of this run are those of the ledger, in an order in which they can have happened."""
    (accepted,) = notes.of(Accepted)
    mine = [fact for fact in notes.facts if not isinstance(fact, Accepted | Refused | Dispatched)]
    attempts = rows(bench, "SELECT step_key, attempt, status FROM flow_step_attempts WHERE run_id = %s", run_id)
    ended = [(one.step.step_key, one.step.attempt, "succeeded") for one in notes.of(Succeeded)]
    ended += [(one.step.step_key, one.step.attempt, one.status) for one in notes.of(Failed)]
    assert Counter(ended) == Counter(attempts)
    assert {(key, number) for key, number, _ in attempts} == {
        (one.step.step_key, one.step.attempt) for one in notes.of(Started)
    }
    skipped = rows(bench, "SELECT step_key FROM flow_steps WHERE run_id = %s AND status = 'skipped'", run_id)
    assert sorted(one.step.step_key for one in notes.of(Skipped)) == sorted(key for (key,) in skipped)
    sent = rows(bench, "SELECT step_key, dispatch_no FROM flow_step_dispatches WHERE run_id = %s", run_id)
    assert Counter((one.dispatch.step_key, one.dispatch.number) for one in notes.of(Dispatched)) == Counter(sent)
    told = "SELECT flow, status, trigger_type, EXTRACT(EPOCH FROM ended_at - created_at) FROM flow_runs WHERE id = %s"
    ((flow, status, trigger, took),) = rows(bench, told, run_id)
    assert (accepted.run.run_id, accepted.run.flow, accepted.run.trigger) == (run_id, flow, trigger)
    (end,) = notes.of(Ended)
    assert mine[-1] is end
    assert (end.run.run_id, end.run.flow, end.status, end.run.trigger) == (run_id, flow, status, trigger)
    assert end.took_s == pytest.approx(float(took))
    for fact in mine[:-1]:
        step = fact.step  # type: ignore[union-attr]
        assert (step.run_id, step.flow, step.trigger, step.queue) == (run_id, flow, trigger, "default")
    for key, number, _ in attempts:
        places = [
            place
            for place, fact in enumerate(mine[:-1])
            if (fact.step.step_key, fact.step.attempt) == (key, number)  # type: ignore[union-attr]
        ]
        assert [isinstance(mine[place], Started) for place in places] == [True, False]


@pytest.mark.parametrize(
    ("flow", "body", "wrong"),
    [
        ("observed_chain", {"n": 1}, ()),
        ("observed_retry", {"n": 1}, ("shaky",)),
        ("observed_skip", {"n": 1}, ()),
        ("observed_loop", {"items": [1, 2, 3]}, ()),
        ("observed_loop", {"items": []}, ()),
        ("observed_tx", {"n": 1}, ()),
    ],
)
def test_what_is_told_is_what_the_ledger_holds(
    bench: Bench, state: WorkerState, notes: Notes, flow: str, body: dict[str, Any], wrong: tuple[str, ...]
) -> None:
    flows_observed.GO_WRONG.update(wrong)
    run_id = start(bench, state, flow, **body)
    work(bench, state, notes, run_id)
    agree(bench, notes, run_id)


def test_facts_say_how_long_and_why(bench: Bench, state: WorkerState, notes: Notes) -> None:
    """What metrics and spans need."""
    flows_observed.GO_WRONG.add("shaky")
    run_id = start(bench, state, "observed_retry", n=1)
    work(bench, state, notes, run_id)
    first, *_ = notes.of(Started)
    assert 0 <= first.queue_wait_s < 60
    (failed,) = notes.of(Failed)
    assert (failed.status, failed.failure.error.type, failed.failure.retryable) == ("failed", "ValueError", True)
    assert failed.step.type == "shaky"
    assert failed.took_s is not None
    assert all(0 <= one.took_s < 60 for one in notes.of(Succeeded))
    assert all(0 <= one.lag_s < 60 and not one.again for one in notes.of(Dispatched))


def test_a_cancelled_run_that_nothing_runs_of_is_told(bench: Bench, state: WorkerState, notes: Notes) -> None:
    run_id = start(bench, state, "observed_chain", n=1)
    for _ in range(2):  # the second finds it ended
        cancel_run.cancel(bench.ledger, run_id, by="test", reason="enough", grace=timedelta(seconds=1))
    (end,) = notes.of(Ended)
    assert (end.run.run_id, end.run.flow, end.status, end.by) == (run_id, "observed_chain", "cancelled", None)


def test_what_others_end_is_told(bench: Bench, state: WorkerState, notes: Notes) -> None:
    """A worker that is dead tells nothing, so whoever ends its claims does."""
    lost = start(bench, state, "observed_chain", n=1)
    (first,) = notes.of(Dispatched)
    claimant = Claimant("gone/1/x", timedelta(seconds=60))
    for number in (1, 2):
        assert claim_step.claim(bench.ledger, lost, first.dispatch.step_key, number, claimant)
        release.end_owned(bench.ledger, "gone/1/x", crash_limit=1)
    assert [(one.status, one.step.attempt, one.took_s) for one in notes.of(Failed)] == [
        ("crashed", 1, None),
        ("crashed", 2, None),
    ]
    assert len(notes.of(Skipped)) == 2
    (end,) = notes.of(Ended)
    assert end.status == "failed"


def test_a_lost_lease_is_told_with_its_attempt_and_how_it_ended(
    bench: Bench, state: WorkerState, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """By the keeper that finds it: crashed, or released when its worker was told to stop; then the run's end."""
    lost = start(bench, state, "observed_chain", n=1)
    (first,) = notes.of(Dispatched)
    with bench.ledger.auto() as tx:
        tx.exec_driver_sql(
            "INSERT INTO flow_workers (id, host, pid, pool, concurrency, prefetch, queues, handlers, release,"
            " stopping_at) VALUES ('leaving/1/x', 'h', 1, 'threads', 1, 1, '{default}', '{}', 'r', flow_now())"
        )
    with caplog.at_level(logging.WARNING):
        for number, worker in enumerate(("leaving/1/x", "gone/1/x", "gone/1/y"), start=1):
            claimant = Claimant(f"{worker}/t1", timedelta(seconds=60))
            assert claim_step.claim(bench.ledger, lost, first.dispatch.step_key, number, claimant)
            with bench.ledger.auto() as tx:
                tx.exec_driver_sql("UPDATE flow_step_claims SET expires_at = flow_now() - interval '1 s'")
            sweep.expired(bench.ledger, crash_limit=1)
    told = [(one.step.step_key, one.step.attempt, one.status) for one in notes.of(Failed)]
    ledger = rows(
        bench, "SELECT step_key, attempt, status FROM flow_step_attempts WHERE run_id = %s ORDER BY attempt", lost
    )
    assert told == ledger
    assert [status for _, _, status in told] == ["released", "crashed", "crashed"]
    (end,) = notes.of(Ended)
    assert (end.run.run_id, end.status) == (lost, "failed")
    lines = [record for record in caplog.records if record.message == "step.lost"]
    assert [(record.run_id, record.step_key, record.attempt) for record in lines] == [  # type: ignore[attr-defined]
        (lost, key, attempt) for key, attempt, _ in ledger
    ]


def test_a_run_that_its_deadline_ends_is_told(bench: Bench, state: WorkerState, notes: Notes) -> None:
    run_id = start(bench, state, "observed_late", n=1)
    with bench.ledger.auto() as tx:
        tx.exec_driver_sql("UPDATE flow_run_controls SET deadline = flow_now() - interval '1 s'")
    sweep.deadlines(bench.ledger, timedelta(seconds=1))
    (end,) = notes.of(Ended)
    assert (end.run.run_id, end.run.flow, end.status, end.by) == (run_id, "observed_late", "timed_out", None)
    assert end.took_s >= 0


def test_each_run_of_many_is_told_and_one_whose_key_was_known_is_not(
    bench: Bench, state: WorkerState, notes: Notes
) -> None:
    requests = [StartRequest("observed_chain", '{"n": 1}', key=key) for key in ("a", "b", "a")]
    first, second, again = start_run.start(bench.ledger, requests)
    assert again.run_id == first.run_id
    start_run.start(bench.ledger, requests[:1])
    assert [one.run.run_id for one in notes.of(Accepted)] == [first.run_id, second.run_id]


def test_runs_that_steps_start_are_told(bench: Bench, state: WorkerState, notes: Notes) -> None:
    """Each once, with what started it; one that ends as it opens, and what is skipped in it, too."""
    (run,) = start_run.start(bench.ledger, [StartRequest("observed_calls", "{}", trigger="test")])
    told = rows(bench, "SELECT id, flow, trigger_type FROM flow_runs WHERE %s::uuid IS NOT NULL", run.run_id)
    accepted = [(one.run.run_id, one.run.flow, one.run.trigger) for one in notes.of(Accepted)]
    assert len(accepted) == 4
    assert Counter(accepted) == Counter(told)
    assert {(one.run.flow, one.status) for one in notes.of(Ended)} == {("observed_empty", "succeeded")}
    assert [(one.step.flow, one.step.step_key) for one in notes.of(Skipped)] == [("observed_middle", "never")]


def test_refusals_are_told(bench: Bench, state: WorkerState, notes: Notes) -> None:
    """A start of a disabled flow, and a message that finds nothing to claim."""
    run_id = start(bench, state, "observed_chain", n=1)
    work(bench, state, notes, run_id)
    deliver(state, notes.of(Dispatched)[0].dispatch)
    switch.disable(bench.ledger, "observed_chain", by="test")
    bench.ledger.current.clear()
    with pytest.raises(FlowDisabled):
        start(bench, state, "observed_chain", n=1)
    message, refused = notes.of(Refused)
    assert (message.what, message.flow, message.run_id, message.number) == ("message", "observed_chain", run_id, 1)
    assert (refused.what, refused.flow, refused.reason) == ("start", "observed_chain", "flow_disabled")


def test_an_observer_that_raises_harms_nothing(
    bench: Bench, state: WorkerState, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises is logged once for each of its methods."""

    class Broken(Notes):
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    broken = Broken()
    observer.listen(broken)
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                notes.facts.clear()
                run_id = start(bench, state, "observed_chain", n=1)
                work(bench, state, notes, run_id)
                assert reads.runs.status(bench.ledger, run_id) == "succeeded"
    finally:
        observer.unlisten(broken)
    said = Counter(record.observer for record in caplog.records if record.message == "observer.failed")  # type: ignore[attr-defined]
    assert said == {f"Broken.{name}": 1 for name in ("accepted", "started", "succeeded", "dispatched", "ended")}
