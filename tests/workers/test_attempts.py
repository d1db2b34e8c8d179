"""Whose failure it was: what a handler does to itself, to its neighbours and to the ledger's transaction."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import psycopg
import pytest
from sqlalchemy import text

from orchestrator.core.states import RunStatus
from orchestrator.engine.flows import register
from orchestrator.ledger import reads
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess
from tests.workers import flows_attempts as flows
from tests.workers.conftest import Bench

Start = Callable[..., WorkerProcess]
FLOWS = str(Path(flows.__file__))


@pytest.fixture
def gate(bench: Bench) -> Path:
    return bench.folder / "gate"


@pytest.fixture
def start(bench: Bench, worker_of: Callable[..., WorkerProcess], gate: Path) -> Start:
    """`start(pool=…, **settings)` starts a worker with the flows of these tests."""
    for value in vars(flows).values():
        if type(value).__name__ == "Flow":
            register.register(bench.ledger, value.manifest)

    def make(pool: str = "threads", concurrency: int = 2, **settings: Any) -> WorkerProcess:
        changed = bench.settings.model_copy(update={"lease": timedelta(seconds=30), **settings})
        return worker_of(
            bench, flows=FLOWS, settings=changed, pool=pool, concurrency=concurrency, env={"TEST_GATE": str(gate)}
        )

    return make


def ended(bench: Bench, run_id: UUID, key: str) -> list[tuple[str, str | None]]:
    """How each attempt of a step ended."""
    return [(one.status, one.error_type) for one in bench.attempts(run_id, key)]


def error_of(bench: Bench, run_id: UUID) -> dict[str, Any]:
    error = reads.runs.get(bench.ledger, run_id).error
    assert isinstance(error, dict)
    return error


# ---- our ledger, or another database ----


def bookings(bench: Bench) -> list[int]:
    with bench.ledger.tx() as tx:
        return [row.attempt for row in tx.execute(text("SELECT attempt FROM test_bookings"))]


@pytest.fixture
def booked(bench: Bench, start: Start, gate: Path) -> Callable[..., tuple[UUID, WorkerProcess]]:
    """A run whose handler has written in its transaction and waits for the gate."""

    def begin(**settings: Any) -> tuple[UUID, WorkerProcess]:
        with bench.ledger.tx() as tx:
            tx.execute(text("CREATE TABLE test_bookings (key text, attempt int)"))
        process = start(**settings)
        run_id = bench.start("booking")
        eventually(Path(f"{gate}.begun").exists)
        return run_id, process

    return begin


def test_a_lock_in_the_way_of_a_transactional_finish_is_waited_for(
    bench: Bench, booked: Callable[..., tuple[UUID, WorkerProcess]], gate: Path, db_url: str
) -> None:
    """As another branch holds the run while it opens a large loop. The handler is not called again."""
    run_id, process = booked(statement_timeout=timedelta(seconds=1))
    with psycopg.connect(db_url) as other:
        other.execute("SELECT FROM flow_runs WHERE id = %s FOR NO KEY UPDATE", [run_id])
        gate.touch()
        eventually(lambda: "database.busy" in process.log(), message="the finish ran into its statement timeout")
        other.commit()
    assert bench.result(run_id) == "booked"
    assert ended(bench, run_id, "book") == [("succeeded", None)]
    assert bookings(bench) == [1]
    assert "database.away" not in process.log()


def test_a_transaction_that_cannot_be_committed_any_more_is_run_again_uncharged(
    bench: Bench, booked: Callable[..., tuple[UUID, WorkerProcess]], gate: Path, db_url: str
) -> None:
    """A server that became a read-only standby says so at the finish; nothing of the attempt happened."""
    run_id, process = booked()
    with psycopg.connect(db_url, autocommit=True) as other:
        other.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'read-only' USING ERRCODE = '25006'; END $$"
        )
        other.execute("CREATE TRIGGER refuse BEFORE INSERT ON flow_outputs EXECUTE FUNCTION refuse()")
        gate.touch()
        eventually(lambda: "step.undone" in process.log())
        other.execute("DROP TRIGGER refuse ON flow_outputs")
    assert bench.result(run_id) == "booked"
    *lost, last = ended(bench, run_id, "book")
    assert set(lost) == {("crashed", "TransactionLost")}
    assert last == ("succeeded", None)
    assert bookings(bench) == [len(lost) + 1]
    with bench.ledger.tx() as tx:
        assert tx.execute(text("SELECT failures, crashes FROM flow_steps")).one() == (0, 0)


def test_a_commit_that_never_gets_done_ends(bench: Bench, start: Start, gate: Path) -> None:
    """A deferred trigger of the handler's own table takes longer than a statement may, each time. It ran for ever."""
    with bench.ledger.tx() as tx:
        tx.execute(text("CREATE TABLE test_bookings (key text, attempt int)"))
        tx.execute(
            text(
                "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'statement timeout' USING ERRCODE = '57014'; END $$"
            )
        )
        tx.execute(
            text(
                "CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON test_bookings DEFERRABLE INITIALLY DEFERRED"
                " FOR EACH ROW EXECUTE FUNCTION linger()"
            )
        )
    gate.touch()
    start(crash_limit=1)
    run_id = bench.start("booking")
    assert bench.ended(run_id) is RunStatus.FAILED
    assert ended(bench, run_id, "book") == [("crashed", "TransactionLost")] * 2
    assert bookings(bench) == []


