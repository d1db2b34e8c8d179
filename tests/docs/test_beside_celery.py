"""Flows beside an application's own Celery tasks, as the page shows it: two workers, one broker."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from orchestrator import Client, RunStatus, Settings
from tests.docs import pages
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess, env_of, running

PAGE = "docs/beside-celery.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("bakery")
    for block in pages.blocks("python", page=PAGE):
        (made / str(block.name)).write_text(block.text)
    return made


@pytest.fixture
def env(settings: Settings, folder: Path) -> dict[str, str]:
    env = env_of(settings, BAKERY_BROKER=settings.require_broker_url())
    return {**env, "PYTHONPATH": f"{folder}{os.pathsep}{env['PYTHONPATH']}"}


@pytest.fixture
def worker(settings: Settings, folder: Path, env: dict[str, str]) -> Iterator[WorkerProcess]:
    broker = {"BAKERY_BROKER": env["BAKERY_BROKER"]}
    name = f"ours{len(list(folder.glob('ours*.log')))}"
    with running(WorkerProcess(settings, "bakery_flows", folder, pool="threads", env=broker, name=name)) as started:
        yield started


@pytest.fixture
def own_worker(folder: Path, env: dict[str, str]) -> Iterator[Path]:
    """The application's: its log."""
    log = folder / "own.log"
    command = [sys.executable, "-m", "celery", "-A", "bakery", "worker", "--pool", "solo", "-l", "INFO"]
    command += ["-Q", "celery,default"]
    with log.open("ab") as file:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=file, stderr=file, start_new_session=True)
    try:
        eventually(lambda: " ready." in log.read_text(), timeout=120, message="the application's worker is ready")
        yield log
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.timeout(600)
def test_both_work_beside_each_other(
    folder: Path, env: dict[str, str], worker: WorkerProcess, own_worker: Path, settings: Settings
) -> None:
    told = folder / "told.txt"
    program = [sys.executable, "bake_and_tell.py", str(told)]
    done = subprocess.run(program, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with Client(settings) as client:
        (alone,) = client.runs(flow="bakery-bake")
        (order,) = client.runs(flow="order")
        assert alone.status is order.status is RunStatus.SUCCEEDED
        assert done.stdout.splitlines() == [f"2 for ada, as {order.id}:deliver", "['roll 1']"]
        attempts = client.run(order.id).attempts("deliver")
        assert [one.status for one in attempts] == ["failed", "succeeded"]
        assert attempts[0].error_message == "ConnectionError: the van did not start"
        by_name = client.start("bakery-bake", kind="bun", pieces=2)
        assert by_name.result(timeout=120) == ["bun 1", "bun 2"]
    eventually(told.exists, timeout=120, message="the application's own worker did its task")
    with Celery("bakery", broker=env["BAKERY_BROKER"], set_as_current=False) as app:
        own = folder / "own.txt"
        app.send_task("bakery.note", [str(own), "x"], queue="default")  # a name that ours has too
        eventually(own.exists, timeout=120, message="it did what came by a queue of the same name")
        answers = app.control.ping(timeout=1)
        assert len({name for answer in answers for name in answer}) <= 1, "no worker of ours is asked"
    assert "message.unknown" not in worker.log()
    assert "bakery.deliver" not in own_worker.read_text().partition(" ready.")[2]


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("worker")
def test_the_command_starts_a_step_alone(folder: Path, env: dict[str, str]) -> None:
    command = [
        sys.executable,
        "-m",
        "orchestrator",
        "run",
        "start",
        "bake",
        "--flows",
        "bakery_flows",
        "-i",
        "kind=roll",
    ]
    done = subprocess.run([*command, "--wait", "--timeout", "2m"], cwd=folder, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, '[\n  "roll 1"\n]'), done.stderr


def test_the_table_names_what_can_be_ignored() -> None:
    """Each hook and option that `ignoring` takes stands on the page."""
    from orchestrator.authoring import from_task

    words = set(pages.code(pages.section(PAGE, "A task as a step")))
    assert {*from_task._HOOKS, *(name for name, _, _ in from_task._LOST)} <= words | {"expires"}
