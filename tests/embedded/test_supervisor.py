"""`orchestrator dev` with real servers and stand-ins for worker, beat and Flower: nothing is ever left behind."""

import os
import resource
import signal
import stat
import time
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import psycopg
import pytest

from orchestrator.servers.embedded.discovery import find_running
from tests.support.dev import Dev, alive, stopped_at_the_end
from tests.support.eventually import eventually


def start(data_dir: Path, workers: int = 1, **env: str) -> Dev:
    program = ["-m", "tests.support.stub_dev", str(data_dir), str(workers)]
    return Dev(program, data_dir, ORCHESTRATOR_MIGRATE="false", **env)


def running(data_dir: Path, workers: int = 1, **env: str) -> AbstractContextManager[Dev]:
    return stopped_at_the_end(start(data_dir, workers, **env))


def test_ready_is_one_json_line_with_what_a_client_needs(tmp_path: Path) -> None:
    with running(tmp_path / "data", workers=2) as dev:
        assert list(dev.info) == [
            "ready",
            "database_url",
            "broker_url",
            "api_url",
            "api_key",
            "flower_url",
            "data_dir",
            "pids",
            "flows",
        ]
        assert set(dev.info["pids"]) == {"postgres", "api", "broker", "flower", "beat", "workers"}
        assert len(dev.info["pids"]["workers"]) == 2
        with psycopg.connect(dev.info["database_url"]) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        dev.stop()
        assert dev.process.stdout is not None
        assert dev.process.stdout.read() == ""


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(other, marks=pytest.mark.slow) for other in (signal.SIGINT, signal.SIGHUP))],
)
def test_a_signal_stops_everything_even_what_a_step_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path / "data", STUB_DAEMON="1") as dev:
        everyone = dev.everyone()
        assert len(everyone) > 4
        assert dev.stop(number) == 0
        assert alive(everyone) == set()
        assert not (tmp_path / "data" / "dev.json").exists()


def test_processes_do_not_fight_for_the_address_of_probes(tmp_path: Path) -> None:
    with running(tmp_path / "data", workers=2, ORCHESTRATOR_HEALTH_ADDRESS=":8081") as dev:
        assert "without ORCHESTRATOR_HEALTH_ADDRESS: the processes of `dev` cannot share one port" in dev.messages
        for pid in (*dev.info["pids"]["workers"], dev.info["pids"]["beat"]):
            assert "ORCHESTRATOR_HEALTH_ADDRESS" not in psutil.Process(pid).environ()


def test_a_worker_and_a_server_that_die_are_started_again(tmp_path: Path) -> None:
    with running(tmp_path / "data") as dev:
        (worker,) = dev.info["pids"]["workers"]
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: dev.state.pids.workers not in ((), (worker,)), message="no new worker")
        eventually(lambda: "worker-1 was ended by SIGKILL; starting it again in 1 s" in dev.messages)
        os.kill(dev.info["pids"]["broker"], signal.SIGKILL)
        eventually(lambda: "Valkey is back" in dev.messages, message="no new broker")
        assert dev.state.broker_url == dev.info["broker_url"]


