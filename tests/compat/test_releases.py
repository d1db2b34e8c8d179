"""What an earlier release wrote is read and run to its end by this one."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis
from alembic import command
from pydantic import SecretStr

from orchestrator.authoring.discovery import load_flows
from orchestrator.core.facts import StartRequest
from orchestrator.core.manifest import Manifest
from orchestrator.core.states import FINAL_RUN
from orchestrator.engine.runs import start_run
from orchestrator.engine.steps import retry_step
from orchestrator.errors import IdempotencyConflict
from orchestrator.ledger import migrate, reads
from orchestrator.ledger.tx import Ledger, normal_url
from orchestrator.settings import Settings
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess, running

HERE = Path(__file__).parent
RELEASES = ["first"]
AS_WRITTEN = "OVERRIDING SYSTEM VALUE"
"""Event numbers too are what that release gave."""


def rows(release: str) -> Iterator[dict[str, Any]]:
    """The lines of the file; `row` is the text of the row, so that payloads keep their last digit."""
    for line in (HERE / release / "rows.jsonl").read_text().splitlines()[1:]:
        yield {**json.loads(line), "text": line.partition('"row": ')[2][:-1]}


def expected(release: str) -> dict[UUID, dict[str, Any]]:
    found = json.loads((HERE / release / "expected.json").read_text())
    return {UUID(key): value for key, value in found.items()}


def load(release: str, url: str) -> None:
    """A database at that release's schema with its rows, brought to this release's."""
    import sqlalchemy

    revision = json.loads((HERE / release / "rows.jsonl").read_text().partition("\n")[0])["revision"]
    engine = sqlalchemy.create_engine(normal_url(url))
    config = migrate._config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    with psycopg.connect(url, autocommit=True) as connection:
        insert(connection, release)
    migrate.upgrade(url)


def insert(connection: psycopg.Connection[Any], release: str) -> None:
    """As that release's own INSERTs: without the columns that it does not know."""
    order = ["flow_definitions"]
    found = sorted(rows(release), key=lambda one: one["table"] not in order)
    for one in found:
        columns = ", ".join(f'"{name}"' for name in one["row"])
        connection.execute(
            f"INSERT INTO {one['table']} ({columns}) {AS_WRITTEN}"
            f" SELECT {columns} FROM json_populate_record(NULL::{one['table']}, %s::json)".encode(),
            [one["text"]],
        )
    # The numbers that the database gives go on after those of the file, as they would have.
    connection.execute(
        "SELECT setval(pg_get_serial_sequence('flow_events', 'id'), GREATEST(max(id), 1)) FROM flow_events"
    )


def send(release: str, url: str, prefix: str) -> None:
    """The messages, as they lay in Redis."""
    with redis.Redis.from_url(url) as broker:
        for key, messages in json.loads((HERE / release / "messages.json").read_text()).items():
            broker.rpush(prefix + key, *messages)


@pytest.mark.parametrize("release", RELEASES)
def test_manifests_keep_their_hash_and_their_text(release: str) -> None:
    """Runs are pinned by the hash; a default that changed would change what they mean."""
    versions = [one for one in rows(release) if one["table"] == "flow_definition_versions"]
    assert len(versions) >= 4
    for one in versions:
        text = json.dumps(one["row"]["manifest"])
        manifest = Manifest.from_json(text)
        assert manifest.hash == one["row"]["hash"]
        assert json.loads(manifest.to_json()) == one["row"]["manifest"]
        assert manifest.format == one["row"].get("format", 1)
    flows = load_flows([str(HERE / release / "flows.py")])
    known = {one["row"]["hash"] for one in versions}
    assert {flow.manifest.hash for flow in flows.values()} <= known, "the same code is the same version"


@pytest.mark.parametrize("release", RELEASES)
def test_what_a_release_left_is_run_to_its_end(
    release: str, empty_db_url: str, broker_url: str, settings: Settings, tmp_path: Path
) -> None:
    load(release, empty_db_url)
    send(release, broker_url, settings.key_prefix)
    settings = settings.model_copy(update={"database_url": SecretStr(empty_db_url)})
    with closing(Ledger.connect(empty_db_url, name="test")) as ledger:
        run_to_the_end(release, settings, ledger, tmp_path)


def run_to_the_end(release: str, settings: Settings, ledger: Ledger, folder: Path) -> None:
    """A worker of this release does what is left."""
    wanted = expected(release)
    for run_id, one in wanted.items():
        if one.get("then") == "retry":
            retry_step.retry(ledger, run_id, None, by="test")
    source = folder / "compat_flows.py"
    text = (HERE / release / "flows.py").read_text()
    source.write_text(text + BY_HAND)
    worker = WorkerProcess(settings, str(source), folder, env={}, name="new", pool="threads", concurrency=4)
    with running(worker):
        eventually(lambda: all(reads.runs.status(ledger, run_id) in FINAL_RUN for run_id in wanted), timeout=60)
    for run_id, one in wanted.items():
        row = reads.runs.get(ledger, run_id)
        assert row.status == one["status"], (one["what"], row.error)
        if row.status == "succeeded":
            assert reads.runs.result(ledger, run_id) == one["result"], one["what"]
    assert not reads.flows.get(ledger, "planned").enabled
    assert [one.ordinal for one in reads.flows.versions(ledger, "line")] == [1]
    check_keys(ledger, wanted)


BY_HAND = """
from orchestrator import Flow
from orchestrator.core.manifest import Manifest
other = Flow.from_manifest(Manifest(name="by_hand", queue="hand", steps={"first": {"type": "add", "inputs": {"n": 1}}}),
                           [add])
"""
"""Workers of the manifest that was written by hand, in a version of their own."""


def check_keys(ledger: Ledger, wanted: dict[UUID, dict[str, Any]]) -> None:
    """A request that was answered then is answered with the same run now."""
    keyed = [(run_id, one) for run_id, one in wanted.items() if "key" in one]
    assert keyed
    for run_id, one in keyed:
        for body in (one["body"], {**one["body"], "by": 1}):
            (again,) = start_run.start(ledger, [StartRequest("line", json.dumps(body), key=one["key"])])
            assert (again.run_id, again.created) == (run_id, False)
        with pytest.raises(IdempotencyConflict):
            start_run.start(ledger, [StartRequest("line", json.dumps({**one["body"], "by": 7}), key=one["key"])])


@pytest.mark.parametrize("release", RELEASES)
def test_an_older_release_works_beside_the_newer_schema(release: str, db_url: str) -> None:
    """Its INSERTs do not name what it does not know: every new column has a default or may be null."""
    with psycopg.connect(db_url, autocommit=True) as connection:
        insert(connection, release)
        found = connection.execute("SELECT count(*), min(format) FROM flow_definition_versions").fetchone()
        assert found == (len([1 for one in rows(release) if one["table"] == "flow_definition_versions"]), 1)
