"""TLS to both servers: checked certificates by default, and a refusal is a sentence with its fix, not a traceback."""

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from orchestrator.core.facts import Dispatch
from orchestrator.delivery.publisher import Publisher
from orchestrator.doctor import Finding, examine
from orchestrator.engine.flows import register
from orchestrator.ledger.tx import Ledger
from orchestrator.settings import Settings
from tests.support.servers import Broker
from tests.support.tls import Papers, TlsFront, tls_front
from tests.support.worker_process import WorkerProcess, env_of
from tests.workers import flows
from tests.workers.conftest import Bench

Start = Callable[..., WorkerProcess]
STRANGER = "server.example"


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers.made(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Of an authority that no server here is known by."""
    return Papers.made(tmp_path_factory.mktemp("tls") / "others")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture
def redis_front(stack: ExitStack, broker_server: Broker, papers: Papers) -> TlsFront:
    return stack.enter_context(tls_front(broker_server.url, papers))


@pytest.fixture
def pg_front(stack: ExitStack, db_url: str, papers: Papers) -> TlsFront:
    """In front of this test's database."""
    return stack.enter_context(tls_front(db_url, papers))


def at(settings: Settings, **changes: Any) -> Settings:
    """These settings with some changed, checked as those of the environment are."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    return Settings(
        **{**given, **{name: SecretStr(value) if name.endswith("_url") else value for name, value in changes.items()}}
    )


def database_url(front: TlsFront, ca: Path, more: str = "") -> str:
    return front.url("postgresql", query=f"sslmode=verify-full&sslrootcert={ca}{more}")


def found(settings: Settings, check: str) -> Finding:
    """What `doctor` says about one thing."""
    (one,) = [finding for finding in examine(settings) if finding.check == check]
    return one


def ends_at_once(process: WorkerProcess, *words: str, code: int = 1) -> None:
    """It says why on one line, and does not wait for what will not come."""
    assert process.wait() == code
    said = process.log()
    for word in words:
        assert word in said
    assert "Fix: " in said
    assert "Traceback" not in said


def orchestrator(settings: Settings, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    program = Path(sys.executable).with_name("orchestrator")
    done = subprocess.run(
        [str(program), *arguments], cwd=folder, env=env_of(settings), capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    return done


def test_a_flow_runs_over_tls_with_certificates_on_both_sides(
    stack: ExitStack, settings: Settings, papers: Papers, broker_server: Broker, tmp_path: Path, worker_of: Any
) -> None:
    """Nothing of ours has another way: worker, children, keeper, publisher, doctor."""
    redis = stack.enter_context(tls_front(broker_server.url, papers, ask_client=True))
    database = stack.enter_context(tls_front(settings.require_database_url(), papers, ask_client=True))
    ssl = {"ssl_ca_certs": str(papers.ca), "ssl_certfile": str(papers.client), "ssl_keyfile": str(papers.client)}
    ours = f"&sslcert={papers.client}&sslkey={papers.client}"
    safe = at(
        settings,
        broker_url=redis.url("rediss"),
        broker_use_ssl=ssl,
        database_url=database_url(database, papers.ca, ours),
    )
    ledger = Ledger.connect(safe.require_database_url())
    stack.callback(ledger.close)
    register.register(ledger, flows.chain.manifest)
    publisher = Publisher(None, safe, ledger)
    stack.callback(publisher.close)
    bench = Bench(safe, ledger, publisher, tmp_path, tmp_path / "effects.log")
    process = worker_of(bench, concurrency=2)
    for run_id in bench.start_many("chain", [{"n": 1}] * 5):
        assert bench.result(run_id) == 20
    assert {str(found(safe, check).status) for check in ("broker", "database", "workers")} == {"pass"}
    process.term()
    assert process.wait() == 0
    assert (redis.refused, database.refused) == (0, 0)
    assert redis.shaken >= 3
    assert database.shaken >= 3
    assert "nsecure" not in process.log()


@pytest.mark.slow
def test_a_broker_of_an_unknown_authority_is_refused(
    bench: Bench, worker: Start, redis_front: TlsFront, others: Papers
) -> None:
    wrong = at(bench.settings, broker_url=redis_front.url("rediss"), broker_use_ssl={"ssl_ca_certs": str(others.ca)})
    fix = 'ORCHESTRATOR_BROKER_USE_SSL=\'{"ssl_ca_certs": "/path/ca.pem"}\''
    ends_at_once(worker(ready=False, settings=wrong), "CERTIFICATE_VERIFY_FAILED", fix)
    finding = found(wrong, "broker")
    assert finding.status == "fail"
    assert "CERTIFICATE_VERIFY_FAILED" in finding.finding
    assert fix in finding.fix
    started = orchestrator(wrong, bench.folder, "run", "start", "chain", "-i", "n=1")
    assert started.returncode == 0
    assert "Nothing is lost" in started.stderr
    assert fix in started.stderr
    assert redis_front.shaken == 0
    assert redis_front.refused >= 3


def test_certificates_are_checked_though_no_setting_says_so(bench: Bench, redis_front: TlsFront) -> None:
    """kombu by itself takes every certificate for a rediss:// URL."""
    bare = at(bench.settings, broker_url=redis_front.url("rediss"))
    assert "CERTIFICATE_VERIFY_FAILED" in found(bare, "broker").finding
    publisher = Publisher(None, bare, bench.ledger)
    assert not publisher.publish([Dispatch(uuid.uuid4(), "s", 1, "none.none", "nobody", 5)])
    publisher.close()
    assert redis_front.shaken == 0
    assert found(at(bare, broker_use_ssl={"ssl_cert_reqs": "none"}), "broker").status == "pass"


@pytest.mark.slow
def test_a_broker_with_another_name_is_refused(
    bench: Bench, worker: Start, stack: ExitStack, broker_server: Broker, papers: Papers
) -> None:
    front = stack.enter_context(tls_front(broker_server.url, papers, name=STRANGER))
    ssl = {"ssl_ca_certs": str(papers.ca)}
    wrong = at(bench.settings, broker_url=front.url("rediss"), broker_use_ssl=ssl)
    ends_at_once(worker(ready=False, settings=wrong), "as its certificate does")
    assert "as its certificate does" in found(wrong, "broker").fix
    unchecked = at(wrong, broker_use_ssl={**ssl, "ssl_check_hostname": False})
    assert found(unchecked, "broker").status == "pass"


@pytest.mark.slow
def test_a_file_that_is_not_there_is_named(bench: Bench, worker: Start, redis_front: TlsFront) -> None:
    wrong = at(bench.settings, broker_url=redis_front.url("rediss"), broker_use_ssl={"ssl_ca_certs": "/no/such/ca.pem"})
    ends_at_once(worker(ready=False, settings=wrong), "'/no/such/ca.pem' as ssl_ca_certs", code=2)
    assert "'/no/such/ca.pem' as ssl_ca_certs" in found(wrong, "broker").finding
    assert "correct the path" in found(wrong, "broker").fix


@pytest.mark.slow
def test_a_database_of_an_unknown_authority_is_refused(
    bench: Bench, worker: Start, pg_front: TlsFront, others: Papers
) -> None:
    wrong = at(bench.settings, database_url=database_url(pg_front, others.ca))
    fix = "as in ?sslmode=verify-full&sslrootcert=/path/ca.pem"
    ends_at_once(worker(ready=False, settings=wrong), "certificate verify failed", fix)
    finding = found(wrong, "database")
    assert finding.status == "fail"
    assert fix in finding.fix
    listed = orchestrator(wrong, bench.folder, "run", "ls")
    assert listed.returncode == 1
    assert fix in listed.stderr
    assert pg_front.shaken == 0
    assert pg_front.refused >= 3


@pytest.mark.slow
def test_a_database_with_another_name_is_refused(
    bench: Bench, worker: Start, stack: ExitStack, db_url: str, papers: Papers
) -> None:
    front = stack.enter_context(tls_front(db_url, papers, name=STRANGER))
    wrong = at(bench.settings, database_url=database_url(front, papers.ca))
    ends_at_once(worker(ready=False, settings=wrong), "does not match host name", "as its certificate does")
    assert (
        found(at(wrong, database_url=database_url(front, papers.ca).replace("full", "ca")), "database").status == "pass"
    )


def test_a_password_that_is_refused_ends_a_worker_at_once(bench: Bench, worker: Start) -> None:
    """As with certificates: whoever started it must act, and waiting a minute tells nobody."""
    url = bench.settings.require_database_url()
    user_info = url.partition("://")[2].rpartition("@")[0]
    wrong = url.replace(user_info, f"{user_info.partition(':')[0]}:falsch")
    process = worker(ready=False, settings=at(bench.settings, database_url=wrong))
    ends_at_once(process, "password authentication failed", "correct the user and the password")
    broker = at(bench.settings, broker_url=bench.settings.require_broker_url().replace("redis://", "redis://nobody"))
    ends_at_once(worker(ready=False, settings=broker), "correct the password in ORCHESTRATOR_BROKER_URL")
    assert "falsch" not in process.log()
