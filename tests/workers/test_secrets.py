"""A secret goes through whatever a run can do, and is looked for everywhere else."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from sqlalchemy import text

from orchestrator import Client, Secret
from orchestrator.core.secrets import MASK
from orchestrator.core.states import RunStatus
from orchestrator.engine.flows import register
from orchestrator.errors import InputInvalid, RunFailed, SignalInvalid
from orchestrator.ledger.tx import Ledger
from orchestrator.settings import Settings
from tests.cli.conftest import Cli, cli
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess
from tests.workers import flows_secrets
from tests.workers.conftest import Bench
from tests.workers.flows_secrets import Account, named, vault

__all__ = ["cli"]
FLOWS = str(Path(flows_secrets.__file__))
CANARY = "canary-7c1d9e0a4b-7c1d9e0a4b"
ALLOWED = {
    ("flow_runs", "trigger_body"),
    ("flow_steps", "item"),
    ("flow_outputs", "output"),
    ("flow_signals", "payload"),
}
"""Where values are stored, since steps need them."""

_LAST = "nothing-after-this"


class Wire:
    """Everything that is sent to the broker, by whomever, from now on."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = redis.Redis.from_url(url, socket_timeout=30)
        self._monitor = self._client.monitor()
        self._monitor.__enter__()

    def close(self) -> None:
        self._monitor.__exit__(None, None, None)
        self._client.close()

    def commands(self) -> Iterator[str]:
        """Those so far: until the broker tells of a last one."""
        with closing(redis.Redis.from_url(self._url)) as other:
            other.exists(_LAST)
        while True:
            command = str(self._monitor.next_command()["command"])
            if _LAST in command:
                return
            yield command


def places(ledger: Ledger, what: str) -> set[tuple[str, str]]:
    """The columns of the ledger that have this text somewhere."""
    with ledger.tx() as tx:
        columns = tx.execute(
            text(
                "SELECT c.table_name, c.column_name FROM information_schema.columns c JOIN information_schema.tables t"
                " USING (table_schema, table_name) WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE'"
            )
        ).all()
        return {
            (table, column)
            for table, column in columns
            if tx.execute(
                text(f'SELECT EXISTS (SELECT FROM "{table}" WHERE "{column}"::text LIKE :what)'), {"what": f"%{what}%"}
            ).scalar()
        }


@pytest.fixture
def client(bench: Bench) -> Iterator[Client]:
    for one in flows_secrets.FLOWS:
        register.register(bench.ledger, one.manifest)
    with Client(bench.settings.model_copy(update={"secret_names": ("IBAN",)})) as made:
        yield made


