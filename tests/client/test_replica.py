"""Lists come from a standby while it is near enough, and from the primary when it is not; nothing else does."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from pydantic import SecretStr

from orchestrator.client import Client
from orchestrator.core.manifest import Manifest
from orchestrator.engine.flows import register
from orchestrator.errors import FlowNotFound, OrchestratorError
from orchestrator.ledger import replica
from orchestrator.settings import Settings
from tests.support.eventually import eventually
from tests.support.factories import call
from tests.support.servers import Server
from tests.support.standby import Standby, standby

FAR = timedelta(hours=1)
NEAR = timedelta(seconds=0.2)


@pytest.fixture(scope="module")
def follower(pg_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standby]:
    with standby(pg_server, tmp_path_factory.mktemp("standby")) as made:
        yield made


@pytest.fixture
def reading(settings: Settings, follower: Standby) -> Settings:
    """Settings with the standby, which has all that the primary has."""
    url = follower.url_of(settings.require_database_url())
    changed = {"database_read_url": SecretStr(url), "database_read_max_lag": FAR}
    with Client(settings) as client:
        register.register(client.ledger, Manifest(name="demo", steps={"a": call()}))
        client.start("demo")
        with Client(settings.model_copy(update={"database_url": SecretStr(url)})) as there:
            eventually(lambda: _is_there(there), message="the standby has the first run")
    return settings.model_copy(update=changed)


def _is_there(standby: Client) -> bool:
    try:
        return bool(_listed(standby))
    except OrchestratorError:  # the database of this test is not there yet, or the flow
        return False


def _listed(client: Client) -> list[UUID]:
    return [row.id for row in client.runs()]


def test_lists_come_from_the_standby_and_what_is_asked_of_one_run_does_not(
    reading: Settings, follower: Standby
) -> None:
    with Client(reading) as client:
        (first,) = _listed(client)
        follower.pause()
        try:
            handle = client.start("demo")
            assert _listed(client) == [first], "it has not replayed the second one"
            assert client.count_runs() == 1
            assert client.run(handle.id).row().id == handle.id
            assert client.run(handle.id).explain().sentence
        finally:
            follower.resume()
        eventually(lambda: _listed(client) == [handle.id, first], message="it has replayed the second one")


def test_what_the_standby_does_not_know_yet_is_asked_of_the_primary(reading: Settings, follower: Standby) -> None:
    with Client(reading) as client:
        follower.pause()
        try:
            register.register(client.ledger, Manifest(name="newer", steps={"a": call()}))
            assert client.runs(flow="newer") == []
        finally:
            follower.resume()
        with pytest.raises(FlowNotFound):
            client.runs(flow="never")


def test_a_standby_too_far_behind_is_left_out_and_taken_back(
    reading: Settings, follower: Standby, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(replica, "_FRESH_S", 0.0)
    caplog.set_level(logging.INFO, "orchestrator")
    with Client(reading.model_copy(update={"database_read_max_lag": NEAR})) as client:
        follower.pause()
        try:
            handle = client.start("demo")
            eventually(lambda: handle.id in _listed(client), message="the primary is asked")
            (said,) = [one for one in caplog.records if one.message.startswith("replica.left_out")]
            assert "behind its primary" in str(said.__dict__)
        finally:
            follower.resume()
        back = "replica.used"
        eventually(
            lambda: _listed(client) and any(one.message.startswith(back) for one in caplog.records),
            message="it is read again",
        )


def test_a_standby_that_is_away_costs_no_list(
    reading: Settings, follower: Standby, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(replica, "_REST_S", 0.5)
    monkeypatch.setattr(replica, "_FRESH_S", 0.0)
    caplog.set_level(logging.INFO, "orchestrator")
    with Client(reading) as client:
        assert len(_listed(client)) == 1
        follower.stop()
        handle = client.start("demo")
        assert handle.id in _listed(client)
        assert handle.id in _listed(client)
        follower.start()
        eventually(
            lambda: _listed(client) and any(one.message.startswith("replica.used") for one in caplog.records),
            message="it is read again",
        )
        assert len([one for one in caplog.records if one.message.startswith("replica.left_out")]) == 1
