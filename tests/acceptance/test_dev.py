"""`orchestrator dev` as a newcomer uses it: one command, a real flow, real workers, and nothing left afterwards."""

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import psycopg
import pytest

from orchestrator.servers.embedded.server import free_port, is_free
from tests.support.dev import Dev, alive, project_in, stopped_at_the_end
from tests.support.eventually import eventually

FLOWS = """
import os
import time
from orchestrator import flow, step

@step
def greet(name: str) -> str:
    return f"hello {name}"

@step
def shout(text: str) -> str:
    return text.upper()

@flow(name="hello")
def hello(name: str) -> str:
    return shout(greet(name))

@step
def doze(seconds: float) -> float:
    time.sleep(seconds)
    return seconds

@flow(name="slow")
def slow(seconds: float) -> float:
    return doze(seconds)

@step
def hold(gate: str) -> None:
    while not os.path.exists(gate):
        time.sleep(0.1)

@flow(name="held")
def held(gate: str) -> None:
    return hold(gate)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return project_in(tmp_path, FLOWS)


def running(project: Path, *options: str, **env: str) -> AbstractContextManager[Dev]:
    program = ["-m", "orchestrator", "dev", "-o", "json", "--flows", "hello.py", *options]
    return stopped_at_the_end(Dev(program, project / ".orchestrator", project, **env))


def orchestrator(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command in the project, without any URL in its environment."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("ORCHESTRATOR_")}
    command = [sys.executable, "-m", "orchestrator", *arguments]
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=120, check=False)


def greeting(project: Path, name: str) -> str:
    done = orchestrator(project, "run", "start", "hello", "-i", f"name={name}", "--wait", "--timeout", "60")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=pytest.mark.slow)])
def test_a_flow_runs_and_a_signal_stops_everything(project: Path, pool: str) -> None:
    with running(project, "--pool", pool, "--workers", "2") as dev:
        assert len(dev.info["pids"]["workers"]) == 2
        assert dev.info["flows"] == ["held", "hello", "slow"]
        assert "HELLO ADA" in greeting(project, "Ada")
        assert urllib.request.urlopen(dev.info["flower_url"], timeout=60).status == 200
        place, bearer = f"{dev.info['api_url']}/api/flows", {"Authorization": f"Bearer {dev.info['api_key']}"}
        asked = urllib.request.Request(place, headers=bearer)
        assert urllib.request.urlopen(asked, timeout=60).status == 200
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(place, timeout=60)
        everyone = dev.everyone()
        assert dev.stop(signal.SIGINT) == 0
        assert alive(everyone) == set()


def test_a_killed_worker_is_replaced_and_the_flow_runs_on_it(project: Path) -> None:
    with running(project) as dev:
        (worker,) = dev.info["pids"]["workers"]
        children = {child.pid for child in psutil.Process(worker).children(recursive=True)}
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: dev.state.pids.workers not in ((), (worker,)), message="no new worker")
        assert "HELLO BOB" in greeting(project, "Bob")
        eventually(lambda: not alive(children), message="pool children outlived their worker")


@pytest.mark.slow
def test_a_second_dev_goes_on_where_a_killed_one_ended(project: Path) -> None:
    with running(project) as first:
        greeting(project, "Ada")
        everyone = first.everyone()
        first.process.kill()
        first.process.wait()
    with running(project) as second:
        assert alive(everyone - second.everyone()) == set()
        with psycopg.connect(second.info["database_url"]) as connection:
            assert connection.execute("SELECT count(*) FROM flow_runs").fetchone() == (1,)
        assert "HELLO BOB" in greeting(project, "Bob")


@pytest.mark.slow
def test_a_second_signal_does_not_wait_for_a_running_step(project: Path) -> None:
    with running(project) as dev:
        started = orchestrator(project, "run", "start", "slow", "-i", "seconds=120")
        assert started.returncode == 0, started.stderr
        with psycopg.connect(dev.info["database_url"], autocommit=True) as connection:
            eventually(lambda: connection.execute("SELECT 1 FROM flow_steps WHERE status = 'running'").fetchone())
        everyone = dev.everyone()
        dev.process.send_signal(signal.SIGINT)
        eventually(lambda: "stopping" in dev.messages)
        assert dev.stop(signal.SIGINT) == 0
        assert alive(everyone) == set()


@pytest.mark.slow
def test_a_deploy_that_kills_costs_no_crash(project: Path) -> None:
    """SIGTERM, and SIGKILL in the middle of a long step: the attempt is released, and the run goes on."""
    with (
        running(project, ORCHESTRATOR_CRASH_LIMIT="0") as dev,
        psycopg.connect(dev.info["database_url"], autocommit=True) as connection,
    ):

        def found(query: str) -> list[str]:
            return [str(row[0]) for row in connection.execute(query).fetchall()]

        gate = project / "gate"
        started = orchestrator(project, "run", "start", "held", "-i", f"gate={gate}")
        assert started.returncode == 0, started.stderr
        eventually(lambda: found("SELECT step_key FROM flow_steps WHERE status = 'running'"), message="it runs")
        (worker,) = dev.info["pids"]["workers"]
        os.kill(worker, signal.SIGTERM)
        eventually(lambda: found("SELECT id FROM flow_workers WHERE stopping_at IS NOT NULL"), message="it stops")
        assert alive({worker}), "it waits for its step"
        os.kill(worker, signal.SIGKILL)
        gate.touch()
        eventually(lambda: found("SELECT status FROM flow_runs") == ["succeeded"], timeout=150, message="it goes on")
        assert found("SELECT status FROM flow_step_attempts ORDER BY attempt") == ["released", "succeeded"]


@pytest.mark.slow
def test_a_step_that_outlasts_the_grace_goes_on_in_the_next_dev(project: Path) -> None:
    """At once, and uncharged: one signal, and nobody waits for a lease."""
    strict = {"ORCHESTRATOR_CRASH_LIMIT": "0", "ORCHESTRATOR_DEPLOY_LIMIT": "0", "ORCHESTRATOR_LEASE": "5m"}
    gate = project / "gate"
    with (
        running(project, ORCHESTRATOR_STOP_GRACE="3s", **strict) as dev,
        psycopg.connect(dev.info["database_url"], autocommit=True) as connection,
    ):
        assert orchestrator(project, "run", "start", "held", "-i", f"gate={gate}").returncode == 0
        eventually(lambda: connection.execute("SELECT 1 FROM flow_steps WHERE status = 'running'").fetchone())
        assert dev.stop(signal.SIGINT) == 0
    gate.touch()
    with (
        running(project, **strict) as dev,
        psycopg.connect(dev.info["database_url"], autocommit=True) as connection,
    ):
        query = "SELECT status FROM flow_step_attempts ORDER BY attempt"
        eventually(
            lambda: [row[0] for row in connection.execute(query)] == ["released", "succeeded"],
            timeout=60,
            message="it goes on",
        )


@pytest.mark.slow
def test_the_commands_that_it_prints_work_in_another_terminal(project: Path, tmp_path: Path) -> None:
    """Which finds nothing of a data directory of one's own by itself."""
    program = ["-m", "orchestrator", "dev", "--flows", "hello.py", "--data-dir", str(tmp_path / "data")]
    dev = Dev(program, tmp_path / "data", project)
    try:
        assert dev.process.stdout is not None
        block = list(iter(dev.process.stdout.readline, "Ctrl-C stops everything.\n"))
        export, start = [line for line in block if line.startswith("  ")]
        assert "Start a run from another terminal:\n" in block
        script = export + start.replace("FLOW", "hello -i name=Ada")
        path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-c", script], cwd=project, env=path, capture_output=True, text=True, timeout=120)
        assert "HELLO ADA" in done.stdout, done.stderr
    finally:
        dev.stop()
        dev.process.communicate()


