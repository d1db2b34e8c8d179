"""A worker that is told to stop: what runs may end until its grace is over, and is handed back in time, uncharged."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from pydantic import SecretStr

from orchestrator.core.access import Actor
from orchestrator.engine import workers
from orchestrator.engine.flows import register
from orchestrator.ledger import reads
from orchestrator.ledger.workers import Target
from tests.support.cases import thinned
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.worker_process import WorkerProcess, running
from tests.workers import flows_stopping
from tests.workers.conftest import Bench

FLOWS = str(Path(flows_stopping.__file__))
HANDING_OVER = ("in_pieces", "async_pieces", "pay_and_hand_over")
GRACE = timedelta(seconds=3)
SOON_S = 10.0
"""Long before a lease ends, on a machine that does much else. What is promised are two seconds: see below."""

STRICT: dict[str, Any] = {"crash_limit": 0, "deploy_limit": 0, "lease": timedelta(minutes=5), "stop_grace": GRACE}
"""No crash and no deploy is allowed: what is lost otherwise than handed back, fails. The lease is so long that nothing
is taken back by its end."""

Start = Callable[..., WorkerProcess]


@pytest.fixture
def stoppable(bench: Bench, worker_of: Callable[..., WorkerProcess]) -> Start:
    """A worker with a grace."""
    for value in vars(flows_stopping).values():
        if type(value).__name__ == "Flow":
            register.register(bench.ledger, value.manifest)

    def start(**options: Any) -> WorkerProcess:
        settings = bench.settings.model_copy(update={**STRICT, **options.pop("settings", {})})
        return worker_of(bench, flows=FLOWS, settings=settings, **options)

    return start


@pytest.fixture
def payments(bench: Bench) -> Callable[[], int]:
    """Makes the table that a transactional step writes to; how many rows it has."""
    with bench.ledger.tx() as tx:
        tx.exec_driver_sql("CREATE TABLE test_payments (key text PRIMARY KEY, amount int)")

    def count() -> int:
        with bench.ledger.auto() as tx:
            return int(tx.exec_driver_sql("SELECT count(*) FROM test_payments").scalar_one())

    return count


def started(bench: Bench, count: int = 1) -> None:
    eventually(lambda: len(bench.effects("start")) >= count, message=f"start number {count}")


def statuses(bench: Bench, run_id: UUID, step_key: str) -> list[str]:
    return [one.status for one in sorted(bench.attempts(run_id, step_key), key=lambda one: one.attempt)]


def charged(bench: Bench, run_id: UUID) -> list[tuple[int, int, int]]:
    with bench.ledger.auto() as tx:
        query = f"SELECT failures, crashes, deploys FROM flow_steps WHERE run_id = '{run_id}'"
        return [tuple(row) for row in tx.exec_driver_sql(query)]


def ended_at(made: WorkerProcess) -> float:
    made.wait(30)
    return time.monotonic()


@pytest.mark.parametrize(
    ("pool", "flow"),
    thinned(
        [(pool, flow) for pool in ("prefork", "threads", "solo") for flow in ("long", "long_async")],
        ("prefork", "long"),
        ("threads", "long"),
        ("threads", "long_async"),
    ),
)
def test_a_step_of_ten_minutes_runs_elsewhere_when_the_grace_is_over(
    bench: Bench, stoppable: Start, pool: str, flow: str
) -> None:
    gate = bench.folder / "gate"
    run_id = bench.start(flow, gate=str(gate))
    made = stoppable(pool=pool, concurrency=1)
    started(bench)
    told = time.monotonic()
    made.term()
    other = stoppable(pool="prefork", concurrency=1)
    over = ended_at(made)
    assert over - told < GRACE.total_seconds() + SOON_S
    started(bench, 2)
    assert time.monotonic() - max(over, told + GRACE.total_seconds()) < SOON_S
    gate.touch()
    assert bench.result(run_id) == 2
    assert statuses(bench, run_id, flow) == ["released", "succeeded"]
    assert charged(bench, run_id) == [(0, 0, 0)]
    assert other.alive
    assert len(bench.effects("end")) == (flow == "long"), "the first attempt went on beside the second"


@pytest.mark.parametrize("pool", thinned(["prefork", "threads"], "prefork"))
def test_what_a_handler_started_ends_before_its_step_runs_elsewhere(bench: Bench, stoppable: Start, pool: str) -> None:
    gate = bench.folder / "gate"
    run_id = bench.start("with_a_program", gate=str(gate))
    made = stoppable(pool=pool, concurrency=1)
    started(bench)
    program = psutil.Process(int(Path(f"{gate}.pid").read_text()))
    gate.touch()
    made.term()
    stoppable(pool="prefork", concurrency=1)
    assert bench.result(run_id) == 2
    assert not program.is_running() or program.status() == psutil.STATUS_ZOMBIE
    ended_at(made)


@pytest.mark.slow
def test_a_step_that_ends_within_the_grace_is_recorded(bench: Bench, stoppable: Start) -> None:
    gate = bench.folder / "gate"
    run_id = bench.start("long", gate=str(gate))
    made = stoppable(pool="prefork", concurrency=1, settings={"stop_grace": timedelta(minutes=5)})
    started(bench)
    made.term()
    made.says("Warm shutdown")
    gate.touch()
    assert bench.result(run_id) == 1
    ended_at(made)


@pytest.mark.parametrize(
    ("pool", "flow"),
    thinned(
        [(pool, flow) for pool in ("prefork", "threads") for flow in HANDING_OVER],
        ("prefork", "in_pieces"),
    ),
)
def test_a_step_hands_over_at_a_point_of_its_own(
    bench: Bench, stoppable: Start, payments: Callable[[], int], pool: str, flow: str
) -> None:
    """Long before the grace is over."""
    more = {"pieces": 5} if flow == "in_pieces" else {}
    run_id = bench.start(flow, folder=str(bench.folder), **more)
    made = stoppable(pool=pool, concurrency=1, settings={"stop_grace": timedelta(minutes=5)})
    started(bench)
    if more:
        eventually(lambda: len(bench.effects("piece")) == 3, message="the third piece")
    made.term()
    made.says("Warm shutdown")
    if more:
        (bench.folder / "on").touch()
    ended_at(made)
    assert statuses(bench, run_id, flow) == ["released"]
    assert payments() == 0, "what it wrote was rolled back"
    (bench.folder / "on").touch()
    stoppable(pool="prefork", concurrency=1)
    assert bench.result(run_id) == 2
    assert statuses(bench, run_id, flow) == ["released", "succeeded"]
    assert charged(bench, run_id) == [(0, 0, 0)]
    assert [line[-1] for line in bench.effects("piece")] == [str(piece) for piece in range(5) if more]
    assert payments() == (flow == "pay_and_hand_over")


@pytest.fixture
def program(bench: Bench, stoppable: Start) -> Iterator[Callable[..., WorkerProcess]]:
    """A worker that nobody forked: its exit code is known."""
    with ExitStack() as stack:

        def start(**options: Any) -> WorkerProcess:
            more = options.pop("settings", {})
            settings = bench.settings.model_copy(update={**STRICT, **more})
            env = {"TEST_EFFECTS": str(bench.effects_file), **options.pop("env", {})}
            return stack.enter_context(running(WorkerProcess(settings, FLOWS, bench.folder, env=env, **options)))

        yield start


@pytest.mark.parametrize(
    ("pool", "processes"), thinned([("prefork", 1), ("threads", 1), ("prefork", 2), ("threads", 2)], ("threads", 2))
)
def test_a_worker_whose_grace_is_over_ends_with_0(
    bench: Bench, program: Callable[..., WorkerProcess], pool: str, processes: int
) -> None:
    run_ids = bench.start_many("long", [{"gate": str(bench.folder / "gate")}] * processes)
    made = program(pool=pool, concurrency=1, processes=processes)
    started(bench, processes)
    began = time.monotonic()
    made.term()
    made.term()  # what it asks for is under way
    assert made.wait(30) == 0
    assert GRACE.total_seconds() * 0.7 < time.monotonic() - began < GRACE.total_seconds() + SOON_S
    assert [statuses(bench, run_id, "long") for run_id in run_ids] == [["released"]] * processes


class Stuck(Proxy):
    """From a moment on nobody hears of the server any more."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.answers = threading.Event()
        self.answers.set()

    def pass_reply(self) -> None:
        self.answers.wait()


