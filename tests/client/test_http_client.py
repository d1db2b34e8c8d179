"""`HttpClient` beside `Client`: the same questions have the same answers, through a server that listens."""

import inspect
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from orchestrator import HttpClient
from orchestrator.client import Client
from orchestrator.client.remote.client import HttpClient as Remote
from orchestrator.client.remote.run import HttpRunHandle
from orchestrator.client.remote.schedule import HttpScheduleHandle
from orchestrator.client.run_handle import RunHandle
from orchestrator.client.schedule_handle import ScheduleHandle
from orchestrator.engine.flows import register
from orchestrator.errors import (
    FlowNotFound,
    IdempotencyConflict,
    InputInvalid,
    RunFailed,
    RunNotFound,
    Unavailable,
    UsageError,
    WaitTimeout,
)
from orchestrator.http.app import create_app
from orchestrator.settings import Settings
from tests.support import play
from tests.support.eventually import eventually
from tests.support.scheduled_flows import report
from tests.support.small_flows import Greeting, fan, hello


@pytest.fixture
def far(settings: Settings, client: Client) -> Iterator[HttpClient]:
    for flow in (hello, fan):
        register.register(client.ledger, flow.manifest)
    config = uvicorn.Config(
        create_app(settings.model_copy(update={"auth": "open"})), port=0, log_config=None, lifespan="on"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started, message="the API listens")
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with HttpClient(f"http://127.0.0.1:{port}") as made:
            yield made
    finally:
        server.should_exit = True
        thread.join(30)


def test_a_typed_run_is_started_and_waited_for(far: HttpClient, client: Client) -> None:
    run = far.start(hello, name="you", tags=["a"])
    assert run.created
    assert run.row() == client.run(run.id).row()
    with pytest.raises(WaitTimeout):
        run.wait(0.2)
    play.finish_hello(client.ledger, run.id)
    assert run.result() == Greeting("hello you", 9)
    assert far.run(str(run.id)[-12:], hello).result() == Greeting("hello you", 9)
    assert run.steps() == client.run(run.id).steps()
    assert run.events() == client.run(run.id).events()
    assert run.attempts("greet") == client.run(run.id).attempts("greet")
    assert run.step("greet").status == "succeeded"
    assert run.shown_output("greet") == "hello you"
    assert run.graph() == client.run(run.id).graph()
    assert run.tree() == client.run(run.id).tree()
    assert run.explain() == client.run(run.id).explain()


def test_errors_are_the_same(far: HttpClient, client: Client) -> None:
    for given in (far, client):
        with pytest.raises(RunNotFound) as unknown:
            given.run("ffffffffffff")
        assert unknown.value.run_id == "ffffffffffff"
        with pytest.raises(InputInvalid) as misfit:
            given.start("hello", name="you", times="many")
        assert misfit.value.path == "times"
        with pytest.raises(FlowNotFound, match="did you mean `hello`"):
            given.start("helo", name="you")
        with pytest.raises(UsageError):
            given.runs(status="lost")
    far.start("hello", name="you", idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        far.start("hello", name="me", idempotency_key="k")
    failed = far.start("hello", name="you")
    play.fail(client.ledger, failed.id, "greet")
    with pytest.raises(RunFailed, match="boom") as ended:
        failed.result()
    assert (ended.value.step, ended.value.flow) == ("greet", "hello")


def test_lists_go_on_over_pages(far: HttpClient, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.client.remote.client._MOST", 2)
    runs = far.start_many("hello", [{"name": str(n)} for n in range(5)], [str(n) for n in range(5)])
    assert all(run.created for run in runs)
    assert far.runs() == client.runs()
    assert far.runs(limit=3, after=runs[4].id) == client.runs(limit=3, after=runs[4].id)
    assert far.count_runs(flow="hello") == 5
    assert far.runs(q="flow:fan") == []
    assert [one.key for one in runs[0].steps(limit=500)] == ["greet", "measure"]


def test_runs_are_operated(far: HttpClient, client: Client) -> None:
    run = far.start(hello, name="you")
    run.mark("greet", "hi", "by hand")
    run.skip("measure", "not needed")
    assert run.status() == "succeeded"
    assert run.rerun_plan().again == ("greet", "measure")
    again = run.rerun("measure")
    assert client.run(again.id).row().source == run.id
    assert again.cancel("enough") == "cancelled"
    failed = far.start(hello, name="you")
    play.fail(client.ledger, failed.id, "greet")
    failed.retry()
    assert failed.status() == "running"


def test_what_became_of_runs_is_told(far: HttpClient, client: Client) -> None:
    run = far.start(hello, name="you")
    play.fail(client.ledger, run.id, "greet")
    ((group,), (same,)) = far.errors("flow:hello"), client.errors(flow="hello")
    assert group == same
    assert far.stats("hello") == []
    assert run.timeline() == client.run(run.id).timeline()
    assert run.logs() == []
    again = run.rerun()
    assert run.reruns() == [again.id]


def test_schedules_are_operated(far: HttpClient, client: Client) -> None:
    register.register(client.ledger, report.manifest)
    (row,) = far.schedules("report")
    schedule = far.schedule("report", row.trigger_key)
    schedule.pause("enough")
    assert schedule.row().pause_reason == "enough"
    schedule.resume()
    schedule.set_cron("0 7 * * *", zone="Europe/Paris")
    assert schedule.row().expression == "0 7 * * *"
    assert schedule.preview(3) == client.schedule("report", row.trigger_key).preview(3)
    schedule.reset()
    assert schedule.row().overridden_at is None
    assert schedule.trigger().row().flow == "report"


def test_a_server_that_is_not_there_is_said_so() -> None:
    with HttpClient("http://127.0.0.1:9") as gone, pytest.raises(Unavailable, match="ORCHESTRATOR_API_URL"):
        gone.runs()


NOT_OVER_HTTP = {
    "Client": {
        "all_records",
        "committed",
        "errors",
        "is_unserved",
        "stats",
        "operate",
        "operate_plan",
        "operation",
        "operations",
    },
    "RunHandle": {"all_logs", "asks", "delete", "end", "final", "final_status", "log_places", "output"},
    "ScheduleHandle": {"zone"},
}
"""What needs the ledger itself, or is no part of the API yet."""


@pytest.mark.parametrize(
    ("near", "far"), [(Client, Remote), (RunHandle, HttpRunHandle), (ScheduleHandle, HttpScheduleHandle)]
)
def test_the_surface_is_that_of_the_client(near: type, far: type) -> None:
    def methods(kind: type) -> set[str]:
        return {name for name, value in inspect.getmembers(kind, callable) if not name.startswith("_")}

    inner = {"call", "call_once", "publish", "sending", "after_fork"}
    missing: Any = methods(near) - methods(far) - inner
    assert missing <= NOT_OVER_HTTP[near.__name__], missing