@pytest.mark.parametrize("name", ["foreign", "foreign_plain"])
def test_another_databases_error_is_the_handlers_own(bench: Bench, start: Start, name: str) -> None:
    """SQLite's errors have the classes of a lost connection; the step keeps its message and its retries."""
    process = start()
    run_id = bench.start(name)
    eventually(lambda: [one for one in reads.steps.page(bench.ledger, run_id) if one.status == "waiting"])
    assert ended(bench, run_id, name) == [("failed", "sqlalchemy.exc.OperationalError")]
    (attempt,) = bench.attempts(run_id, name)
    assert "no such table" in attempt.error_message
    process.says("no such table")
    assert "database.away" not in process.log()


def test_a_transaction_that_the_handler_left_in_error_is_its_own_failure(bench: Bench, start: Start) -> None:
    start()
    run_id = bench.start("spoiling")
    assert bench.ended(run_id) is RunStatus.FAILED
    assert error_of(bench, run_id)["type"] == "orchestrator.errors.NotTransactional"
    assert "begin_nested" in error_of(bench, run_id)["message"]
    assert len(bench.attempts(run_id, "spoil")) == 1


def test_transactional_steps_wait_for_a_free_connection(bench: Bench, start: Start, db_url: str) -> None:
    """No worker died and no handler had begun, so nothing is charged."""
    process = start(concurrency=8)
    bench.result(bench.start("failing", how="nothing"))  # its own connections are there
    with psycopg.connect(db_url, autocommit=True) as other:
        name = other.info.dbname
        held = len(other.execute("SELECT FROM pg_stat_activity WHERE datname = %s", [name]).fetchall())
        other.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT {held + 10}')
        run_id = bench.start("writing", numbers=list(range(40)))
        assert bench.result(run_id) == list(range(40))
        other.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')
    with bench.ledger.tx() as tx:
        assert tx.execute(
            text("SELECT DISTINCT status FROM flow_step_attempts WHERE run_id = :id"), {"id": run_id}
        ).all() == [("succeeded",)]
    assert "step.undone" not in process.log()


# ---- how handlers end ----

HOW = [
    ("exit", "SystemExit", "3"),
    ("interrupt", "KeyboardInterrupt", "KeyboardInterrupt"),
]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_however_a_handler_ends_the_attempt_fails_at_once_and_others_go_on(
    bench: Bench, start: Start, pool: str
) -> None:
    process = start(pool, concurrency=1)
    began = process.children()
    for flow in ("failing", "failing_async"):
        for how, kind, message in HOW:
            run_id = bench.start(flow, how=how)
            assert bench.ended(run_id) is RunStatus.FAILED
            error = error_of(bench, run_id)
            assert (error["type"], error["message"]) == (kind, message)
        assert bench.ended(bench.start(flow, how="nothing")) is RunStatus.SUCCEEDED
    assert process.children() == began, "no child was lost"