@pytest.mark.slow
def test_the_next_dev_cleans_up_and_keeps_data_and_ports_when_dev_was_killed(tmp_path: Path) -> None:
    with running(tmp_path / "data", STUB_DAEMON="1") as first:
        with psycopg.connect(first.info["database_url"], autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        everyone = first.everyone()
        first.process.kill()
        first.process.wait()
    with running(tmp_path / "data") as second:
        left = alive(everyone) & second.everyone()
        assert left <= {second.info["pids"]["postgres"], second.info["pids"]["broker"]}
        assert alive(everyone - second.everyone()) == set()
        with psycopg.connect(second.info["database_url"]) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
        assert second.info["flower_url"] == first.info["flower_url"]


def test_a_second_dev_on_one_data_directory_is_refused(tmp_path: Path) -> None:
    with running(tmp_path / "data") as first:
        second = start(tmp_path / "data")
        assert second.process.communicate(timeout=60) == ("", None)
        assert second.process.returncode == 7
        assert f"(pid {first.process.pid}) uses {tmp_path / 'data'}" in first.messages
        assert alive(first.everyone())


def test_a_signal_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    dev = start(tmp_path / "data")
    eventually(lambda: "started PostgreSQL" in dev.messages)
    servers = {process.pid for process in psutil.Process(dev.process.pid).children(recursive=True)}
    assert dev.stop() == 0
    assert alive(servers) == set()
    assert dev.process.communicate() == ("", None)


def test_a_worker_that_cannot_start_stops_the_start_with_its_own_words(tmp_path: Path) -> None:
    dev = start(tmp_path / "data", STUB_FAIL="no module named shop")
    assert dev.process.communicate(timeout=60) == ("", None)
    assert dev.process.returncode == 1
    assert "worker-1 ended with exit code 2 before it was ready" in dev.messages
    assert "no module named shop" in dev.messages.rpartition("before it was ready")[2]


def test_wrong_settings_start_nothing(tmp_path: Path) -> None:
    dev = start(tmp_path / "data", ORCHESTRATOR_LEESE="3s")
    assert dev.process.communicate(timeout=60) == ("", None)
    assert dev.process.returncode == 2
    assert "did you mean ORCHESTRATOR_LEASE?" in dev.messages
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("name", "url", "server"),
    [
        ("BROKER_URL", "redis://:hunter2@127.0.0.1:1/0", "Valkey"),
        ("DATABASE_URL", "postgresql://me:hunter2@127.0.0.1:1/x", "PostgreSQL"),
    ],
)
def test_a_server_of_the_users_that_does_not_answer_is_named_without_its_password(
    tmp_path: Path, name: str, url: str, server: str
) -> None:
    """Before any other is started."""
    dev = start(tmp_path / "data", **{f"ORCHESTRATOR_{name}": url})
    assert dev.process.communicate(timeout=60) == ("", None)
    assert dev.process.returncode == 1
    assert f"{url.partition('://')[2].replace('hunter2', '***')} does not answer" in dev.messages
    assert f"Or unset ORCHESTRATOR_{name} to use the embedded {server}." in dev.messages
    assert "hunter2" not in dev.messages
    assert "started" not in dev.messages


@pytest.mark.slow
def test_a_command_below_the_project_finds_the_running_dev(tmp_path: Path) -> None:
    (tmp_path / "src" / "deep").mkdir(parents=True)
    with running(tmp_path / ".orchestrator") as dev:
        found = find_running(tmp_path / "src" / "deep")
        assert found is not None
        assert found.database_url == dev.info["database_url"]
        assert find_running(tmp_path / ".orchestrator") == found
        state_file = tmp_path / ".orchestrator" / "dev.json"
        assert stat.S_IMODE(state_file.stat().st_mode) == 0o600
        state_file.chmod(0o644)
        assert find_running(tmp_path) is None, "a file that others could write or read is not trusted"
        dev.process.kill()
        dev.process.wait()
        state_file.chmod(0o600)
        assert find_running(tmp_path) is None, "it ended"
        with running(tmp_path / ".orchestrator"):
            pass


def test_a_full_disk_does_not_end_it_and_leaves_its_state_file_whole(tmp_path: Path) -> None:
    with running(tmp_path / "data") as dev:
        (worker,) = dev.info["pids"]["workers"]
        soft, hard = resource.prlimit(dev.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(dev.process.pid, resource.RLIMIT_FSIZE, (0, hard))
        before = {child.pid for child in psutil.Process(dev.process.pid).children()}
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: {child.pid for child in psutil.Process(dev.process.pid).children()} - before)
        time.sleep(1)  # several looks, each of which fails to write
        assert dev.process.poll() is None
        assert dev.state.pids.workers == (worker,), "the file of before is whole"
        resource.prlimit(dev.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
        eventually(lambda: dev.state.pids.workers not in ((), (worker,)), message="no new worker is in the state file")
        assert not list((tmp_path / "data").glob("dev.json.*"))
