"""`HttpClient` beside `Client`: the same questions have the same answers, through a server that listens."""

import json
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from datetime import UTC, datetime

import pytest

from orchestrator import HttpClient, Secret, flow, step
from orchestrator.client import Client
from orchestrator.client.remote import waiting
from orchestrator.core.access import Role, Scope
from orchestrator.engine.access import audit
from orchestrator.engine.flows import register
from orchestrator.errors import (
    FlowNotFound,
    Forbidden,
    IdempotencyConflict,
    InputInvalid,
    QueryInvalid,
    RunFailed,
    RunNotFound,
    ScheduleNotFound,
    Unavailable,
    UsageError,
    WaitTimeout,
)
from orchestrator.ledger import logs
from orchestrator.ledger.access import AuditFilter
from orchestrator.ledger.logs import NewLines
from orchestrator.ledger.reads.rows import StepRow
from orchestrator.settings import Settings
from tests.http.access import key
from tests.support import play
from tests.support.forked import in_child
from tests.support.listening import listening
from tests.support.scheduled_flows import report
from tests.support.small_flows import Greeting, crowd_of, fan, hello


@pytest.fixture
def far(settings: Settings, client: Client) -> Iterator[HttpClient]:
    for known in (hello, fan):
        register.register(client.ledger, known.manifest)
    with listening(settings.model_copy(update={"auth": "open"})) as url, HttpClient(url) as made:
        yield made


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
    with pytest.raises(RunFailed) as near:
        client.run(failed.id).result()
    assert str(ended.value) == str(near.value)


