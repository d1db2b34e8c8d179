"""What happens is counted: beside what the ledger holds, in this process and in children."""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from orchestrator.core.facts import StartRequest
from orchestrator.core.settling import Settle
from orchestrator.engine.flows import register, switch
from orchestrator.engine.runs import delete_run, rerun, start_run
from orchestrator.engine.runs.rerun import Again
from orchestrator.engine.steps import retry_step, settle_step
from orchestrator.engine.subflows import stopping
from orchestrator.errors import FlowDisabled
from orchestrator.ledger.rows import Watch, run
from orchestrator.observe import observer
from orchestrator.observe.metrics import table
from orchestrator.observe.metrics.instruments import Instruments
from orchestrator.observe.metrics.measured import Measured
from orchestrator.observe.metrics.metric import Metric, Source
from orchestrator.observe.metrics.reports import Pipe, Reporter
from orchestrator.observe.observer import slow_statement
from orchestrator.workers.app.celery_app import make_app
from orchestrator.workers.run.deliver import deliver
from orchestrator.workers.state import WorkerState, state_of
from tests.support.eventually import eventually
from tests.support.scrape import Scrape
from tests.workers import flows_observed
from tests.workers.conftest import Bench
from tests.workers.test_observer import FLOWS, Notes, start, work


class Counted:
    """What this process counted."""

    def __init__(self) -> None:
        self.instruments = Instruments([Source.WORKER, Source.KEEPER, Source.API])

    def of(self, metric: Metric, suffix: str = "", **labels: str) -> float:
        return Scrape(self.instruments.render()[0]).of(metric, suffix, **labels)


@pytest.fixture
def counted() -> Iterator[Counted]:
    made = Counted()
    measured = Measured(made.instruments)
    observer.listen(measured)
    yield made
    observer.unlisten(measured)


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


def attempts(bench: Bench, run_id: UUID) -> list[str]:
    with bench.ledger.auto() as tx:
        found = tx.exec_driver_sql("SELECT status FROM flow_step_attempts WHERE run_id = %s", (run_id,))
        return [status for (status,) in found]


def test_runs_and_attempts_are_counted_as_the_ledger_has_them(
    bench: Bench, state: WorkerState, notes: Notes, counted: Counted
) -> None:
    flows_observed.GO_WRONG.add("shaky")
    run_id = start(bench, state, "observed_retry", n=1)
    work(bench, state, notes, run_id)
    found = attempts(bench, run_id)
    mine = {"flow": "observed_retry"}
    assert counted.of(table.RUNS_STARTED, **mine, trigger_type="test") == 1
    assert counted.of(table.RUNS_COMPLETED, **mine, status="succeeded") == 1
    assert counted.of(table.RUNS_DURATION, "_count", **mine) == 1
    assert counted.of(table.STEPS_DURATION, "_count", **mine, status="ok") == found.count("succeeded") == 2
    assert counted.of(table.STEPS_DURATION, "_count", **mine, step_type="shaky", status="failed") == 1
    assert counted.of(table.STEPS_RETRIES, **mine, step_type="shaky", reason="failed") == 1
    assert counted.of(table.STEPS_QUEUE_DELAY, "_count", queue="default") == 2, "that of a chain waits in no queue"
    assert counted.of(table.DISPATCH_PUBLISHED, queue="default") == 2


def test_what_fails_for_good_is_no_retry_and_what_is_skipped_is_counted(
    bench: Bench, state: WorkerState, notes: Notes, counted: Counted
) -> None:
    run_id = start(bench, state, "observed_skip", n=1)
    work(bench, state, notes, run_id)
    assert counted.of(table.STEPS_DURATION, "_count", step_type="bad", status="failed") == 1
    assert counted.of(table.STEPS_RETRIES) == 0
    assert counted.of(table.STEPS_SKIPPED, flow="observed_skip", step_type="plus") == 2
    assert counted.of(table.RUNS_COMPLETED, status="failed") == 1


def test_a_message_that_comes_again_is_a_duplicate_of_its_queue(
    bench: Bench, state: WorkerState, notes: Notes, counted: Counted
) -> None:
    run_id = start(bench, state, "observed_chain", n=1)
    work(bench, state, notes, run_id)
    (sent,) = {fact.dispatch for fact in notes.facts if fact.told == "dispatched"}  # type: ignore[union-attr]
    deliver(state, sent)
    assert counted.of(table.DISPATCH_DUPLICATES_SUPPRESSED, queue="default") == 1


def test_a_start_that_is_refused_is_counted_by_its_code(bench: Bench, state: WorkerState, counted: Counted) -> None:
    switch.disable(bench.ledger, "observed_chain", "test")
    with pytest.raises(FlowDisabled):
        start_run.start(bench.ledger, [StartRequest("observed_chain", '{"n": 1}')])
    assert counted.of(table.RUNS_REFUSED, reason="flow_disabled") == 1
    assert counted.of(table.OPERATORS_ACTIONS, action="flow.disable") == 1


