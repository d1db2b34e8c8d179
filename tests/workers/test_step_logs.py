"""What handlers log and print is kept, behind the completion of their steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Client
from orchestrator.core.facts import Claimant, Lease
from orchestrator.core.states import RunStatus
from orchestrator.engine.steps import claim_step
from orchestrator.ledger import logs, reads
from orchestrator.workers.run import lines, log_writer
from orchestrator.workers.run.log_writer import LogWriter
from tests.cli.conftest import Cli, cli
from tests.support.eventually import eventually
from tests.support.listening import listening
from tests.support.worker_process import WorkerProcess
from tests.workers import flows_talking
from tests.workers.conftest import Bench

__all__ = ["cli"]
PIN = "canary-5512"


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_lines_of_a_step_are_kept_without_its_secrets(
    bench: Bench, worker: Callable[..., WorkerProcess], pool: str
) -> None:
    worker(flows=str(Path(flows_talking.__file__)), pool=pool)
    run_id = bench.start("talking", who="ada", pin=PIN)
    assert bench.ended(run_id) is RunStatus.FAILED

    def said(step: str) -> list[tuple[str, str]]:
        return [(line.level, line.text) for line in logs.read(bench.ledger, run_id, step)]

    eventually(lambda: said("answer"))
    assert said("talk") == [
        ("PRINT", "hello ada"),
        ("INFO", "charged"),
        ("WARNING", "the pin is ***"),
        ("PRINT", "to stderr"),
        ("PRINT", "no line break"),
    ]
    assert said("answer") == [("PRINT", "asking"), ("PRINT", "in a thread"), ("INFO", "answered ada")]


def test_commands_show_search_and_follow_them(
    bench: Bench, worker: Callable[..., WorkerProcess], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", bench.settings.require_database_url())
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", bench.settings.require_broker_url())
    worker(flows=str(Path(flows_talking.__file__)))
    run_id = bench.start("talking", who="ada", pin=PIN)
    followed = cli("run", "logs", str(run_id), "--follow").out
    assert "answered ada" in followed
    shown = cli("run", "logs", str(run_id)).out
    assert sorted(shown.splitlines()) == sorted(followed.splitlines())
    assert shown.index("hello ada") < shown.index("charged") < shown.index("asking")
    (line,) = cli("run", "logs", f"{run_id}/answer", "--grep", "ANSWERED \\w+").out.splitlines()
    assert line.endswith("answer#1  INFO    answered ada")
    assert "No line matches" in cli("run", "logs", str(run_id), "--grep", "nothing").err
    assert "not a regular expression" in cli("run", "logs", str(run_id), "--grep", "(", code=2).err
    assert "has no step" in cli("run", "logs", f"{run_id}/tlak", code=3).err
    with Client(bench.settings) as client:
        handle = client.run(run_id)
        assert [line.text for line in handle.all_logs("answer")][-1] == "answered ada"
    monkeypatch.delenv("ORCHESTRATOR_DATABASE_URL")
    with listening(bench.settings.model_copy(update={"auth": "open"})) as url:
        monkeypatch.setenv("ORCHESTRATOR_API_URL", url)
        assert cli("run", "logs", str(run_id)).out == shown
        assert sorted(cli("run", "logs", str(run_id), "--follow").out.splitlines()) == sorted(shown.splitlines())


# ---- the writer ----


@pytest.fixture
def lease(bench: Bench) -> Lease:
    run_id = bench.start("chain", publish=False, n=2)
    (step,) = [step for step in reads.steps.page(bench.ledger, run_id) if step.status == "ready"]
    found = claim_step.claim(bench.ledger, run_id, step.key, 1, Claimant("w", bench.settings.lease))
    assert found is not None
    return found


def numbers(bench: Bench, lease: Lease) -> list[int]:
    return [line.number for line in logs.read(bench.ledger, lease.run_id, limit=10_000)]


def test_the_first_and_the_last_lines_are_kept(bench: Bench, lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often they are written in between."""
    for module, name in ((lines, "HEAD_BYTES"), (lines, "TAIL_BYTES"), (log_writer, "TAIL_BYTES")):
        monkeypatch.setattr(module, name, 1000)
    writer = LogWriter(bench.settings)
    kept = writer.lines(lease, lambda text: text)
    for number in range(1, 301):
        kept.add("INFO", f"line {number}")
        if number % 7 == 0:
            writer.write_all()
    writer.close()
    found = numbers(bench, lease)
    head = next(n for n, number in enumerate(found, 1) if found[n : n + 1] != [number + 1])
    assert found[:head] == list(range(1, head + 1))
    assert found[head:] == list(range(found[head], 301))
    assert 10 < head < 40
    assert 10 < len(found) - head < 40


def test_an_outage_loses_no_line_and_writes_none_twice(
    bench: Bench, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer may be lost although the lines were written."""
    real, fails = logs.write, [True, False, True]

    def failing(*arguments: Any) -> None:
        if fails and fails.pop():
            if not fails:
                real(*arguments)
            raise ConnectionError("away")
        real(*arguments)

    monkeypatch.setattr(logs, "write", failing)
    writer = LogWriter(bench.settings)
    kept = writer.lines(lease, lambda text: text)
    for number in range(5):
        kept.add("INFO", str(number))
        writer.write_all()
    writer.close()
    assert numbers(bench, lease) == [1, 2, 3, 4, 5]


def test_lines_go_with_their_run(bench: Bench, lease: Lease) -> None:
    """Also those that come when it is gone."""
    writer = LogWriter(bench.settings)
    kept = writer.lines(lease, lambda text: text)
    kept.add("INFO", "a\x00b")
    writer.write_all()
    assert [line.text for line in logs.read(bench.ledger, lease.run_id)] == ["a\\x00b"]
    with Client(bench.settings) as client:
        client.run(lease.run_id).cancel("enough")
    kept.add("INFO", "more")
    writer.write_all()
    assert numbers(bench, lease) == [1, 2]
    with bench.ledger.tx() as tx:
        tx.exec_driver_sql("UPDATE flow_runs SET ended_at = now(), status = 'cancelled'")
    with Client(bench.settings) as client:
        client.run(lease.run_id).delete()
    assert numbers(bench, lease) == []
    kept.add("INFO", "late")
    writer.close()
    assert numbers(bench, lease) == []
