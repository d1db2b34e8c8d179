"""What a worker says to probes: liveness knows whether its loops move and asks no server, readiness asks them."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.core.states import FINAL_RUN
from orchestrator.engine.flows import register
from orchestrator.servers.embedded.server import free_port
from orchestrator.settings import Settings
from tests.support.ear import Ear
from tests.support.eventually import eventually
from tests.support.health import live, ready, until_ready
from tests.support.keeper_process import ForkedKeeper
from tests.support.nursery import Nursery
from tests.support.worker_process import WorkerProcess, env_of, running
from tests.workers import flows_held
from tests.workers.conftest import Bench

FLOWS = str(Path(flows_held.__file__))
LIMIT_S = 4.0
"""Of the loop that consumes: four silences of Redis."""


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def bench(bench: Bench, port: int) -> Bench:
    """Its workers answer probes, and do not end themselves when their main thread is held up."""
    register.register(bench.ledger, flows_held.held.manifest)
    bench.settings = bench.settings.model_copy(
        update={
            "health_address": f"127.0.0.1:{port}",
            "hang_after": timedelta(seconds=1),
            "sweep_interval": timedelta(seconds=5),
            "broker_transport_options": {"socket_timeout": LIMIT_S / 4},
        }
    )
    return bench


@pytest.fixture
def go_on(tmp_path: Path) -> Path:
    """Written, it lets go a thread that is held up."""
    return tmp_path / "go-on"


@pytest.fixture
def start(bench: Bench, worker: Callable[..., WorkerProcess], go_on: Path) -> Callable[..., WorkerProcess]:
    def started(**options: Any) -> WorkerProcess:
        env = {"TEST_GO_ON": str(go_on), **options.pop("env", {})}
        return worker(flows=FLOWS, env=env, **options)

    return started


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_says_that_it_is_alive_and_ready(start: Callable[..., WorkerProcess], port: int, pool: str) -> None:
    start(pool=pool)
    said = until_ready(port)
    assert said.body["status"] == "ready"
    assert {name: part["ok"] for name, part in said.body["parts"].items()} == {
        "ledger": True,
        "schema": True,
        "probe": True,
    }
    alive = live(port)
    assert (alive.status, alive.body["status"]) == (200, "alive")
    assert {"consumer", "keeper-register", "keeper-timers", "keeper-leader"} <= alive.body["still_s"].keys()


@pytest.mark.slow
def test_a_main_loop_that_stands_still_turns_liveness_within_its_limit(
    start: Callable[..., WorkerProcess], port: int, go_on: Path
) -> None:
    """And the log says where it stands. When it moves again, so does liveness."""
    worker = start(concurrency=1)
    until_ready(port)
    os.kill(worker.pid, flows_held.HOLD)
    began = time.monotonic()
    said = eventually(lambda: found if (found := live(port)).status == 503 else None)
    assert said is not None
    assert LIMIT_S - 2 < time.monotonic() - began < LIMIT_S + 2
    assert said.body["status"] == "hanging"
    assert list(said.body["hanging"]) == ["consumer"]
    worker.says("health.hangs loop=consumer")
    assert "_hold (" in worker.log()
    go_on.touch()
    eventually(lambda: live(port).status == 200)
    worker.says("health.moves_again loop=consumer")


@pytest.mark.slow
def test_the_solo_pool_need_not_consume_while_it_runs_a_step(
    bench: Bench, start: Callable[..., WorkerProcess], port: int
) -> None:
    worker = start(pool="solo", concurrency=1)
    assert until_ready(port).body["parts"]["probe"]["detail"] == "the solo pool is not probed"
    run = bench.start("held", seconds=2 * LIMIT_S)
    statuses = set()
    while bench.status(run) not in FINAL_RUN:
        statuses.add(live(port).status)
        time.sleep(0.1)
    assert statuses == {200}
    assert "health.hangs" not in worker.log()


@pytest.mark.slow
def test_several_processes_answer_as_one(
    bench: Bench, start: Callable[..., WorkerProcess], port: int, go_on: Path
) -> None:
    worker = start(concurrency=1, pool="threads", processes=2)
    assert set(until_ready(port).body["parts"]) == {"process-1", "process-2"}
    assert live(port).body["still_s"].keys() == {"supervisor", "process-1", "process-2"}
    bench.result(bench.start("held", seconds=0))
    assert started(port) == 1
    (busy, *_) = [pid for pid in worker.children() if "worker.starts" in "".join(lines_of(worker, pid))]
    os.kill(busy, flows_held.HOLD)
    said = eventually(lambda: found if (found := live(port)).status == 503 else None)
    assert said is not None
    (name,) = said.body["hanging"]
    assert name in {"process-1 consumer", "process-2 consumer"}
    os.kill(busy, signal.SIGKILL)
    eventually(lambda: live(port).status == 200)  # it is being started again
    go_on.touch()
    until_ready(port)
    assert started(port) == 1, "it is still counted when the process that counted it has been killed"
    worker.term()
    assert worker.wait() == 0
    with pytest.raises(OSError, match="refused"):
        live(port)


def started(port: int) -> float:
    """Steps that succeeded, by the metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return sum(
        one.value
        for family in families
        for one in family.samples
        if one.name == "floworch_steps_duration_milliseconds_count"
    )