def urls(settings: Settings) -> tuple[str, str]:
    broker = settings.require_broker_url()
    return settings.require_database_url(), broker if isinstance(broker, str) else str(broker)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_canary_is_nowhere_but_among_the_values(
    bench: Bench,
    client: Client,
    worker: Callable[..., WorkerProcess],
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    pool: str,
) -> None:
    database, broker = urls(bench.settings)
    texts: list[str] = []
    with closing(Wire(broker)) as wire, caplog.at_level("DEBUG"):
        process = worker(
            pool=pool, flows=FLOWS, env={"ORCHESTRATOR_LOG_LEVEL": "DEBUG", "ORCHESTRATOR_SECRET_NAMES": "iban"}
        )
        account = {"name": "bob", "pin": CANARY}
        for wrong in ({"name": 1, "pin": [CANARY]}, {"name": "ada"}):
            with pytest.raises(InputInvalid) as refused:
                client.start("vault", pin=CANARY, account=wrong)
            texts.append(f"{refused.value!r} {refused.value}")
        handle = client.start(vault, pin=Secret(CANARY), account=Account(name="bob", pin=Secret(CANARY)))
        eventually(lambda: handle.step("paid").status == "waiting", timeout=120, message="it waits")
        monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", database)
        monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", broker)
        monkeypatch.setenv("ORCHESTRATOR_SECRET_NAMES", "iban")
        look(cli, texts, str(handle.id), [step.key for step in handle.all_steps()])
        with pytest.raises(SignalInvalid) as unfit:
            handle.signal("paid", {"name": 1, "pin": [CANARY]})
        texts.append(str(unfit.value))
        said = cli("run", "signal", str(handle.id), "paid", json.dumps(account))
        texts += [said.out, said.err]
        eventually(lambda: handle.step("approval").status == "waiting", timeout=120, message="it asks")
        for command in (["ls", "-o", "json"], ["show", f"{handle.id}/approval"]):
            said = cli("approval", *command)
            texts += [said.out, said.err]
        said = cli("approval", "answer", f"{handle.id}/approval", "-i", "name=ada", "-i", f"pin={CANARY}")
        texts += [said.out, said.err]
        # A program's own result has the value.
        assert handle.result(120).pin.reveal() == CANARY
        look(cli, texts, str(handle.id), [step.key for step in handle.all_steps()])
        assert handle.attempts("untyped")[0].inputs == {"value": {"deep": [MASK, MASK]}}
        assert handle.attempts("fetch")[0].inputs == {"pin": MASK}
        assert handle.row().body == {"pin": MASK, "account": {"name": "bob", "pin": MASK}}
        again = cli("run", "rerun", str(handle.id), "--from", "second_time", "--dry-run", "-i", f"pin={CANARY}")
        texts += [again.out, again.err]
        kept = handle.rerun("second_time", by="ann")
        assert kept.result(120).pin.reveal() == CANARY
        look(cli, texts, str(kept.id), [step.key for step in kept.all_steps()])

        lost = client.start("broken", account=account)
        assert lost.wait(120) is RunStatus.FAILED
        with pytest.raises(RunFailed) as failed:
            lost.result()
        texts += [str(failed.value), repr(lost.row())]
        lost.retry(force=True)
        assert lost.wait(120) is RunStatus.FAILED
        lost.skip("bad_result", "not today")
        look(cli, texts, str(lost.id), [step.key for step in lost.all_steps()])
        hand = client.start("by_hand", account=account)
        assert hand.wait(120) is RunStatus.FAILED
        look(cli, texts, str(hand.id), [step.key for step in hand.all_steps()])
        more = cli("run", "rerun", str(lost.id), "-i", f"account={json.dumps(account)}", "--wait", code=None)
        texts += [more.out, more.err]
        (attempt,) = lost.attempts("bad_result")[:1]
        assert "does not fit its annotation" in str(attempt.error_message)
        assert MASK in str(lost.attempts("never")[0].error_message)

        for flow in ("named", named):
            with pytest.raises(InputInvalid) as told:
                client.start(flow, {"iban": [CANARY]})
            texts.append(f"{told.value!r} {told.value}")
        by_name = client.start(named, iban=CANARY)
        eventually(lambda: by_name.step("checked").status == "waiting", timeout=120, message="it waits")
        with pytest.raises(SignalInvalid) as unfit:
            by_name.signal("checked", {"iban": CANARY})
        texts.append(str(unfit.value))
        by_name.signal("checked", {"iban": 1})
        assert by_name.wait(120) is RunStatus.FAILED
        look(cli, texts, str(by_name.id), ["use_iban"])
        assert MASK in str(by_name.attempts("use_iban")[0].error_message)

        assert not [one for one in wire.commands() if CANARY[:12] in one]
        with closing(redis.Redis.from_url(broker)) as store:
            there = [store.dump(key) or b"" for key in store.scan_iter()]
        assert not [one for one in there if CANARY[:12].encode() in one]
    assert places(bench.ledger, CANARY[:12]) == ALLOWED
    assert CANARY[:12] not in caplog.text
    assert CANARY[:12] not in process.log()
    assert MASK in process.log()
    assert not [one for one in texts if CANARY[:12] in one]


def look(cli: Cli, texts: list[str], run: str, steps: list[str]) -> None:
    """Whatever commands show of a run."""
    views = [["show", run], ["show", run, "-o", "json"], ["events", run], ["events", run, "-o", "json"], ["graph", run]]
    views += [
        ["explain", run],
        ["tree", run],
        ["ls", "--inputs", "-o", "json"],
        ["result", run],
        ["watch", run, "--timeout", "0.2"],
    ]
    for key in steps:
        views += [
            ["show", f"{run}/{key}", "--all"],
            ["show", f"{run}/{key}", "-o", "json"],
            ["explain", f"{run}/{key}"],
        ]
    for view in views:
        said = cli("run", *view, code=None)
        texts += [said.out, said.err]
    for view in (["flow", "show", "vault", "-o", "json"], ["flow", "events", "vault"], ["flow", "graph", "vault"]):
        said = cli(*view, code=None)
        texts += [said.out, said.err]