def test_lists_go_on_over_pages(far: HttpClient, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.client.remote.access._MOST", 2)
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
    ((group,), (same,)) = far.errors(q="flow:hello", status="failed"), client.errors(flow="hello")
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


def test_many_runs_are_operated(far: HttpClient, client: Client) -> None:
    runs = far.start_many("hello", [{"name": str(n)} for n in range(3)], tags=["t"])
    plan = far.operate_plan("cancel", flow=hello, tag="t", status=["pending"])
    assert plan == client.operate_plan("cancel", flow=hello, tag="t", status=["pending"])
    given = {"reason": "enough", "token": plan.token, "flow": hello, "tag": "t", "status": ["pending"]}
    made = far.operate("cancel", idempotency_key="k", **given)
    assert made.created
    assert not far.operate("cancel", idempotency_key="k", **given).created
    assert made.row() == client.operation(made.id).row()
    assert made.row().foreseen == 3
    assert made.pause().state == "paused"
    with pytest.raises(WaitTimeout, match="operation watch"):
        made.wait(0)
    assert made.resume().state == "running"
    assert far.operations() == client.operations()
    assert [one.run_id for one in made.all_outcomes(outcome="pending")] == [run.id for run in runs]
    assert made.outcomes(after=runs[1].id) == client.operation(made.id).outcomes(after=runs[1].id)
    assert far.operation(str(made.id)[-12:]).cancel().state == "cancelled"
    assert made.wait().state == "cancelled"
    assert far.operations(only_open=True) == []
    named = far.operate("cancel", [str(runs[0].id)[-12:], runs[1].id], reason="enough")
    assert [one.run_id for one in named.outcomes()] == [runs[0].id, runs[1].id]
    for given_client in (far, client):
        with pytest.raises(UsageError, match="every run"):
            given_client.operate("cancel", reason="enough")
        with pytest.raises(UsageError, match="is of a retry"):
            given_client.operate("cancel", reason="enough", flow="hello", force=True)
        with pytest.raises(UsageError, match="named, and asked for"):
            given_client.operate_plan("cancel", [runs[0].id], flow="hello")


def test_a_run_is_removed(far: HttpClient, client: Client) -> None:
    run = far.start(hello, name="you")
    run.cancel()
    run.delete("it was a test")
    with pytest.raises(RunNotFound):
        client.run(run.id)


def test_everything_of_runs_is_exported(far: HttpClient, client: Client) -> None:
    """Also where a text has what others take for the end of a line."""
    run = far.start(hello, name="a\u2028b\x85c\r")
    play.finish_hello(client.ledger, run.id)
    failed = far.start(hello, name="you")
    play.fail(client.ledger, failed.id, "greet")
    records = list(far.all_records(flow=hello))
    assert records == list(client.all_records(flow=hello))
    assert {record["record"] for record in records} == {"run", "step", "attempt", "output", "event"}
    assert list(far.all_records(q="flow:fan")) == []
    with pytest.raises(QueryInvalid):
        list(far.all_records(q="flow:"))


def test_lines_of_logs_are_read(far: HttpClient, client: Client) -> None:
    run = far.start(hello, name="you")
    at = datetime.now(UTC).isoformat()
    batches = [
        NewLines(run.id, "greet", 1, first, json.dumps([[at, "INFO", f"{first}"], [at, "PRINT", "x"]]))
        for first in (1, 3, 5)
    ]
    logs.write(client.ledger, batches)
    known = client.run(run.id)
    assert run.logs() == known.logs()
    assert len(run.logs()) == 6
    assert run.logs("greet", limit=2) == known.logs("greet", limit=2)
    assert run.logs(after=run.logs()[1].place) == known.logs()[2:]
    assert list(run.all_logs()) == known.logs()
    assert run.log_places() == known.log_places()
    assert run.logs("measure") == []


def test_ends_are_waited_for_together(far: HttpClient, client: Client) -> None:
    runs = [far.start(hello, name=str(n)) for n in range(3)]
    assert [run.final_status() for run in runs] == [None, None, None]
    ends = [run.end() for run in runs]
    play.finish_hello(client.ledger, runs[1].id)
    done, waiting = wait(ends, timeout=20, return_when=FIRST_COMPLETED)
    assert [end.result() for end in done] == ["succeeded"]
    assert ends[0].cancel()
    far.close()
    (last,) = waiting - {ends[0]}
    with pytest.raises(UsageError, match="closed"):
        last.result(20)
    with pytest.raises(UsageError, match="closed"):
        runs[0].end()
    with pytest.raises(UsageError, match="closed"):
        runs[0].row()


def test_nobody_else_is_the_author(far: HttpClient) -> None:
    run = far.start(hello, name="you")
    with pytest.raises(UsageError, match="whoever has the API key"):
        run.cancel(by="somebody else")
    assert run.status() == "pending"


def test_headers_are_kept_for_the_flow(far: HttpClient, client: Client) -> None:
    given = {"X-Source": "shop", "Authorization": "Bearer x"}
    far.start(hello, name="you", headers=given)
    far.start_many(hello, [{"name": "me"}], headers=given.items())
    with client.ledger.auto() as tx:
        kept = tx.exec_driver_sql("SELECT trigger_headers FROM flow_runs").scalars().all()
    assert kept == [{"x-source": "shop"}] * 2


def test_inputs_go_in_as_many_requests_as_they_take(far: HttpClient, client: Client) -> None:
    runs = far.start_many(hello, [{"name": str(n) * 400_000} for n in range(5)])
    assert [client.run(run.id).row().body["name"][0] for run in runs] == list("01234")


def test_a_schedule_is_found_as_by_the_client(far: HttpClient, client: Client) -> None:
    register.register(client.ledger, report.manifest)
    (row,) = far.schedules(report)
    for schedule in (far.schedule("report"), far.schedule(f"report/{row.trigger_key}")):
        assert schedule.key == row.trigger_key
    assert schedule.zone() == client.schedule("report").zone()
    schedule.pause()
    assert schedule.events(limit=1) == client.schedule("report").events(limit=1)
    with pytest.raises(FlowNotFound):
        far.schedule("nothing")
    with pytest.raises(ScheduleNotFound):
        far.schedule("hello")


def test_whether_anybody_serves_a_flow_is_told(far: HttpClient) -> None:
    assert far.is_unserved(hello)
    with pytest.raises(FlowNotFound):
        far.is_unserved("nothing")


@step
def issue(name: str) -> Secret[str]:
    return Secret(f"key of {name}")


@flow
def issued(name: str) -> dict[str, Secret[str]]:
    return {"key": issue(name)}


def test_a_result_with_secrets_takes_a_key_that_may_see_them(settings: Settings, client: Client) -> None:
    register.register(client.ledger, issued.manifest)
    run_id = client.start(issued, name="ann").id
    play.succeed(client.ledger, run_id, "issue", "key of ann")
    runs, both = {Scope.RUNS}, {Scope.RUNS, Scope.SECRETS}
    with listening(settings) as url:
        with HttpClient(url, key(client, Role.ADMIN, frozenset(both), frozenset({"issued"}), name="app")) as may:
            assert may.run(run_id, issued).result() == {"key": Secret("key of ann")}
            assert may.run(run_id).output("issue") == "key of ann"
            assert may.run(run_id).shown_result() == {"key": "***"}
        for role, scopes, needed in ((Role.OPERATOR, both, "admin"), (Role.ADMIN, runs, "secrets")):
            with HttpClient(url, key(client, role, frozenset(scopes))) as may_not:
                with pytest.raises(Forbidden, match="Fix: use a key") as refused:
                    may_not.run(run_id, issued).result()
                assert refused.value.needed == needed
                assert may_not.run(run_id).shown_result() == {"key": "***"}
    rows = audit.listed(client.ledger, AuditFilter(actor="key:app"))
    assert [row.action for row in rows] == ["step.reveal", "run.reveal"]


def test_more_are_waited_for_than_may_wait_at_once(
    far: HttpClient, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take turns, so that the last of them is told, too, while the first ones go on."""
    monkeypatch.setattr(waiting, "_OPEN", 2)
    monkeypatch.setattr(waiting, "_TURN_S", 0.2)
    monkeypatch.setattr(waiting, "_LONGEST_S", 1.0)
    with HttpClient(far.transport.url) as few:
        runs = [few.run(run.id) for run in far.start_many(hello, [{"name": str(n)} for n in range(5)])]
        ends = [run.end() for run in runs]
        play.finish_hello(client.ledger, runs[-1].id)
        assert ends[-1].result(30) == "succeeded"
        assert not any(end.done() for end in ends[:-1])


def test_a_client_that_was_used_before_a_fork_works_after_it(far: HttpClient) -> None:
    """In the child and in the parent; they share no connection and no thread."""
    run = far.start(hello, name="you")
    end = run.end()

    def work() -> None:
        assert run.cancel("enough") == "cancelled"
        assert run.wait(30) == "cancelled"
        assert run.rerun().row().source == run.id

    assert in_child(work) == 0
    assert end.result(30) == "cancelled"
    assert len(run.reruns()) == 1


def test_all_steps_of_items_are_read(far: HttpClient, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of an item follow it, whatever the length of a page."""
    register.register(client.ledger, crowd_of.manifest)
    run = far.start("crowd_of", names=[f"n{number}" for number in range(7)])
    monkeypatch.setattr("orchestrator.client.remote.access._MOST", 2)
    keys = [step.key for step in run.all_steps()]
    assert keys == [step.key for step in client.run(run.id).all_steps()]
    assert len(keys) == 1 + 7 * 3
    for unfit in ({"loop": None}, {"loop": "welcomed", "status": "ready"}):
        with pytest.raises(UsageError, match="whole"):
            far.listed(StepRow, f"/runs/{run.id}/steps", {"whole": True, **unfit}, 10)
