"""Real workers, a client and the command line with a payload store."""

import json
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from orchestrator import Client
from orchestrator.core.states import RunStatus
from orchestrator.engine.flows import register
from orchestrator.errors import PayloadUnavailable
from orchestrator.ledger import reads
from orchestrator.settings import Settings
from tests.cli.conftest import Cli, cli
from tests.support.eventually import eventually
from tests.support.payloads import CREDENTIALS, SMALL, bucket_server, payloads_of
from tests.support.worker_process import WorkerProcess
from tests.workers import flows_payloads
from tests.workers.conftest import Bench
from tests.workers.flows_payloads import report

__all__ = ["cli"]
FLOWS = str(Path(flows_payloads.__file__))
Start = Callable[..., WorkerProcess]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (made := tmp_path / "store").mkdir()
    return made


def with_store(bench: Bench, url: str, **more: object) -> Settings:
    return bench.settings.model_copy(update={"payload_store": url, "payload_threshold": SMALL, **more})


@pytest.fixture
def stored(bench: Bench, folder: Path) -> Settings:
    register.register(bench.ledger, report.manifest)
    return with_store(bench, f"file://{folder}")


def kept(bench: Bench) -> set[str]:
    """The steps whose output is not in the ledger."""
    with bench.ledger.auto() as tx:
        return {row.step_key for row in tx.exec_driver_sql("SELECT step_key FROM flow_outputs WHERE output IS NULL")}


def doctor(cli: Cli, code: int = 0) -> dict[str, str]:
    """What it says of the store."""
    (found,) = (one for one in cli("doctor", "-o", "json", code=code).json if one["check"] == "payload store")
    return dict(found)


@pytest.mark.parametrize("pool", ["threads", pytest.param("prefork", marks=pytest.mark.slow)])
def test_a_long_result_is_in_the_store_and_everywhere_it_is_read(
    bench: Bench, worker_of: Start, stored: Settings, folder: Path, pool: str
) -> None:
    worker_of(bench, flows=FLOWS, settings=stored, pool=pool, concurrency=2)
    with Client(stored) as client:
        handle = client.start(report, n=5000)
        assert handle.result(timeout=60) == "x" * 5000
        assert handle.output("make") == "x" * 5000
        assert handle.output("total") == 5001 + 5002 + 5000
    assert kept(bench) == {"make"}
    (file,) = folder.rglob("*.json")
    assert json.loads(file.read_text()) == "x" * 5000
    with Client(bench.settings) as client, pytest.raises(PayloadUnavailable, match="ORCHESTRATOR_PAYLOAD_STORE is not"):
        client.run(handle.id).result(timeout=10)


def test_in_a_bucket(bench: Bench, worker_of: Start, stored: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with bucket_server() as endpoint:
        settings = with_store(bench, f"s3://flows/{uuid4().hex}?endpoint={endpoint}&region=us-east-1")
        worker = worker_of(bench, flows=FLOWS, settings=settings, env=CREDENTIALS)
        with Client(settings) as client:
            handle = client.start(report, n=5000)
            assert handle.result(timeout=60) == "x" * 5000
        assert kept(bench) == {"make"}
        worker.term()
        assert worker.wait() == 0


def test_a_result_above_the_cap_fails_its_step(bench: Bench, worker_of: Start, stored: Settings) -> None:
    worker_of(bench, flows=FLOWS, settings=stored.model_copy(update={"payload_cap": 4000}))
    run_id = bench.start("report", n=5000)
    assert bench.ended(run_id) is RunStatus.FAILED
    (attempt,) = bench.attempts(run_id, "make")
    assert "5,002 bytes of JSON, and ORCHESTRATOR_PAYLOAD_CAP allows 4,000. Fix:" in attempt.error_message


def test_a_store_that_is_away_keeps_nobody_from_working(
    bench: Bench, worker_of: Start, stored: Settings, folder: Path
) -> None:
    """The result stays in the ledger, and the log says so."""
    worker = worker_of(bench, flows=FLOWS, settings=stored)
    folder.rename(folder.with_name("away"))
    run_id = bench.start("report", n=5000)
    assert bench.result(run_id) == "x" * 5000
    assert kept(bench) == set()
    assert "payload.kept_inside" in worker.log()


def test_inputs_wait_for_a_store_that_is_away(bench: Bench, worker_of: Start, stored: Settings, folder: Path) -> None:
    """As they do for the ledger: no attempt is lost by a short outage."""
    first = worker_of(bench, flows=FLOWS, settings=stored)
    with Client(stored) as client:
        handle = client.start(report, n=5000)
        handle.result(timeout=60)
        first.term()
        assert first.wait() == 0
        second = worker_of(bench, flows=FLOWS, settings=stored)
        folder.rename(away := folder.with_name("away"))
        third = handle.rerun("total")
        eventually(lambda: "payload.store_away" in second.log())
        away.rename(folder)
        assert third.result(timeout=60) == "x" * 5000
        assert [one.status for one in reads.steps.attempts(bench.ledger, third.id, "total")] == ["succeeded"]


def test_a_host_that_sees_another_store_does_not_start(
    bench: Bench,
    worker_of: Start,
    stored: Settings,
    folder: Path,
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", bench.settings.require_database_url())
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", bench.settings.require_broker_url())
    monkeypatch.setenv("ORCHESTRATOR_PAYLOAD_STORE", f"file://{folder}")
    assert doctor(cli, 0)["finding"] == f"file://{folder} is not in use yet"
    worker_of(bench, flows=FLOWS, settings=stored)
    store = payloads_of(f"file://{folder}").mark()
    assert doctor(cli) == {
        "check": "payload store",
        "status": "pass",
        "finding": f"file://{folder} is the ledger's",
        "fix": "",
    }
    (other := tmp_path / "other").mkdir()
    stranger = worker_of(bench, flows=FLOWS, settings=with_store(bench, f"file://{other}"), ready=False)
    assert stranger.wait() == 1
    assert f"has the id {store}: it has no mark. Fix: mount that one on this host" in stranger.log()
    assert "Traceback" not in stranger.log()
    monkeypatch.setenv("ORCHESTRATOR_PAYLOAD_STORE", f"file://{other}")
    assert "has no mark" in doctor(cli, 1)["finding"]
    monkeypatch.delenv("ORCHESTRATOR_PAYLOAD_STORE")
    assert doctor(cli, 0)["status"] == "warn"
    said = cli("db", "forget-store", "--yes")
    assert f"Forgot payload store {store}." in said.err


def test_a_worker_without_the_store_keeps_the_others_from_using_it(
    bench: Bench, worker_of: Start, stored: Settings, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_of(bench, flows=FLOWS, settings=stored)
    worker_of(bench, flows=FLOWS)
    live = lambda: [one for one in reads.workers.every(bench.ledger) if one.live]  # noqa: E731
    eventually(lambda: len(live()) == 2)
    run_id = bench.start("report", n=5000)
    assert bench.result(run_id) == "x" * 5000
    assert kept(bench) == set()
    for name in ("database_url", "broker_url"):
        monkeypatch.setenv(f"ORCHESTRATOR_{name.upper()}", getattr(bench.settings, f"require_{name}")())
    monkeypatch.setenv("ORCHESTRATOR_PAYLOAD_STORE", str(stored.payload_store))
    assert "1 live worker without this store" in doctor(cli)["finding"]
