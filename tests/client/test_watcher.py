"""A wait is told: the hint comes through Redis, the fact from the ledger, and without hints it works, slower."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from pydantic import SecretStr

from orchestrator.client import AsyncClient, Client, rounds
from orchestrator.core.states import RunStatus
from orchestrator.delivery import line
from orchestrator.delivery.hints import EndHints, channel
from orchestrator.errors import RunNotFound, Unavailable, UsageError, WaitTimeout
from orchestrator.ledger import migrate
from orchestrator.ledger.tx import Ledger
from orchestrator.settings import Settings
from tests.support import play
from tests.support.eventually import eventually
from tests.support.forked import in_child
from tests.support.servers import Broker, broker, postgres
from tests.support.small_flows import hello
from tests.support.worker_process import env_of

SUCCEEDED = RunStatus.SUCCEEDED
NEVER = rounds._Pace(1.5, 600, 600)


class Looks(list[list[UUID]]):
    """What a client's watcher asked the ledger for: the runs of each statement."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._ask = client.watcher._look
        client.watcher._look = self._look

    def _look(self, run_ids: Sequence[UUID]) -> Mapping[UUID, RunStatus]:
        found = self._ask(run_ids)
        self.append(list(run_ids))
        return found


@pytest.fixture
def looks(client: Client) -> Looks:
    return Looks(client)


@pytest.fixture
def other(settings: Settings) -> Iterator[Client]:
    """Somebody of this release who ends runs."""
    with Client(settings) as made:
        yield made


@pytest.fixture
def old(settings: Settings) -> Iterator[Ledger]:
    """Somebody of a release that tells nobody."""
    made = Ledger.connect(settings.require_database_url())
    yield made
    made.close()


@pytest.fixture
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Valkey to be stopped."""
    with broker(tmp_path_factory.mktemp("v")) as server:
        yield server


def at(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"broker_url": SecretStr(url)})


def listeners(settings: Settings, run_id: UUID) -> int:
    with redis.Redis.from_url(settings.require_broker_url()) as server:
        return int(server.pubsub_numsub(channel(settings, run_id))[0][1])


@pytest.fixture
def told_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks of his own accord, however slow the machine is: each subscription comes, and each hint."""
    monkeypatch.setattr(rounds, "_TOLD", NEVER)
    monkeypatch.setattr(rounds, "_PATIENCE_S", 600)


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


# ---- told ----


@pytest.mark.usefixtures("told_only")
def test_the_end_of_a_run_is_told(client: Client, other: Client, looks: Looks, settings: Settings) -> None:
    """One look when its channel stands, one when the hint comes; one may be under way that was due before it stood."""
    run = client.start(hello, name="you")
    end = run.end()
    eventually(lambda: listeners(settings, run.id) == 1)
    before = len(looks)
    play.finish_hello(other.ledger, run.id)
    assert end.result(60) is SUCCEEDED
    assert len(looks) - before <= 3


@pytest.mark.usefixtures("told_only")
def test_a_young_run_costs_a_look_or_two(client: Client, other: Client, looks: Looks, settings: Settings) -> None:
    first = client.start(hello, name="you")
    before = first.end()
    eventually(lambda: listeners(settings, first.id) == 1, message="the first wait makes the connection")
    play.finish_hello(other.ledger, first.id)
    assert before.result(60) is SUCCEEDED
    looks.clear()
    for _ in range(10):
        run = client.start(hello, name="you")
        end = run.end()
        other.run(run.id).cancel("enough")
        assert end.result(60) is RunStatus.CANCELLED
    assert len(looks) <= 20


def test_a_hint_for_a_run_that_goes_on_is_ignored(client: Client, looks: Looks, settings: Settings) -> None:
    run = client.start(hello, name="you")
    end = run.end()
    eventually(lambda: looks)
    before = len(looks)
    hints = EndHints(settings)
    hints.announce([run.id, uuid4()])
    eventually(lambda: len(looks) > before)
    assert not end.done()
    play.finish_hello(client.ledger, run.id)
    assert end.result(60) is SUCCEEDED
    hints.close()


