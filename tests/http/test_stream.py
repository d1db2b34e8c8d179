"""The stream of events against the ledger: nothing is lost, whatever commits when, and whoever is cut off."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import psycopg
import pytest
import uvicorn
from starlette.testclient import TestClient

from orchestrator.client import Client
from orchestrator.core.access import Role, Scope
from orchestrator.engine.access import keys
from orchestrator.http import hub as hubs
from orchestrator.http import readers
from orchestrator.http.app import create_app
from orchestrator.http.readers import Reader, Sent, Wanted
from orchestrator.ledger import stream
from orchestrator.ledger.stream import Told
from orchestrator.settings import Settings
from tests.http.access import ROOT, bearer, key
from tests.support import play
from tests.support.eventually import eventually
from tests.support.listener import STREAM, Listener


@dataclass
class Served:
    url: str
    app: Any


@contextmanager
def serving(settings: Settings) -> Iterator[Served]:
    """A server of its own: the test client gives no answer before its end."""
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=10))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started)
        yield Served(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", app)
    finally:
        app.state.stopping.end()
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def door(settings: Settings, stack: Client) -> Iterator[Served]:
    with serving(settings.model_copy(update={"auth": "open"})) as made:
        yield made


def ledgers(stack: Client) -> set[int]:
    with stack.ledger.tx() as tx:
        return set(tx.exec_driver_sql("SELECT id FROM flow_events").scalars())


def test_events_are_told_as_they_are_committed(door: Served, stack: Client) -> None:
    with Listener([door.url]) as reader:
        run = stack.start("hello", name="you")
        play.finish_hello(stack.ledger, run.id)
        eventually(lambda: "run.succeeded" in reader.types)
        assert {one["id"] for one in reader.events} == {one.id for one in run.events()}
        first = reader.events[0]
        assert (first["type"], first["flow"], first["run_id"]) == ("run.accepted", "hello", str(run.id))
        answer = reader.response
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in answer.headers
    assert "retry: 2000" in reader.lines


def test_a_reader_gets_what_it_asks_for(door: Served, stack: Client) -> None:
    wanted = stack.start("hello", name="you")
    with (
        Listener([door.url], {"run": str(wanted.id)}) as of_run,
        Listener([door.url], {"flow": ["fan"]}) as of_flow,
        Listener([door.url], {"type": ["run.*", "step.failed"]}) as of_type,
    ):
        other = stack.start("fan", {"count": 2})
        play.finish_hello(stack.ledger, wanted.id)
        other.cancel("enough", by="me")
        stack.call(lambda ledger: play.fail(ledger, stack.start("hello", name="me").id, "greet"))
        eventually(lambda: "run.succeeded" in of_run.types and "run.failed" in of_type.types)
        eventually(lambda: "run.cancelled" in of_flow.types)
    assert {one["run_id"] for one in of_run.events} == {str(wanted.id)}
    assert {one["flow"] for one in of_flow.events} == {"fan"}
    assert {one["type"].partition(".")[0] for one in of_type.events} == {"run", "step"}
    assert {one["type"] for one in of_type.events if one["type"].startswith("step")} == {"step.failed"}


def test_nothing_is_lost_while_many_write_and_the_reader_is_cut_off(door: Served, stack: Client) -> None:
    """Transactions that take different times: ids are committed out of order, some seconds apart, some never."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    over = threading.Event()

    def write(n: int) -> None:
        dice = random.Random(seed + n)
        url = stack.settings.require_database_url().replace("+psycopg", "")
        with psycopg.connect(url) as connection:
            while not over.is_set():
                run = stack.start("hello", name="you").id if dice.random() < 0.1 else None
                for _ in range(dice.randrange(1, 4)):
                    connection.execute(
                        "INSERT INTO flow_events (run_id, type) VALUES (coalesce(%s, gen_random_uuid()), 'test')", [run]
                    )
                    time.sleep(dice.choice([0, 0, 0.001, 0.01, 0.4 if dice.random() < 0.05 else 0]))
                connection.rollback() if dice.random() < 0.1 else connection.commit()

    with Listener([door.url]) as reader:
        writers = [threading.Thread(target=write, args=(n,)) for n in range(8)]
        for one in writers:
            one.start()
        for cuts in range(1, 6):
            seen = len(reader.events)
            eventually(lambda seen=seen: len(reader.events) > seen + 30)
            reader.cut()
            eventually(lambda cuts=cuts: reader.ended >= cuts)
        over.set()
        for one in writers:
            one.join()
        expected = ledgers(stack)
        eventually(lambda: {one["id"] for one in reader.events} >= expected)
    assert {one["id"] for one in reader.events} == expected
    assert "resync" not in reader.types


def test_a_long_transaction_holds_nobody_back_and_is_not_lost(door: Served, stack: Client) -> None:
    """Its ids are older than those of events that were told long before. Also for one who comes back meanwhile."""
    url = stack.settings.require_database_url().replace("+psycopg", "")
    insert = "INSERT INTO flow_events (run_id, type) VALUES (gen_random_uuid(), %s)"
    with Listener([door.url]) as reader, psycopg.connect(url) as slow, psycopg.connect(url, autocommit=True) as quick:
        slow.execute(insert, ["slow"])
        quick.execute(insert, ["quick"])
        eventually(lambda: reader.types[-1] == "quick")
        reader.cut()
        eventually(lambda: reader.ended >= 1)
        quick.execute(insert, ["later"])
        eventually(lambda: "later" in reader.types)
        slow.commit()
        eventually(lambda: "slow" in reader.types)