@pytest.mark.slow
def test_ports_follow_the_base(project: Path) -> None:
    base = _three_free_ports()
    with running(project, "--port-base", str(base)) as dev:
        urls = (dev.info["database_url"], dev.info["broker_url"], dev.info["flower_url"])
        assert [int(re.findall(r":(\d+)", url)[-1]) for url in urls] == [base, base + 1, base + 2]


@pytest.mark.parametrize("text", ["import nothing_like_this\n", "if nothing_like_this:\n", "exit('nothing_like_this')"])
def test_a_flow_file_that_cannot_be_loaded_is_told_before_anything_starts(project: Path, text: str) -> None:
    (project / "hello.py").write_text(text)
    done = orchestrator(project, "dev", "-o", "json", "--flows", "hello.py")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "hello.py" in done.stderr
    assert "Traceback" not in done.stderr
    assert "PostgreSQL" not in done.stderr


@pytest.mark.slow
def test_the_users_own_servers_are_used_and_left_alone(project: Path, empty_db_url: str, broker_url: str) -> None:
    own = {"ORCHESTRATOR_DATABASE_URL": empty_db_url, "ORCHESTRATOR_BROKER_URL": broker_url}
    with running(project, **own) as dev:
        assert dev.info["pids"]["postgres"] is None
        assert dev.info["pids"]["broker"] is None
        assert "HELLO ADA" in greeting(project, "Ada")
        dev.stop()
        with psycopg.connect(empty_db_url) as connection:
            assert connection.execute("SELECT count(*) FROM flow_runs").fetchone() == (1,)
    assert not (project / ".orchestrator" / "postgres").exists()


def _three_free_ports() -> int:
    bases = iter(free_port, 0)
    return next(base for base in bases if all(is_free(base + offset) for offset in range(1, 3)))
