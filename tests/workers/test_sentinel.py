"""Valkey behind Sentinels: a replica takes over from the primary, and everybody of ours finds it."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from orchestrator.core.facts import Dispatch
from orchestrator.delivery.publisher import Publisher
from orchestrator.doctor import examine
from orchestrator.ledger import reads
from orchestrator.servers import broker
from orchestrator.settings import Settings
from tests.support import sentinels
from tests.support.eventually import eventually
from tests.support.sentinels import Watched
from tests.support.worker_process import WorkerProcess
from tests.workers.conftest import Bench

Start = Callable[..., WorkerProcess]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Watched]:
    """Three Sentinels. Each test leaves it with a primary and a replica."""
    with (
        TemporaryDirectory(prefix="flow-", ignore_cleanup_errors=True) as folder,
        sentinels.watched(Path(folder)) as made,
    ):
        yield made


def at(settings: Settings, cluster: Watched, **changes: Any) -> Settings:
    """These settings with the broker behind the Sentinels, checked as those of the environment are."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    broker = {"broker_url": SecretStr(cluster.url), "broker_transport_options": cluster.options}
    return Settings(**{**given, **broker, **changes})


@pytest.fixture
def far(bench: Bench, cluster: Watched, tmp_path: Path) -> Iterator[Bench]:
    """The bench, with the broker behind the Sentinels."""
    bench.settings = at(bench.settings, cluster, key_prefix=f"{tmp_path.name}:")
    bench.publisher = Publisher(None, bench.settings, bench.ledger)
    yield bench
    bench.publisher.close()


def about_broker(settings: Settings) -> tuple[str, str]:
    """What `doctor` says: how bad, and in words."""
    (found,) = [one for one in examine(settings) if one.check == "broker"]
    return found.status, f"{found.finding}. Fix: {found.fix}"


def takes(publisher: Publisher) -> bool:
    """Whether a message can be sent; it goes to a queue that nobody serves."""
    return publisher.publish([Dispatch(uuid.uuid4(), "s", 1, "none.none", "nobody", 5)])


def is_survived(bench: Bench, process: WorkerProcess, fail_over: Callable[[], list[UUID]]) -> None:
    """Every step of runs from before, between and after runs once; the worker lives; each client has the new one."""
    before = bench.start("slows", items=list(range(16)), seconds=0.2)
    eventually(lambda: len(bench.effects("end")) >= 3)
    between = fail_over()
    since = reads.clock.now(bench.ledger)
    eventually(lambda: takes(bench.publisher), message="the publisher finds it")
    after = bench.start_many("chain", [{"n": 1}] * 5)
    for run_id in (*between, *after):
        assert bench.result(run_id) == 20
    assert bench.result(before) == list(range(16))
    assert len(bench.effects("start")) == 16 + 5 * len(between) + 5 * len(after)

    def consumes() -> bool:
        return any(row.consumed_at and row.consumed_at > since for row in reads.workers.every(bench.ledger))

    eventually(consumes, message="the probe finds it")
    assert about_broker(bench.settings)[0] == "pass"
    assert process.alive
    for secret in (sentinels.PASSWORD, sentinels.SENTINEL_PASSWORD):
        assert secret not in process.log()


def test_a_killed_primary_is_replaced_and_nothing_is_lost(far: Bench, worker: Start, cluster: Watched) -> None:
    """What is started while there is no primary is in the ledger only, until a keeper sends it."""
    process = worker(pool="prefork", concurrency=2)
    old = cluster.primary

    def kill() -> list[UUID]:
        old.kill()
        between = far.start_many("chain", [{"n": 1}] * 3)
        cluster.wait_for_other(old)
        return between

    try:
        is_survived(far, process, kill)
        process.says("dispatch.again")
    finally:
        old.start()
        cluster.settle()


@pytest.mark.slow
def test_a_primary_that_becomes_a_replica_is_left(far: Bench, worker: Start, cluster: Watched) -> None:
    """It goes on answering, so nobody may rely on a broken connection; it refuses to be written to."""
    process = worker(pool="threads", concurrency=2)
    old = cluster.primary

    def hand_over() -> list[UUID]:
        cluster.hand_over(old)
        return []

    try:
        is_survived(far, process, hand_over)
        assert old.ask("PING")
    finally:
        cluster.settle()


def test_what_the_first_url_says_holds_for_all(far: Bench) -> None:
    """After a failure kombu goes on with the next URL, and forgets what the last one said."""
    connection = broker.connect(far.settings)
    connection.default_channel.client.lpush("mark", 1)
    for _ in range(4):
        connection.maybe_switch_next()
        assert connection.default_channel.client.llen("mark") == 1
    connection.release()


def test_a_wrong_name_or_password_is_told_with_its_fix(far: Bench, worker: Start, cluster: Watched) -> None:
    """A name may be known in a moment, so a worker waits for it; a wrong password ends it."""
    status, said = about_broker(
        at(far.settings, cluster, broker_transport_options={**cluster.options, "master_name": "x"})
    )
    assert status == "fail"
    assert "No master found for 'x'" in said
    assert "master_name in ORCHESTRATOR_BROKER_TRANSPORT_OPTIONS" in said
    wrong = at(
        far.settings,
        cluster,
        broker_transport_options={**cluster.options, "sentinel_kwargs": {"password": "secret"}},
    )
    status, said = about_broker(wrong)
    assert status == "fail"
    assert "under sentinel_kwargs" in said
    process = worker(ready=False, settings=wrong)
    assert process.wait() == 1
    process.says("under sentinel_kwargs")
    assert "Traceback" not in process.log()