def test_what_operators_do_is_counted_by_kind(bench: Bench, state: WorkerState, notes: Notes, counted: Counted) -> None:
    ledger = bench.ledger
    run_id = start(bench, state, "observed_skip", n=1)
    work(bench, state, notes, run_id)
    retry_step.retry(ledger, run_id, None, by="test")
    settle_step.settle(ledger, Settle(run_id, "bad", "test", "it is done", "1"))
    rerun.start(ledger, Again(run_id), by="test")
    other = start(bench, state, "observed_chain", n=1)
    settle_step.settle(ledger, Settle(other, "plus", "test", "not needed"))
    delete_run.delete(ledger, other, by="test")
    third = start(bench, state, "observed_chain", n=1)
    stopping.cancel(ledger, third, by="test", reason="enough", grace=timedelta(seconds=1))
    for action in ("retry", "mark", "rerun", "skip", "cancel", "delete"):
        assert counted.of(table.OPERATORS_ACTIONS, action=action) == 1, action


def test_a_slow_statement_is_logged_and_counted_by_its_name(
    bench: Bench, counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    bench.ledger.slow = Watch(-1.0, slow_statement)
    bench.ledger.close()  # what is open was opened without it
    with bench.ledger.auto() as tx:
        run(tx, "next_tick")
    assert counted.of(table.DATABASE_SLOW_STATEMENTS, statement="next_tick") == 1
    assert [one.statement for one in caplog.records if one.message == "statement.slow"] == ["next_tick"]  # type: ignore[attr-defined]


def test_a_quick_statement_is_not_slow(bench: Bench, counted: Counted) -> None:
    bench.ledger.slow = Watch(60.0, slow_statement)
    bench.ledger.close()
    with bench.ledger.auto() as tx:
        run(tx, "next_tick")
    assert counted.of(table.DATABASE_SLOW_STATEMENTS) == 0


# ---- children ----


def in_child(work: Callable[[], None]) -> int:
    """Its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def test_a_child_that_is_killed_has_reported_all_that_it_did(pipe: Pipe) -> None:
    """Also while others report: no line is torn, and none is lost."""
    ready, go = os.pipe()
    counted = Counted()

    def report() -> None:
        reporter = pipe.reporter()
        for number in range(2_000):
            reporter.observe(table.STEPS_DURATION, f"flow{number % 7}", "load", "ok", value=1.5)
            reporter.count(table.STEPS_RETRIES, "flow", "load", "failed")
        os.write(go, b".")
        signal.pause()

    pids = [in_child(report) for _ in range(3)]
    pipe.read_into(counted.instruments)
    for _ in pids:
        os.read(ready, 1)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    eventually(lambda: counted.of(table.STEPS_RETRIES) == 6_000, message="all reports are read")
    assert counted.of(table.STEPS_DURATION, "_count") == 6_000
    assert counted.of(table.STEPS_DURATION, "_sum") == 9_000
    assert counted.of(table.METRICS_DROPPED_REPORTS) == 0


def test_a_main_process_that_does_not_read_holds_nobody_up_and_hears_what_it_missed(pipe: Pipe) -> None:
    reporter = pipe.reporter()
    sent = 100_000
    for _ in range(sent):
        reporter.count(table.STEPS_RETRIES, "a_flow_with_a_name", "and_a_step_with_one", "failed")
    counted = Counted()
    pipe.read_into(counted.instruments)
    eventually(lambda: counted.of(table.STEPS_RETRIES) > 0, message="it reads")

    def one_more() -> bool:
        reporter.count(table.LEASE_EXPIRED)
        return counted.of(table.METRICS_DROPPED_REPORTS) > 0

    eventually(one_more, message="what was dropped is told")
    assert counted.of(table.STEPS_RETRIES) + counted.of(table.METRICS_DROPPED_REPORTS) == sent


def test_many_threads_of_a_child_report_whole_lines(pipe: Pipe) -> None:
    reporter = pipe.reporter()
    threads = [threading.Thread(target=_report, args=(reporter,)) for _ in range(4)]
    counted = Counted()
    pipe.read_into(counted.instruments)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: counted.of(table.STEPS_RETRIES) == 2_000, message="all reports are read")


def _report(reporter: Reporter) -> None:
    for _ in range(500):
        reporter.count(table.STEPS_RETRIES, "flow", "load", "failed")


def test_a_name_that_is_too_long_or_has_a_tab_is_dropped_and_told(pipe: Pipe) -> None:
    counted = Counted()
    pipe.read_into(counted.instruments)
    reporter = pipe.reporter()
    reporter.count(table.STEPS_SKIPPED, "x" * select.PIPE_BUF, "load")
    reporter.count(table.STEPS_SKIPPED, "a\tb", "load")
    reporter.count(table.STEPS_SKIPPED, "flow", "load")
    eventually(lambda: counted.of(table.STEPS_SKIPPED, flow="flow") == 1, message="the good one is counted")
    assert counted.of(table.STEPS_SKIPPED) == 1
    assert counted.of(table.METRICS_DROPPED_REPORTS) == 2


def test_a_worker_that_nobody_can_ask_does_not_import_what_counts() -> None:
    """Nor does a child: what it imports is what its parent has when it is forked, before the instruments are made."""
    code = (
        "import sys\n"
        "from orchestrator.workers.app import celery_app, tasks\n"
        "from orchestrator.workers.process import command\n"
        "sys.exit('prometheus_client' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