def test_nobody_loses_the_connection_while_sending(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that made the connection sends what waited for it; whoever closes meanwhile waits for that."""
    sending, closing = threading.Event(), threading.Event()
    can_read = redis.Connection.can_read

    def slowly(self: redis.Connection, timeout: float = 0) -> bool:
        sock = self._sock
        sending.set()
        assert closing.wait(60)
        time.sleep(0.05)  # for the disconnection that must not come
        answers: bool = can_read(self, timeout)
        assert self._sock is sock, "disconnected, and connected once more"
        return answers

    monkeypatch.setattr(redis.Connection, "can_read", slowly)
    hints = EndHints(settings)
    hints.announce([uuid4()])
    assert sending.wait(60)
    closing.set()
    hints.close()
    eventually(lambda: "hints-connect" not in names())


def test_a_run_that_had_ended_is_seen_at_once(client: Client) -> None:
    run = client.start(hello, name="you")
    play.finish_hello(client.ledger, run.id)
    assert run.end().result(60) is SUCCEEDED
    assert client.run(run.id).wait(60) is SUCCEEDED
    play_again = client.run(run.id)
    time.sleep(0.02)  # known for so long that its handle looks by itself
    assert play_again.wait(60) is SUCCEEDED


def test_a_run_that_there_is_not_is_told_as_that(client: Client) -> None:
    (end,) = client.watcher.ended([uuid4()])
    with pytest.raises(RunNotFound):
        end.result(60)


@pytest.mark.usefixtures("told_only")
def test_thousands_who_wait_are_served_by_a_few_statements(client: Client, looks: Looks, settings: Settings) -> None:
    runs = client.start_many(hello, [{"name": "you"}] * 2000)
    ends = client.watcher.ended([run.id for run in runs], known_since=time.monotonic())
    eventually(lambda: sum(map(len, looks)) >= 2000)
    before, began = len(looks), time.monotonic()
    with psycopg.connect(settings.require_database_url().replace("+psycopg", "")) as connection:
        connection.execute("UPDATE flow_runs SET status = 'succeeded', ended_at = now(), sinks_open = 0")
    hints = EndHints(settings)
    hints.announce([runs[0].id])
    assert ends[0].result(60) is SUCCEEDED  # it has a connection: of what waits for one, the oldest are dropped
    for first in range(0, 2000, 100):  # as many workers would
        hints.announce([run.id for run in runs[first : first + 100]])
    done, left = wait(ends, 60)
    assert not left
    assert {end.result() for end in done} == {SUCCEEDED}
    assert len(looks) - before <= 60 + 10 * (time.monotonic() - began)
    hints.close()


# ---- without hints ----


def test_who_tells_nobody_is_noticed(
    client: Client, old: Ledger, looks: Looks, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that an older release ends: the first ones are seen late, the others as if there were no Redis."""
    for number in range(6):  # one that was not seen to be subscribed to does not count
        run = client.start(hello, name="you")
        end = run.end()
        eventually(lambda run=run: listeners(settings, run.id) == 1)  # type: ignore[misc]
        before = len(looks)
        eventually(lambda: len(looks) > before)  # noqa: B023
        play.finish_hello(old, run.id)
        assert end.result(60) is SUCCEEDED
        if number == 4:
            monkeypatch.setattr(rounds, "_TOLD", NEVER)


@pytest.mark.parametrize("change", [":1/0", "wrong password"])
def test_without_redis_the_ledger_is_asked(
    settings: Settings, old: Ledger, change: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one line in the log."""
    monkeypatch.setattr(rounds, "_TOLD", NEVER)
    url = settings.require_broker_url()
    there = url.replace("redis://:", "redis://:x") if change == "wrong password" else "redis://127.0.0.1:1/0"
    with caplog.at_level(logging.INFO, "orchestrator"), Client(at(settings, there)) as client:
        for _ in range(3):
            run = client.start(hello, name="you")
            end = run.end()
            time.sleep(0.2)
            play.finish_hello(old, run.id)
            assert end.result(60) is SUCCEEDED
        play.finish_hello(client.ledger, client.start(hello, name="you").id)
    away = [record for record in caplog.records if record.message == "hints.away"]
    assert 1 <= len(away) <= 2, "one of those that listen, one of those that tell"


def test_a_client_without_a_broker_waits(settings: Settings, client: Client) -> None:
    run = client.start(hello, name="you")
    with Client(settings.model_copy(update={"broker_url": None})) as reader:
        end = reader.run(run.id).end()
        play.finish_hello(client.ledger, run.id)
        assert end.result(60) is SUCCEEDED


def test_a_restart_of_redis_is_survived(
    settings: Settings, own_broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    server = own_broker.embedded
    assert server is not None
    here = at(settings, own_broker.url)
    with caplog.at_level(logging.INFO, "orchestrator"), Client(here) as client, Client(here) as other:
        run = client.start(hello, name="you")
        end = run.end()
        eventually(lambda: listeners(here, run.id) == 1)
        server.stop(immediate=True)
        eventually(lambda: any(record.message == "hints.away" for record in caplog.records))
        server.start()
        eventually(lambda: listeners(here, run.id) == 1)
        own_broker.flush()
        play.finish_hello(other.ledger, run.id)
        assert end.result(60) is SUCCEEDED
        eventually(lambda: any(record.message == "hints.back" for record in caplog.records))
        told = [record.message for record in caplog.records if record.message.startswith("hints.")]
    assert sorted(set(told)) == ["hints.away", "hints.back"]
    assert len(told) <= 4, told


def test_a_connection_that_was_killed_is_made_again_without_a_word(
    client: Client, other: Client, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    run = client.start(hello, name="you")
    end = run.end()
    eventually(lambda: listeners(settings, run.id) == 1)
    with redis.Redis.from_url(settings.require_broker_url()) as server:
        assert server.client_kill_filter(_type="pubsub") == 1
    eventually(lambda: listeners(settings, run.id) == 1)
    play.finish_hello(other.ledger, run.id)
    assert end.result(60) is SUCCEEDED
    assert not any(record.message.startswith("hints.") for record in caplog.records)


def test_a_redis_that_is_paused_holds_nobody_up(
    settings: Settings, own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither whoever ends runs nor, for long, whoever waits; and it is noticed, and used again afterwards."""
    monkeypatch.setitem(line._OPTIONS, "socket_timeout", 600)  # for ever, for whoever waited for an answer
    server = own_broker.embedded
    assert server is not None
    here = at(settings, own_broker.url)
    with Client(here) as client, Client(here) as other:
        runs = client.start_many(hello, [{"name": "you"}] * 3)
        ends = [run.end() for run in runs]
        eventually(lambda: all(listeners(here, run.id) for run in runs))
        other.run(runs[2].id).cancel("its publisher is connected from now on")
        assert ends.pop().result(60) is RunStatus.CANCELLED
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for run, end in zip(runs, ends, strict=False):
                play.finish_hello(other.ledger, run.id)
                assert end.result(60) is SUCCEEDED
            eventually(lambda: client.watcher._line._failures, message="no answer to a ping")
        finally:
            os.kill(server.pid, signal.SIGCONT)
        run = client.start(hello, name="you")
        end = run.end()
        eventually(lambda: listeners(here, run.id) == 1)
        play.finish_hello(other.ledger, run.id)
        assert end.result(60) is SUCCEEDED


def test_a_restart_of_postgresql_is_waited_out(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> None:
    with postgres(tmp_path_factory.mktemp("p")) as server:
        assert server.embedded is not None
        url = server.url_of("postgres")
        migrate.upgrade(url)
        with Client(settings.model_copy(update={"database_url": SecretStr(url)})) as client:
            run = client.start(hello, name="you")
            end = run.end()
            server.embedded.stop(immediate=True)
            time.sleep(0.3)
            assert not end.done()
            with pytest.raises(Unavailable):
                run.wait(0.05)
            server.embedded.start()
            play.finish_hello(client.ledger, run.id)
            assert end.result(60) is SUCCEEDED


# ---- who waits ----


@pytest.mark.slow
def test_a_wait_that_is_left_is_forgotten(client: Client, settings: Settings, request: pytest.FixtureRequest) -> None:
    """By an interrupt, a timeout, or a task that was cancelled."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    run = client.start(hello, name="you")

    def interrupt() -> None:
        eventually(lambda: listeners(settings, run.id) == 1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run.wait(60)
    with pytest.raises(WaitTimeout):
        run.wait(0.2)
    assert listeners(settings, run.id) <= 1
    eventually(lambda: listeners(settings, run.id) == 0, message="its channel is left")


def test_waits_of_several_loops_and_threads_are_told(settings: Settings, other: Client) -> None:
    client = AsyncClient(settings)

    async def started() -> list[UUID]:
        return [run.id for run in await client.start_many(hello, [{"name": "you"}] * 30)]

    ids = asyncio.run(started())

    async def wait_all() -> list[RunStatus]:
        runs = [await client.run(run_id) for run_id in ids]
        endless = asyncio.create_task(runs[0].wait())
        await asyncio.sleep(0)
        endless.cancel()
        return await asyncio.gather(*(run.wait(60) for run in runs))

    with ThreadPoolExecutor(3) as pool:
        loops = [pool.submit(asyncio.run, wait_all()) for _ in range(2)]
        sync = pool.submit(lambda: [client.sync.run(run_id).wait(60) for run_id in ids])
        for run_id in ids:
            play.finish_hello(other.ledger, run_id)
        assert [loop.result(60) for loop in [*loops, sync]] == [[SUCCEEDED] * 30] * 3
    asyncio.run(client.close())


def test_a_closed_client_tells_those_who_wait(settings: Settings) -> None:
    client = Client(settings)
    run = client.start(hello, name="you")
    ends = [run.end(), run.end()]
    client.close()
    for end in ends:
        with pytest.raises(UsageError, match="This client is closed"):
            end.result(60)
    assert "watch-runs" not in names()
    with pytest.raises(UsageError, match="This client is closed"):
        run.wait(1)


def test_the_thread_ends_when_nobody_waits(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.client.rounds._LINGER_S", 0.2)
    for _ in range(2):
        run = client.start(hello, name="you")
        end = run.end()
        assert "watch-runs" in names()
        run.cancel("enough")
        assert end.result(60) is RunStatus.CANCELLED
        eventually(lambda: "watch-runs" not in names())


@pytest.mark.parametrize("waits", [0, 1])
def test_a_forked_child_has_a_watcher_of_its_own(settings: Settings, waits: int) -> None:
    with Client(settings) as client:
        runs = client.start_many(hello, [{"name": "you"}] * 3)
        end = runs[0].end()
        if not waits:
            end.cancel()

        def child() -> None:
            mine = runs[1].end()
            play.finish_hello(client.ledger, runs[1].id)
            assert mine.result(60) is SUCCEEDED
            client.close()

        assert in_child(child) == 0
        again = runs[2].end()
        play.finish_hello(client.ledger, runs[0].id)
        play.finish_hello(client.ledger, runs[2].id)
        assert again.result(60) is SUCCEEDED
        assert not waits or end.result(60) is SUCCEEDED


SCRIPT = """
from orchestrator import Client
from tests.support.small_flows import hello

client = Client.from_env()
run = client.start(hello, name="you")
try:
    run.wait(0.2)
except Exception as exc:
    print(type(exc).__name__)
run.end()
"""


def test_a_program_that_forgets_to_close_ends(settings: Settings, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env_of(settings), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "WaitTimeout\n", "")