def test_the_loop_of_async_steps_outlives_what_handlers_do_to_it(bench: Bench, start: Start) -> None:
    start("threads", concurrency=2)
    run_id = bench.start("failing_async", how="inner exit")
    assert bench.ended(run_id) is RunStatus.FAILED
    assert error_of(bench, run_id)["type"] == "SystemExit"
    for how in ("stop", "nothing"):
        assert bench.result(bench.start("failing_async", how=how)) == how


def test_a_cancellation_inside_a_handler_is_an_error_of_the_handler(bench: Bench, start: Start) -> None:
    start("threads")
    run_id = bench.start("failing_async", how="inner cancel")
    assert bench.ended(run_id) is RunStatus.FAILED
    assert error_of(bench, run_id)["message"] == "part 3 was refused"


# ---- what cannot be recorded ----


def test_an_exception_that_cannot_be_shown_is_one_failed_attempt(bench: Bench, start: Start) -> None:
    process = start()
    run_id = bench.start("failing", how="shy")
    assert bench.ended(run_id) is RunStatus.FAILED
    (attempt,) = bench.attempts(run_id, "fail")
    assert attempt.status == "failed"
    assert attempt.error_type.endswith("Shy")
    assert "str() of it raised KeyError" in attempt.error_message
    process.says("raise Shy")


@pytest.mark.parametrize("how", ["result", "failure"])
def test_what_the_ledger_refuses_is_one_failed_attempt_with_the_cause(bench: Bench, start: Start, how: str) -> None:
    """PostgreSQL's limits end a statement for good: the same again would be refused again."""
    with bench.ledger.tx() as tx:
        tx.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'too large for a value' USING ERRCODE = '54000'; END $$"
            )
        )
        tx.execute(text("CREATE TRIGGER refuse BEFORE INSERT ON flow_outputs EXECUTE FUNCTION refuse()"))
        if how == "failure":  # not even the error can be stored, but for the plain one
            tx.execute(
                text(
                    "CREATE TRIGGER refuse BEFORE INSERT ON flow_step_attempts FOR EACH ROW"
                    " WHEN (NEW.error_message LIKE '%too large%') EXECUTE FUNCTION refuse()"
                )
            )
    process = start()
    run_id = bench.start("failing", how="nothing")
    assert bench.ended(run_id) is RunStatus.FAILED
    (attempt,) = bench.attempts(run_id, "fail")
    assert attempt.status == "failed"
    assert ("too large for a value" in attempt.error_message) is (how == "result")
    process.says("too large for a value")
    assert "[SQL" not in attempt.error_message


def test_a_stopping_worker_that_cannot_record_a_failure_counts_as_deploys_do(
    bench: Bench, start: Start, gate: Path
) -> None:
    """The settings say how many of them a step may see."""
    with bench.ledger.auto() as tx:
        tx.exec_driver_sql(REFUSE_FAILURES)
    run_id = bench.start("failing_late")
    for attempt in (1, 2):
        made = start(crash_limit=0, deploy_limit=1)
        eventually(Path(f"{gate}.begun{attempt}").exists, message="the handler begins")
        made.term()
        eventually(lambda: "Warm shutdown" in made.log(), message="it stops")  # noqa: B023
        eventually(lambda: _told(bench), message="the ledger knows that it stops")
        gate.touch()
        assert made.wait() == 0
        made.says("step.unrecorded")
        gate.unlink()
    assert bench.ended(run_id) is RunStatus.FAILED
    assert error_of(bench, run_id)["type"] == "WorkerLost"
    assert [status for status, _ in ended(bench, run_id, "fail_late")] == ["released", "released"]


REFUSE_FAILURES = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no failures here'; END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON flow_step_attempts FOR EACH ROW WHEN (NEW.status = 'failed')
  EXECUTE FUNCTION refuse();