@pytest.mark.parametrize("cursor", ["nonsense", "9000000000000-1"])
def test_a_place_that_is_none_is_said_to_be_lost(door: Served, stack: Client, cursor: str) -> None:
    with Listener([door.url], cursor=None, headers={"Last-Event-ID": cursor}) as reader:
        assert reader.types[0] == "resync"
        stack.start("hello", name="you")
        eventually(lambda: "run.accepted" in reader.types)


def test_one_who_comes_back_too_late_has_lost_the_place(
    door: Served, stack: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "_PAGE", 10)
    monkeypatch.setattr(hubs, "REPLAYED", 50)
    with Listener([door.url]) as reader:
        pass
    cursor = reader.cursor
    for _ in range(40):
        stack.start("hello", name="you")
    with Listener([door.url], headers={"Last-Event-ID": str(cursor)}) as late:
        eventually(lambda: "resync" in late.types)
        assert 0 < late.types.index("resync") < 80
        stack.start("fan", {"count": 1})
        eventually(lambda: late.events[-1]["flow"] == "fan")


def test_readers_share_one_connection(door: Served, stack: Client) -> None:
    with ExitStack() as held, httpx2.Client(limits=httpx2.Limits(max_connections=None), timeout=60) as http:
        for _ in range(500):
            held.enter_context(http.stream("GET", door.url + STREAM))
        with stack.ledger.tx() as tx:
            mine = "datname = current_database() AND application_name = 'orchestrator events'"
            count = tx.exec_driver_sql(f"SELECT count(*) FROM pg_stat_activity WHERE {mine}").scalar_one()
        assert count == 1
        assert httpx2.get(f"{door.url}/api/flows").status_code == 200
        assert len(door.app.state.hub._readers) == 500
    eventually(lambda: not door.app.state.hub._readers)


def test_streams_end_when_the_process_stops(door: Served) -> None:
    with Listener([door.url]) as reader:
        door.app.state.stopping.end()
        eventually(lambda: reader.ended >= 1)
        assert ": stopping: connect again" in reader.lines
        reader.leave()


def test_a_revoked_key_ends_its_streams(settings: Settings, stack: Client) -> None:
    with serving(settings) as door:
        text = key(stack, Role.VIEWER, frozenset({Scope.RUNS}), name="mine")
        other = key(stack, Role.VIEWER)
        assert httpx2.get(door.url + STREAM).status_code == 401
        with Listener([door.url], headers=bearer(text)) as ends, Listener([door.url], headers=bearer(other)) as stays:
            keys.revoke(stack.ledger, "mine", ROOT)
            eventually(lambda: ends.ended >= 1)
            assert ": the key ended" in ends.lines
            assert stays.ended == 0


def test_a_key_of_some_flows_names_them(settings: Settings, stack: Client) -> None:
    with serving(settings) as door:
        headers = bearer(key(stack, Role.VIEWER, flows=frozenset({"fan"})))
        assert httpx2.get(door.url + STREAM, headers=headers).status_code == 403
        assert httpx2.get(door.url + STREAM, params={"flow": "hello"}, headers=headers).status_code == 404
        with Listener([door.url], {"flow": "fan"}, headers) as reader:
            stack.start("hello", name="you")
            stack.start("fan", {"count": 1})
            eventually(lambda: reader.events)
            assert {one["flow"] for one in reader.events} == {"fan"}


def test_a_wrong_run_is_a_problem(api: TestClient) -> None:
    answer = api.get(f"{STREAM}?run=ffffffff")
    assert (answer.status_code, answer.json()["code"]) == (404, "run_not_found")


def test_events_of_a_ledger_that_was_copied_are_not_told_as_new(stack: Client) -> None:
    """Their transactions have numbers that this server has yet to give."""
    stack.start("hello", name="you")
    with stack.ledger.tx() as tx:
        tx.exec_driver_sql("UPDATE flow_events SET tx = tx + 1000000")
    before = stack.call(stream.now)
    assert stack.call(stream.forget_foreign, 1) == 2
    stack.start("hello", name="me")
    until = stack.call(stream.now)
    found = stack.call(stream.since, (before.high, 0), until, 100)
    assert len(found) == 2
    with stack.ledger.tx() as tx:
        assert tx.exec_driver_sql("SELECT count(*) FROM flow_events WHERE tx IS NULL").scalar_one() == 2


def _sent(number: int, type: str = "test") -> Sent:
    from datetime import UTC, datetime
    from uuid import UUID

    return Sent(Told(1, number, UUID(int=0), "f", datetime.now(UTC), type, None, None, None), b"")


def test_a_reader_that_is_slow_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr(readers, "MOST", 5)

    async def play_it() -> None:
        reader = Reader(Wanted())
        reader.offer([_sent(n) for n in range(8)])  # at once is fine
        assert len(await reader.take(1) or ()) == 8
        reader.offer([_sent(1)])
        reader.offer([_sent(n) for n in range(5)])
        reader.offer([_sent(9)])
        assert await reader.take(1) is None
        assert await reader.take(0.01) == []
        reader.offer([_sent(10)])
        assert [one.told.id for one in await reader.take(1) or ()] == [10]

    asyncio.run(play_it())
