"""The log of a real worker: what is logged inside a step carries its run, and no value is in it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.flows import register
from tests.support.collector import collecting
from tests.support.worker_process import WorkerProcess
from tests.workers import flows_lines
from tests.workers.conftest import Bench

FLOWS = str(Path(flows_lines.__file__))
PLAIN, PIN = "canary-81c4-plain", "canary-81c4-secret"
BARE = {"sync.thread", "sync.pool"}
"""From threads that the step starts, without their context."""
PRINTED = ("worker: ",)
"""What Celery prints on stdout, whose lines are no log."""


def objects(text: str) -> list[dict[str, Any]]:
    """Every line of the log, and it is JSON."""
    return [json.loads(line) for line in text.splitlines() if line and not line.startswith(PRINTED)]


def run(bench: Bench, worker: WorkerProcess) -> str:
    """The id of a run that went through, and whose worker has ended."""
    register.register(bench.ledger, flows_lines.lines.manifest)
    run_id = bench.start("lines", plain=PLAIN, pin=PIN)
    assert bench.result(run_id) == [f"{PLAIN}-out{number}" for number in (1, 2, 3)]
    worker.term()
    assert worker.wait() == 0
    return str(run_id)


def of_library(log: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in log:
        if one["logger"] == "a_library":
            yield one["event"], {key: one.get(key) for key in ("run_id", "flow", "step_key", "attempt")}


@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=pytest.mark.slow)])
def test_every_line_is_json_and_those_of_a_step_carry_its_run(
    bench: Bench, worker: Callable[..., WorkerProcess], pool: str
) -> None:
    process = worker(pool=pool, flows=FLOWS, env={"ORCHESTRATOR_LOG_FORMAT": "json", "ORCHESTRATOR_LOG_LEVEL": "DEBUG"})
    run_id = run(bench, process)
    log = objects(process.log())
    found: dict[str, list[dict[str, Any]]] = {}
    for event, keys in of_library(log):
        found.setdefault(event.split()[0], []).append(keys)
    step_of = {"sync": "sync", "async": "waits", "item": "item", "fails": "fails_once"}
    expected = {
        *("sync.plain", "sync.debug", "sync.secret", "sync.thread", "sync.pool", "sync.context", "fails.plain"),
        *("async.plain", "async.later", "async.thread", "async.part", "item"),
    }
    assert set(found) == expected
    for event, several in found.items():
        for keys in several:
            if event in BARE and pool == "threads":
                assert set(keys.values()) == {None}
                continue
            assert (keys["run_id"], keys["flow"]) == (run_id, "lines")
            assert keys["step_key"].startswith(step_of[event.partition(".")[0]]), (event, keys)
    assert sorted(keys["attempt"] for keys in found["fails.plain"]) == [1, 2]
    assert len({keys["step_key"] for keys in found["item"]}) == 3
    (own,) = [one for one in log if one["event"] == "sync.own"]
    assert (own["run_id"], own["step_key"], own["attempt"], own["order"]) == (run_id, "sync", 1, 42)
    (failed,) = [one for one in log if one["event"] == "step.failed"]
    assert (failed["code"], failed["exc_type"], failed["attempt"]) == (2002, "ValueError", 1)
    assert "no such pin: ***" in failed["exc"]
    workers = {one["worker"] for one in log}
    assert len(workers) == 1, "main process, children and the keeper's loops are one worker"
    for event in ("run.ended", "step.started", "step.succeeded", "step.dispatched", "worker.starts"):
        assert [one for one in log if one["event"] == event], event
    assert not [one for one in log if "fact_run_id" in one]
    assert "canary-81c4" not in process.log()


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_lines_for_people_carry_it_too(bench: Bench, worker: Callable[..., WorkerProcess], pool: str) -> None:
    process = worker(pool=pool, flows=FLOWS, env={"ORCHESTRATOR_LOG_LEVEL": "DEBUG"})
    run_id = run(bench, process)
    log = process.log().splitlines()
    for event in ("sync.plain 1", "async.thread", "async.later", "sync.context"):
        (line,) = [one for one in log if f"] {event} " in one]
        assert f"run_id={run_id} flow=lines step_key=" in line
    assert any("sync.secret ***" in line for line in log)
    assert "canary-81c4" not in process.log()


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_storm_in_a_step_is_a_few_lines_and_a_count(
    bench: Bench, worker: Callable[..., WorkerProcess], pool: str
) -> None:
    """The count is told when the process ends, at the latest."""
    env = {"ORCHESTRATOR_LOG_FORMAT": "json", "ORCHESTRATOR_LOG_BURST": "5"}
    process = worker(pool=pool, flows=FLOWS, concurrency=1, env=env)
    register.register(bench.ledger, flows_lines.storm.manifest)
    bench.result(bench.start("storm", times=2000))
    process.term()
    assert process.wait() == 0
    log = objects(process.log())
    shown = [one for one in log if one["event"].startswith("away ")]
    told = [one for one in log if one["event"] == "log.suppressed"]
    assert 5 <= len(shown) < 500
    assert {(one["logger"], one["level"], one["of"]) for one in told} == {("a_library", "WARNING", "away %d")}
    assert len(shown) + sum(one["suppressed"] for one in told) == 2000


@pytest.mark.slow
def test_lines_of_a_step_say_its_trace(bench: Bench, worker: Callable[..., WorkerProcess]) -> None:
    with collecting() as collector:
        process = worker(flows=FLOWS, env=collector.env(ORCHESTRATOR_LOG_FORMAT="json"))
        run_id = run(bench, process)
    said = {one["event"]: one for one in objects(process.log()) if one["logger"] == "a_library"}
    spans = set()
    for event in ("sync.plain 1", "sync.context", "async.later", "async.thread"):
        assert said[event]["trace_id"] == run_id.replace("-", "")
        spans.add(said[event]["span_id"])
    assert len(spans) == 2, "each step has a span"


def test_logging_that_a_module_of_flows_sets_up_is_left_alone_and_sees_the_run(
    bench: Bench, worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    """Also while the format is JSON: whoever has a handler of their own chose its format."""
    module = tmp_path / "flows_own_logging.py"
    module.write_text(Path(flows_lines.__file__).read_text().replace("library = ", OWN_LOGGING + "library = "))
    process = worker(pool="prefork", flows=str(module), env={"ORCHESTRATOR_LOG_FORMAT": "json"})
    run_id = run(bench, process)
    (line,) = [one for one in process.log().splitlines() if "MINE sync.plain" in one]
    assert line == f"MINE sync.plain 1 in {run_id}"


OWN_LOGGING = """
logging.basicConfig(level=logging.INFO)
logging.getLogger().handlers[0].setFormatter(
    logging.Formatter("MINE %(message)s in %(run_id)s", defaults={"run_id": "-"})
)
"""