"""


def _told(bench: Bench) -> int:
    """How often a worker told the ledger that it stops."""
    with bench.ledger.auto() as tx:
        query = "SELECT count(*) FROM flow_workers WHERE stopping_at IS NOT NULL"
        return int(tx.exec_driver_sql(query).scalar_one())


@pytest.mark.parametrize(("what", "kind"), [("nan", "ValueError"), ("decimal", "TypeError"), ("set", "TypeError")])
def test_progress_that_json_cannot_hold_is_refused_in_the_handler(
    bench: Bench, start: Start, what: str, kind: str
) -> None:
    start()
    run_id = bench.start("reporting", what=what)
    assert bench.ended(run_id) is RunStatus.FAILED
    assert error_of(bench, run_id)["type"] == kind
    assert bench.ended(bench.start("reporting", what="good")) is RunStatus.SUCCEEDED


def test_one_bad_report_costs_nobody_a_lease(bench: Bench, start: Start, gate: Path) -> None:
    process = start(lease=timedelta(seconds=3))
    runs = [bench.start("smuggling"), bench.start("honest")]
    eventually(lambda: "progress.dropped" in process.log())
    before = renewed(bench)
    eventually(
        lambda: len(renewed(bench)) == 2 and all(now > then for now, then in zip(renewed(bench), before, strict=True))
    )
    gate.touch()
    assert [bench.ended(run_id) for run_id in runs] == [RunStatus.SUCCEEDED] * 2
    assert "lease." not in process.log()


def renewed(bench: Bench) -> list[Any]:
    with bench.ledger.tx() as tx:
        return [row.expires_at for row in tx.execute(text("SELECT expires_at FROM flow_step_claims ORDER BY run_id"))]


# ---- programs and processes of handlers ----


def test_programs_of_a_step_end_with_its_timeout(bench: Bench, start: Start) -> None:
    process = start("prefork", concurrency=1)
    run_id = bench.start("converting", seconds=123)
    (program,) = eventually(partial(sleeping, process), message="the program runs")
    assert bench.ended(run_id) is RunStatus.FAILED
    eventually(lambda: not psutil.pid_exists(program.pid), message="the program has ended")


def sleeping(process: WorkerProcess) -> list[psutil.Process]:
    found = psutil.Process(process.pid).children(recursive=True)
    return [one for one in found if one.is_running() and one.name() == "sleep"]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_multiprocessing_works_in_a_step(bench: Bench, start: Start, pool: str) -> None:
    start(pool)
    assert bench.result(bench.start("computing", numbers=[-1, -2])) == [1, 2]


# ---- when a step says when ----


def test_a_step_sets_the_time_of_its_next_try(bench: Bench, start: Start) -> None:
    """Instead of its back-off of an hour, at the cost of one of its retries."""
    start()
    run_id = bench.start("limits")
    assert bench.result(run_id) == [2, 2, 2]
    (first, _) = bench.attempts(run_id, "limited")
    assert (first.error_type, first.error_message) == (
        "orchestrator.RetryAfter",
        "429: too many requests",
    )
    once = bench.start("limits_once")
    assert bench.ended(once) is RunStatus.FAILED
    assert error_of(bench, once)["message"] == "the step asked to be tried again after 200ms"


# ---- large values that children share ----


def test_children_of_a_loop_read_a_large_argument_once(bench: Bench, start: Start) -> None:
    start(concurrency=1)
    run_id = bench.start("mailing", rows=100)
    assert bench.result(run_id) == [n + 200_000 for n in range(100)]


# ---- the log ----


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_module_of_flows_that_configures_logging_does_not_silence_the_worker(
    bench: Bench, worker_of: Callable[..., WorkerProcess], pool: str
) -> None:
    """The worker registers the flow; here the module would configure the logging of the tests."""
    process = worker_of(bench, flows=str(Path(FLOWS).with_name("flows_logging.py")), pool=pool)
    assert bench.ended(bench.start("talking")) is RunStatus.FAILED
    eventually(lambda: "run.ended" in process.log())
    (charged,) = [line for line in process.log().splitlines() if line.startswith("charged")]
    for fact in ("run_id=", "flow=talking", "step_key=talk", "order=42"):
        assert fact in charged
    (failed,) = [line for line in process.log().splitlines() if line.startswith("step.failed")]
    assert "flow=talking step_key=talk attempt=1" in failed
    process.says('raise ValueError("to see whether the failure is logged")')
