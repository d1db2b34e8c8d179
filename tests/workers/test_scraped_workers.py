"""Real workers, scraped over HTTP while they work."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from uuid import UUID

import psutil
import pytest

from orchestrator.core.states import FINAL_RUN
from orchestrator.observe.metrics import table
from orchestrator.servers.embedded.server import free_port
from tests.support.eventually import eventually
from tests.support.keeper_process import ForkedKeeper
from tests.support.nursery import Nursery
from tests.support.scrape import Scrape
from tests.support.worker_process import WorkerProcess, running
from tests.workers.conftest import Bench

Worker = Callable[..., WorkerProcess]


def scraped(worker: Worker, **options: object) -> tuple[WorkerProcess, Callable[[], Scrape]]:
    port = free_port()
    env = {"ORCHESTRATOR_HEALTH_ADDRESS": f"127.0.0.1:{port}"}
    return worker(env=env, **options), lambda: Scrape.at(port)


def attempts(bench: Bench, run_ids: Sequence[UUID]) -> Counter[str]:
    with bench.ledger.auto() as tx:
        found = tx.exec_driver_sql("SELECT status FROM flow_step_attempts WHERE run_id = ANY (%s)", (list(run_ids),))
        return Counter(status for (status,) in found)


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_the_main_process_shows_what_was_done(bench: Bench, worker: Worker, pool: str) -> None:
    """With prefork children do it, which have no instruments."""
    one, scrape = scraped(worker, pool=pool, concurrency=1 if pool == "solo" else 2)
    runs = bench.start_many("chain", [{"n": n} for n in range(4)])
    for run_id in runs:
        bench.result(run_id)
    mine = {"flow": "chain"}
    eventually(lambda: scrape().of(table.RUNS_COMPLETED, **mine) == 4, message="the ends are counted")
    seen = scrape()
    assert seen.of(table.STEPS_DURATION, "_count", **mine, status="ok") == 20
    assert seen.of(table.STEPS_QUEUE_DELAY, "_count", queue="default") >= 4
    assert seen.of(table.METRICS_DROPPED_REPORTS) == 0
    assert seen.of(table.KEEPER_PASS, "_count", loop="register") > 0
    assert time.time() - seen.of(table.KEEPER_LAST_PASS, loop="register") < 60
    assert seen.of(table.DATABASE_POOL, state="size") > 0
    main = psutil.Process(one.pid)
    assert seen.of(table.PROCESS_CPU, role="main") == pytest.approx(sum(main.cpu_times()[:2]), abs=2)
    assert seen.of(table.PROCESS_MEMORY, role="main") == pytest.approx(main.memory_info().rss, rel=0.5)
    assert (seen.of(table.PROCESS_MEMORY, role="children") > 0) == (pool == "prefork")
    assert seen.of(table.PROCESS_CHILDREN) == len(one.children())


def test_a_keeper_alone_shows_what_it_does(bench: Bench, the_nursery: Nursery) -> None:
    port = free_port()
    settings = bench.settings.model_copy(update={"health_address": f"127.0.0.1:{port}"})
    with running(ForkedKeeper(the_nursery, settings, bench.folder)):
        passes = eventually(lambda: Scrape.at(port).of(table.KEEPER_PASS, "_count", loop="leases"), message="it leads")
        assert passes > 0


@pytest.mark.slow
def test_children_killed_under_load_leave_the_counters_and_the_ledger_within_the_killed_steps(
    bench: Bench, worker: Worker
) -> None:
    """What a child counted before is with the main process; what it was at when it died may be in the ledger only."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    one, scrape = scraped(worker, concurrency=2)
    runs = bench.start_many("chain", [{"n": n} for n in range(2_000)])
    killed: set[int] = set()
    while len(killed) < 6:
        done, more = ended(bench, runs), chosen.randrange(5, 40)
        eventually(lambda: ended(bench, runs) >= done + more, message="it goes on")  # noqa: B023
        victims = eventually(lambda: grown({*one.children()} - killed), message="there are children")
        victim = chosen.choice(victims or [])
        os.kill(victim, signal.SIGKILL)
        killed.add(victim)
        eventually(lambda: scrape().of(table.WORKERS_CHILDREN_LOST) == len(killed), message="the lost child is counted")
    assert ended(bench, runs) < len(runs), "the load was over too soon"
    for run_id in runs:
        bench.result(run_id)
    found = attempts(bench, runs)
    seen = scrape()
    assert seen.of(table.STEPS_DURATION, "_count", status="ok") <= found["succeeded"] == 10_000
    assert seen.of(table.STEPS_CRASHED, flow="chain") == found["crashed"]
    assert len(runs) - len(killed) <= seen.of(table.RUNS_COMPLETED, flow="chain") <= len(runs)
    assert seen.of(table.METRICS_DROPPED_REPORTS) == 0


def grown(children: set[int]) -> list[int]:
    """Those that live for a second: one that dies between two looks of the keeper is not counted."""
    return [pid for pid in sorted(children) if time.time() - psutil.Process(pid).create_time() > 1]


def ended(bench: Bench, runs: Sequence[UUID]) -> int:
    with bench.ledger.auto() as tx:
        statement = "SELECT count(*) FROM flow_runs WHERE id = ANY (%s) AND status = ANY (%s)"
        return int(tx.exec_driver_sql(statement, (list(runs), [str(one) for one in FINAL_RUN])).scalar_one())
