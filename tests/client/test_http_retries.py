"""What `HttpClient` sends again by itself: only what is done once, however often it is sent."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGKILL

import httpx2
import pytest

from orchestrator import HttpClient
from orchestrator.client import Client
from orchestrator.client.remote.transport import PATIENT_TRIES, TRIES, Ask, Tries, do
from orchestrator.core.access import Grant, Role
from orchestrator.engine.flows import register
from orchestrator.errors import RunNotFound, Unavailable
from orchestrator.settings import Settings
from tests.support import play
from tests.support.api_process import api_process
from tests.support.listening import listening
from tests.support.proxy import Proxy
from tests.support.small_flows import Greeting, hello


@pytest.fixture
def opened(settings: Settings, client: Client) -> Settings:
    register.register(client.ledger, hello.manifest)
    return settings.model_copy(update={"auth": "open"})


@pytest.fixture
def lossy(opened: Settings) -> Iterator[Proxy]:
    """Before an API that listens."""
    with listening(opened) as url:
        proxy = Proxy(url)
        yield proxy
        proxy.close()


@pytest.mark.slow  # six processes
@pytest.mark.parametrize("key", ["k", None])
def test_a_start_is_asked_for_again_when_the_api_was_killed_before_it_answered(
    opened: Settings, client: Client, tmp_path: Path, key: str | None
) -> None:
    """Its run was committed then; with or without a key of one's own there is one."""
    with (
        socket.create_server(("127.0.0.1", 0)) as door,
        ThreadPoolExecutor() as threads,
        HttpClient(f"http://127.0.0.1:{door.getsockname()[1]}") as far,
    ):
        with api_process(opened, door, tmp_path, start__committed="kill") as first:
            starting = threads.submit(far.start, hello, name="you", idempotency_key=key)
            assert first.wait(60) == -SIGKILL
            assert not starting.done()
        with api_process(opened, door, tmp_path):
            run = starting.result(60)
            assert [row.id for row in client.runs()] == [run.id]
            waiting = run.end()
            assert run.status() == "pending"
        with api_process(opened, door, tmp_path):  # whoever waits goes on with another process
            play.finish_hello(client.ledger, run.id)
            assert waiting.result(60) == "succeeded"
            assert run.result() == Greeting("hello you", 9)


@pytest.mark.parametrize("lose", ["request", "reply"])
def test_what_is_done_to_a_run_is_done_once(lossy: Proxy, client: Client, lose: str) -> None:
    with HttpClient(lossy.url) as far:
        run = far.start(hello, name="you")
        lossy.cut(b"POST /api/runs/", lose=lose)  # type: ignore[arg-type]
        assert run.cancel("enough") == "cancelled"
        lossy.cut(b"POST /api/runs/", lose=lose)  # type: ignore[arg-type]
        again = run.rerun()
        lossy.cut(b"POST /api/runs/", lose=lose)  # type: ignore[arg-type]
        again.skip("greet", "not needed")
        lossy.cut(b"GET /api/runs/", lose=lose)  # type: ignore[arg-type]
        assert run.reruns() == [again.id]
        lossy.cut(b"POST /api/operations", lose=lose)  # type: ignore[arg-type]
        made = far.operate("cancel", [again.id], reason="enough")
        assert [row.id for row in far.operations()] == [made.id]
    assert lossy.cuts == 5
    types = [event.type for event in client.run(run.id).events()]
    assert types.count("run.cancel_requested") <= 1
    assert len(client.runs()) == 2


def test_what_may_be_done_twice_is_not_sent_again(lossy: Proxy, client: Client) -> None:
    """A key that nobody has seen is made once; of what was deleted it is not said that it was never there."""
    with HttpClient(lossy.url) as far:
        run = far.start(hello, name="you")
        run.cancel()
        lossy.cut(b"POST /api/keys", lose="reply")
        with pytest.raises(Unavailable, match="cannot be reached"):
            far.keys.create("app", Grant(Role.VIEWER))
        lossy.cut(f"DELETE /api/runs/{run.id}".encode(), lose="reply")
        with pytest.raises(Unavailable, match="cannot be reached"):
            run.delete()
        assert lossy.cuts == 2
        assert [key.name for key in client.keys.listed()] == ["app"]
        with pytest.raises(RunNotFound):
            run.row()


def answer(status: int, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_how_often_something_is_sent() -> None:
    """As often as it is worth it, and after as long as the API says."""
    broken, away = httpx2.ReadError("broken"), httpx2.ConnectError("away")
    once, keyed, look = Ask("POST", "/keys"), do("/runs/x/cancel"), Ask("GET", "/runs")
    for ask, error, tried in ((once, broken, 1), (once, away, TRIES), (keyed, broken, TRIES), (look, broken, TRIES)):
        tries = Tries("http://x", ask)
        for _ in range(tried - 1):
            assert tries.failed(error) > 0
        with pytest.raises(Unavailable, match="ORCHESTRATOR_API_URL"):
            tries.failed(error)
    assert Tries("", once).answered(answer(503)) is None
    assert Tries("", keyed).answered(answer(200)) is None
    assert (Tries("", keyed).answered(answer(503)) or 0) > 0
    assert (Tries("", once).answered(answer(429, Retry_After="7")) or 0) == 7
    assert (Tries("", look).answered(answer(429, Retry_After="7000")) or 0) == 60
    patient = Tries("", Ask("GET", "/runs/x", tries=PATIENT_TRIES))
    assert 20 < sum(patient.answered(answer(503)) or 0 for _ in range(PATIENT_TRIES)) < 60