def lines_of(worker: WorkerProcess, pid: int) -> list[str]:
    """What this process of it logged."""
    return [line for line in worker.log().splitlines() if f"[{pid}]" in line]


@pytest.mark.slow
def test_systemd_hears_of_a_worker(bench: Bench, start: Callable[..., WorkerProcess], go_on: Path) -> None:
    """From the same stamps, with no address at all; and what a step starts cannot speak for the service."""
    bench.settings = bench.settings.model_copy(update={"health_address": None})
    with closing(Ear(f"@test-{secrets.token_hex(8)}")) as ear:
        worker = start(concurrency=1, env={"NOTIFY_SOCKET": ear.address, "WATCHDOG_USEC": "2000000"})
        eventually(lambda: ear.said("READY=1") and ear.said("WATCHDOG=1"))
        assert bench.result(bench.start("held", seconds=0)) == "none"
        os.kill(worker.pid, flows_held.HOLD)
        eventually(lambda: ear.said("STATUS=hanging: consumer"))
        go_on.touch()
        signs = ear.said("WATCHDOG=1")
        eventually(lambda: ear.said("WATCHDOG=1") > signs)
        worker.term()
        eventually(lambda: ear.said("STOPPING=1"))
        assert worker.wait() == 0


def test_a_keeper_says_whether_it_leads(bench: Bench, the_nursery: Nursery, port: int) -> None:
    with running(ForkedKeeper(the_nursery, bench.settings, bench.folder)) as keeper:
        assert set(until_ready(port).body["parts"]) == {"ledger", "schema", "role"}
        eventually(lambda: ready(port).body["parts"]["role"] == {"ok": True, "detail": "leads"})
        assert "keeper-leader" in live(port).body["still_s"]
        keeper.term()
        assert keeper.wait() == 0


def test_a_worker_that_stops_is_alive_and_not_ready(
    bench: Bench, start: Callable[..., WorkerProcess], port: int
) -> None:
    worker = start(concurrency=1)
    until_ready(port)
    run = bench.start("held", seconds=1)
    eventually(lambda: bench.attempts(run, "nap"))
    worker.term()
    eventually(lambda: ready(port).body["status"] == "stopping")
    assert (ready(port).status, live(port).status) == (503, 200)
    assert worker.wait() == 0


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_busy_port_is_one_line_and_exit_code_2(bench: Bench, port: int, tmp_path: Path, processes: str) -> None:
    env = env_of(bench.settings, ORCHESTRATOR_FLOWS=FLOWS)
    program = [sys.executable, "-m", "orchestrator", "worker", "--processes", processes, "--pool", "threads"]
    program += ["--health-address", f"127.0.0.1:{port}"]
    with closing(socket.create_server(("127.0.0.1", port))):
        done = subprocess.run(program, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert f"Health cannot be served at 127.0.0.1:{port}: another program listens on port {port}. Fix:" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_without_a_port_is_one_line_and_exit_code_2(settings: Settings, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "orchestrator", "beat", "--health-address", "8081"]
    done = subprocess.run(program, env=env_of(settings), cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert "ORCHESTRATOR_HEALTH_ADDRESS='8081' cannot be used: it is not an address with a port. Fix:" in done.stderr


@pytest.mark.slow
def test_the_celery_program_answers_probes_too(bench: Bench, port: int, go_on: Path) -> None:
    env = env_of(bench.settings, ORCHESTRATOR_FLOWS=FLOWS, TEST_GO_ON=str(go_on))
    program = [str(Path(sys.executable).with_name("celery")), "-A", "orchestrator", "worker", "-P", "threads"]
    with (bench.folder / "celery.log").open("wb") as log, ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(program, cwd=bench.folder, env=env, stdout=log, stderr=log))
        stack.callback(process.send_signal, signal.SIGTERM)
        assert until_ready(port).body["status"] == "ready"
        assert live(port).status == 200
