"""`orchestrator beat` and `celery -A orchestrator beat`: they start, end, and say in one line what is wrong."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from celery.worker import WorkController
from celery.worker.components import Beat, Consumer, Pool

from orchestrator.settings import Settings
from orchestrator.workers.keeper.keeper import KeeperStep
from tests.schedules.conftest import Field, at
from tests.support.eventually import eventually
from tests.support.worker_process import env_of

PROGRAMS = (("orchestrator", "beat"), ("celery", "-A", "orchestrator", "beat", "-l", "INFO"))


def command(program: Sequence[str]) -> list[str]:
    return [str(Path(sys.executable).with_name(program[0])), *program[1:]]


def ended(folder: Path, settings: Settings, program: Sequence[str], **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(program), cwd=folder, env=env_of(settings, **env), capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("program", PROGRAMS, ids=["orchestrator", "celery"])
def test_a_beat_announces_until_it_is_told_to_stop(ground: Field, program: tuple[str, ...]) -> None:
    ground.plan('Every("1s"), key="e", missed="all"')
    ground.worker()
    log = ground.folder / "beat.log"
    env = env_of(ground.settings, ORCHESTRATOR_LOG_FORMAT="json")
    with log.open("wb") as out:
        beat = subprocess.Popen(command(program), cwd=ground.folder, env=env, stderr=out)
    try:
        ground.wait_ticks(3, "e", by="beat")
        verdict = ground.verdict("e")
        assert verdict.right, verdict
    finally:
        beat.send_signal(signal.SIGTERM)
        assert beat.wait(60) == 0
    text = log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"beat.leads", "beat.released"} <= {line["event"] for line in lines}
    (name,) = {line.get("worker") for line in lines if line["event"].startswith("beat.")}
    assert name
    for wrong in ("Traceback", "Warning", "celerybeat-schedule"):
        assert wrong not in text, text
    assert not list(ground.folder.glob("celerybeat*"))


def test_the_beat_inside_a_worker_does_the_same(ground: Field) -> None:
    ground.plan('Every("1s"), key="e", missed="all"')
    env = env_of(ground.settings, ORCHESTRATOR_FLOWS=str(ground.flows))
    with (ground.folder / "worker.log").open("wb") as out:
        worker = subprocess.Popen(
            command(("celery", "-A", "orchestrator", "worker", "-B", "-c", "1", "-l", "INFO")),
            cwd=ground.folder,
            env=env,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        ground.wait_ticks(3, "e", by="beat")
    finally:
        worker.terminate()
        assert worker.wait(60) == 0
    verdict = ground.verdict("e")
    assert verdict.right, verdict


def test_the_beat_inside_a_worker_is_forked_before_the_keeper_has_threads() -> None:
    """Celery sorts its steps by what they require, and else as they come: another order each time."""
    blueprint = WorkController.Blueprint(steps=[KeeperStep])
    blueprint.steps = blueprint.claim_steps()
    order = blueprint._finalize_steps(blueprint.steps)
    assert {Pool, Beat} <= set(blueprint.graph[KeeperStep])
    assert order.index(Beat) < order.index(KeeperStep) < order.index(Consumer)


@pytest.mark.parametrize("program", PROGRAMS, ids=["orchestrator", "celery"])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ORCHESTRATOR_BEAT_LOCK": "3s"}, "ORCHESTRATOR_BEAT_INTERVAL is 2s, more than a third of"),
        ({"ORCHESTRATOR_REDBEAT_URL": "http://cache"}, "ORCHESTRATOR_REDBEAT_URL='http://cache' cannot be used"),
        ({"ORCHESTRATOR_REDBEAT_URL": "sentinel://:geheim@a:1"}, """ORCHESTRATOR_REDBEAT_OPTIONS='{"master_name":"""),
        ({"ORCHESTRATOR_REDBEAT_OPTIONS": "{"}, "ORCHESTRATOR_REDBEAT_OPTIONS=*** cannot be used: it is not JSON"),
        ({"ORCHESTRATOR_REDBEAT_OPTIONS": '{"sokket": "geheim"}'}, "'sokket'"),
        (
            {"ORCHESTRATOR_REDBEAT_OPTIONS": '{"ssl_ca_certs": "/no/ca.pem"}'},
            "ORCHESTRATOR_REDBEAT_OPTIONS names '/no/ca.pem' as ssl_ca_certs",
        ),
        ({"ORCHESTRATOR_WATCHDOG_INTERVAL": "0"}, "ORCHESTRATOR_WATCHDOG_INTERVAL='0' cannot be used"),
        ({"ORCHESTRATOR_TICK_GRACE": "soon"}, "ORCHESTRATOR_TICK_GRACE='soon' cannot be used"),
        ({"ORCHESTRATOR_RECONCILE_INTERVALL": "1s"}, "did you mean ORCHESTRATOR_RECONCILE_INTERVAL?"),
        ({"ORCHESTRATOR_DATABASE_URL": ""}, "ORCHESTRATOR_DATABASE_URL is not set"),
    ],
    ids=lambda value: next(iter(value)).removeprefix("ORCHESTRATOR_") if isinstance(value, dict) else "",
)
def test_a_wrong_setting_is_one_line(
    tmp_path: Path, settings: Settings, program: tuple[str, ...], wrong: dict[str, str], said: str
) -> None:
    done = ended(tmp_path, settings, program, **wrong)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "geheim" not in done.stdout + done.stderr


def test_a_redis_that_refuses_ends_a_beat_of_celery(tmp_path: Path, settings: Settings) -> None:
    """`orchestrator beat` tries again, and says so each time."""
    url = settings.require_broker_url().replace("redis://", "redis://nobody")
    done = ended(tmp_path, at(settings, redbeat_url=url), PROGRAMS[1])
    assert done.returncode == 1
    assert "correct the password in ORCHESTRATOR_REDBEAT_URL" in done.stderr


def test_a_beat_that_starts_while_redis_is_away_waits_for_it(ground: Field) -> None:
    away = at(ground.settings, redbeat_url="redis://127.0.0.1:1/0")
    beat = ground.beat(settings=away, ready=False)
    beat.wait_for("beat.failing")
    assert "beat.waiting" in beat.log()
    assert beat.is_running
    os.kill(beat.pid, signal.SIGTERM)
    eventually(lambda: not beat.is_running)
    assert "Traceback" not in beat.log()
