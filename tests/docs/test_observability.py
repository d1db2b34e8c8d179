"""What the page about logs shows does what it says, on a real worker."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Client
from orchestrator.settings import Settings
from tests.docs import pages
from tests.support.worker_process import WorkerProcess, running

PAGE = "docs/observability.md"
SECOND = """
import logging

import own_logs
import structlog

from orchestrator import flow, step


@step
def bill(order: str) -> str:
    structlog.get_logger("shop").warning("billed", order=42)
    logging.getLogger("a_library").warning("asked %s", "twice")
    raise ValueError("no money")


@flow(name="bills")
def bills(order: str) -> str:
    return bill(order)
"""


def written(folder: Path, settings: Settings, *flows: str, **body: Any) -> tuple[str, list[dict[str, Any]]]:
    """What a worker of these modules logs about a run: the run's id, and the lines, each of which is JSON."""
    for block in pages.blocks("python", page=PAGE):
        (folder / str(block.name)).write_text(block.text)
    (folder / "billing.py").write_text(SECOND)
    env = {"ORCHESTRATOR_LOG_FORMAT": "json", "PYTHONPATH": f"{pages.ROOT}:{folder}"}
    worker = WorkerProcess(settings, ",".join(flows), folder, env=env)
    with running(worker), Client(settings) as client:
        run = client.start(body.pop("flow"), body)
        run.wait(60)
        worker.term()
        assert worker.wait() == 0
    lines = [line for line in worker.log().splitlines() if line and not line.startswith("worker: ")]
    return str(run.id), [json.loads(line) for line in lines]


def test_threads_of_the_executor_know_their_step(tmp_path: Path, settings: Settings) -> None:
    run_id, log = written(tmp_path, settings, "posters", flow="posters", names=["a", "bc"])
    shrunk = [one for one in log if one["logger"] == "shrinking"]
    assert [(one["event"], one["run_id"], one["step_key"], one["attempt"]) for one in shrunk] == [
        ("shrunk a", run_id, "shrink_all", 1),
        ("shrunk bc", run_id, "shrink_all", 1),
    ]
    table = {cell.strip("`") for row in pages.table(pages.section(PAGE, "Logs")) for cell in row[0].split("`, `")}
    known = {key for one in log for key in one}
    assert {"timestamp", "level", "logger", "event", "worker", "pid", "code", "run_id"} <= table & known


def test_the_line_that_is_shown_has_the_keys_of_the_table() -> None:
    (block,) = pages.blocks("json", page=PAGE)
    found = list(json.loads(block.text))
    rows = pages.table(pages.section(PAGE, "Logs"))
    listed = [key for row in rows[:-1] for key in re.findall(r"`(\w+)`", row[0])]
    assert found[:-1] == [key for key in listed if key in found]


@pytest.mark.slow
def test_structlog_shows_the_run_on_its_own_lines_on_ours_and_on_those_of_libraries(
    tmp_path: Path, settings: Settings
) -> None:
    run_id, log = written(tmp_path, settings, "billing", flow="bills", order="1")
    events = {one["event"]: one for one in log}
    for event in ("billed", "asked twice", "step.failed"):
        one = events[event]
        assert (one["run_id"], one["flow"], one["step_key"], one["attempt"]) == (run_id, "bills", "bill", 1), one
        assert one["level"] == "warning"
    assert events["billed"]["order"] == 42
    assert "ValueError: no money" in events["step.failed"]["exception"]
    assert events["worker.starts"]["pool"] == "prefork"
