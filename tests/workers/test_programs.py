"""The `celery` program and our own commands, from an empty folder."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import SettingsInvalid, UsageError
from orchestrator.servers.embedded.server import free_port
from orchestrator.settings import Settings
from orchestrator.workers.process.command import WorkerOptions, run_flower, run_worker
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess, env_of
from tests.workers.conftest import FLOWS, Bench


def celery(folder: Path, env: dict[str, str], *args: str) -> "subprocess.CompletedProcess[str]":
    program = Path(sys.executable).with_name("celery")
    return subprocess.run(
        [str(program), "-A", "orchestrator", *args], cwd=folder, env=env, capture_output=True, text=True, timeout=150
    )


def bare_env() -> dict[str, str]:
    return {name: value for name, value in env_of(Settings()).items() if not name.startswith("ORCHESTRATOR_")}


def test_report_needs_the_broker_url_only(tmp_path: Path) -> None:
    done = celery(tmp_path, {**bare_env(), "ORCHESTRATOR_BROKER_URL": "redis://:geheim@127.0.0.1:1/0"}, "report")
    assert done.returncode == 0, done.stderr
    assert "ack_emulation" in done.stdout
    assert "geheim" not in done.stdout


def test_a_missing_broker_url_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = celery(tmp_path, bare_env(), "worker")
    assert done.returncode == 2
    assert "ORCHESTRATOR_BROKER_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_without_a_database_url_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = celery(tmp_path, {**bare_env(), "ORCHESTRATOR_BROKER_URL": "redis://127.0.0.1:1/0"}, "worker")
    assert done.returncode == 2
    assert "ORCHESTRATOR_DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_flows_that_cannot_be_loaded_are_one_line_and_exit_code_2(settings: Settings, tmp_path: Path) -> None:
    env = env_of(settings, ORCHESTRATOR_FLOWS="no_such_module")
    done = celery(tmp_path, env, "worker", "-P", "solo")
    assert done.returncode == 2
    assert "no_such_module" in done.stderr
    assert "Traceback" not in done.stderr


def test_celery_worker_runs_and_answers_inspect(bench: Bench) -> None:
    env = env_of(bench.settings, ORCHESTRATOR_FLOWS=FLOWS, TEST_EFFECTS=str(bench.effects_file))
    program = Path(sys.executable).with_name("celery")
    with (bench.folder / "celery.log").open("wb") as log:
        process = subprocess.Popen(
            [str(program), "-A", "orchestrator", "worker", "-P", "threads", "-c", "2", "-l", "INFO"],
            cwd=bench.folder,
            env=env,
            stdout=log,
            stderr=log,
        )
    try:
        assert bench.result(bench.start("chain", n=1)) == 20
        registered = celery(bench.folder, env, "inspect", "registered").stdout
        assert "* chain.add" in registered
        assert "* payment.pay" in registered
        eventually(lambda: "pong" in celery(bench.folder, env, "inspect", "ping").stdout)
        assert "OK" not in celery(bench.folder, env, "control", "shutdown").stdout
        assert process.poll() is None
        text = (bench.folder / "celery.log").read_text()
        assert "Warning" not in text
    finally:
        process.terminate()
        assert process.wait() == 0


def test_bad_options_are_refused(settings: Settings) -> None:
    with pytest.raises(UsageError, match="Unknown pool `gevent`"):
        run_worker(settings, WorkerOptions(pool="gevent"))
    with pytest.raises(UsageError, match="concurrency is 0"):
        run_worker(settings, WorkerOptions(concurrency=0))
    with pytest.raises(SettingsInvalid, match="DATABASE_URL"):
        run_worker(Settings(broker_url=settings.broker_url))


def test_flower_is_not_opened_to_others_without_a_password(settings: Settings) -> None:
    with pytest.raises(UsageError, match="basic-auth"):
        run_flower(settings, address="0.0.0.0")


@pytest.mark.parametrize("program", [("orchestrator", "flower"), ("celery", "-A", "orchestrator", "flower")])
def test_flower_serves_the_queues(program: tuple[str, ...], bench: Bench, tmp_path: Path) -> None:
    """And logs as the others do."""
    port = free_port()
    command = [str(Path(sys.executable).with_name(program[0])), *program[1:], f"--port={port}"]
    env = env_of(bench.settings, ORCHESTRATOR_LOG_FORMAT="json")
    with (tmp_path / "flower.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=log)
    try:

        def page() -> str:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/broker", timeout=5) as reply:
                    return str(reply.read().decode())
            except OSError:
                return ""

        assert "default" in eventually(page)
    finally:
        process.terminate()
        process.wait()
    lines = [json.loads(line) for line in (tmp_path / "flower.log").read_text().splitlines()]
    assert "flower.command" in {line["logger"] for line in lines}


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_ctrl_c_ends_a_worker_with_0_when_nothing_is_left(worker: Callable[..., WorkerProcess], pool: str) -> None:
    started = worker(pool=pool)
    os.kill(started.pid, signal.SIGINT)
    assert started.wait() == 0