@pytest.mark.slow
def test_a_stop_while_the_ledger_is_stuck_takes_no_longer(
    bench: Bench, program: Callable[..., WorkerProcess], db_url: str
) -> None:
    """The claim is left to its lease: it counts as a deploy then, not as a crash."""
    run_id = bench.start("long", gate=str(bench.folder / "gate"))
    with closing(Stuck(db_url)) as proxy:
        made = program(pool="prefork", concurrency=1, settings={"database_url": SecretStr(proxy.url)})
        started(bench)
        proxy.answers.clear()
        began = time.monotonic()
        made.term()
        assert made.wait(30) == 0
    assert time.monotonic() - began < GRACE.total_seconds() + SOON_S
    assert statuses(bench, run_id, "long") == ["running"]


@pytest.mark.slow
def test_under_a_grace_of_twenty_seconds_it_runs_elsewhere_two_seconds_after_its_end(
    bench: Bench, stoppable: Start
) -> None:
    gate = bench.folder / "gate"
    run_id = bench.start("long", gate=str(gate))
    made = stoppable(pool="prefork", concurrency=1, settings={"stop_grace": timedelta(seconds=20)})
    started(bench)
    told = time.monotonic()
    made.term()
    stoppable(pool="prefork", concurrency=1)
    started(bench, 2)
    took_s = time.monotonic() - told
    print(f"it runs elsewhere {took_s:.1f} s after the SIGTERM")
    assert 14 < took_s < 22
    gate.touch()
    assert bench.result(run_id) == 2
    assert charged(bench, run_id) == [(0, 0, 0)]


@pytest.mark.parametrize("processes", thinned([1, 2], 2))
def test_a_worker_is_drained_by_way_of_the_ledger(
    bench: Bench, program: Callable[..., WorkerProcess], processes: int
) -> None:
    """As at SIGTERM; and nobody starts it again."""
    gate = bench.folder / "gate"
    run_id = bench.start("long", gate=str(gate))
    made = program(pool="threads", concurrency=1, processes=processes, settings={"stop_grace": timedelta(minutes=5)})
    started(bench)
    here, ttl = Target(socket.gethostname()), bench.settings.worker_ttl
    eventually(lambda: len(reads.workers.every(bench.ledger)) == processes, message="they said hello")
    told = workers.drain(bench.ledger, here, Actor("ada"), ttl)
    assert len(told) == processes
    eventually(lambda: made.log().count("worker.drains") == processes, timeout=20 + ttl.total_seconds())
    assert made.alive, "it waits for the step"
    gate.touch()
    assert made.wait(60) == 0
    assert bench.result(run_id) == 1
