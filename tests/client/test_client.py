"""What a program sees of its runs."""

import os
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from pydantic import SecretStr

from orchestrator import flow, step
from orchestrator.client import Client
from orchestrator.core.states import RunStatus
from orchestrator.engine.flows import register
from orchestrator.errors import (
    Conflict,
    FlowNotFound,
    IdempotencyConflict,
    InputInvalid,
    OrchestratorError,
    OutputInvalid,
    RunCancelled,
    RunFailed,
    RunNotFound,
    SchemaBehind,
    SettingsInvalid,
    StepNotFound,
    Unavailable,
    UsageError,
    WaitTimeout,
)
from orchestrator.ledger import reads
from orchestrator.servers.embedded.discovery import DevState
from orchestrator.servers.embedded.process import Identity
from orchestrator.servers.here import settings_here
from orchestrator.settings import Settings
from tests.support import play
from tests.support.eventually import eventually
from tests.support.race import race
from tests.support.row_counts import Counted
from tests.support.small_flows import Greeting, fan, hello


def test_the_result_has_the_type_of_the_flow_object(client: Client) -> None:
    run = client.start(hello, name="you")
    play.finish_hello(client.ledger, run.id)
    assert run.result(timeout=60) == Greeting("hello you", 9)


def test_the_result_is_json_when_only_the_name_is_known(client: Client) -> None:
    run = client.start(hello, {"name": "you"})
    play.finish_hello(client.ledger, run.id)
    assert client.run(run.id).result(timeout=60) == {"text": "hello you", "length": 9}
    assert client.run(run.id, hello).result(timeout=60) == Greeting("hello you", 9)


def test_a_flow_object_is_registered_by_its_first_start(client: Client) -> None:
    with pytest.raises(FlowNotFound):
        client.start("hello", name="you")
    client.start(hello, name="you")
    assert client.start("hello", name="you").row().flow == "hello"


def test_a_step_that_is_done_by_hand_is_checked_like_a_result(client: Client) -> None:
    """By the flow of the handle, if it has one. An operator's word is taken as it is."""
    run = client.start(hello, name="you")
    run.skip("greet", "not needed")
    with pytest.raises(OutputInvalid, match="length"):
        run.mark("measure", {"text": "x"}, "by hand")
    run = client.start(hello, name="you")
    run.mark("greet", "hello", "by hand", by="ann")
    run.mark("measure", Greeting("x", 1), "by hand")
    assert run.result(timeout=60) == Greeting("x", 1)
    run = client.start("hello", name="you")
    run.mark("greet", {"anything": 1}, "by hand")
    assert run.output("greet") == {"anything": 1}
    with pytest.raises(Conflict, match="it is succeeded"):
        run.skip("greet", "too late")


def test_defaults_are_filled_in_when_started_by_name(client: Client) -> None:
    """A step would find null otherwise."""
    register.register(client.ledger, hello.manifest)
    assert client.start("hello", name="you").row().body == {"name": "you", "times": 1}
    assert client.start(hello, name="you").row().body == {"name": "you", "times": 1}


def test_the_same_key_gives_the_same_run(client: Client) -> None:
    first = client.start(hello, name="you", idempotency_key="order 1")
    again = client.start("hello", {"name": "you"}, idempotency_key="order 1")
    assert (again.id, first.created, again.created) == (first.id, True, False)
    with pytest.raises(IdempotencyConflict):
        client.start(hello, name="somebody", idempotency_key="order 1")


def test_a_run_may_begin_later(client: Client) -> None:
    """A length counts from its acceptance, by the ledger's clock; a time has its zone."""
    at = datetime(2100, 1, 1, tzinfo=UTC)
    first = client.start(hello, name="you", start_after="10m")
    second, third = client.start_many(hello, [{"name": "you"}] * 2, start_after=at)
    row = first.row()
    assert (row.status, second.row().start_at, third.row().start_at) == ("pending", at, at)
    assert row.start_at is not None
    assert timedelta(minutes=9) < row.start_at - row.created_at < timedelta(minutes=11)
    assert {step.status for step in first.steps()} == {"blocked"}
    assert first.cancel("not needed") == "cancelled"
    assert client.start(hello, name="you", start_after=0).row().start_at is None


@pytest.mark.parametrize(
    ("start_after", "said"),
    [
        ("soon", "start_after='soon': 'soon' is not a length of time"),
        (datetime.fromisoformat("9999-12-31T23:59:59-10:00"), "is beyond the year 9999"),
        (datetime.fromisoformat("2100-01-01"), "has no zone"),
        ("4000d", "longer than ten years"),
        (timedelta(seconds=-1), "is not a length of time"),
    ],
)
def test_what_is_no_time_starts_nothing(client: Client, start_after: Any, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        client.start(hello, name="you", start_after=start_after)
    assert client.runs() == []


class Mail(dict[str, str]):
    """Headers of some framework."""


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        (None, None),
        ({}, {}),
        ({"X-Request-Id": "r1", "Authorization": "Bearer x", "X-Api-Key": "k", "Cookie": "c"}, {"x-request-id": "r1"}),
        ([("Via", "a"), ("X-Signature", "s"), ("via", "b")], {"via": "a, b"}),
        (Mail(Via="a", Large="x" * 9000), {"via": "a"}),
        ({f"x-{n}": "v" for n in range(70)}, {f"x-{n}": "v" for n in range(64)}),
        ({"via": "\x00"}, {}),
    ],
)
def test_headers_come_with_a_start(client: Client, headers: Any, kept: Any) -> None:
    """Those that prove who sent the request never reach the ledger."""
    runs = [client.start(hello, name="you", headers=headers)]
    runs += client.start_many(hello, [{"name": "you"}] * 2, headers=headers)
    with client.ledger.auto() as tx:
        found = tx.exec_driver_sql("SELECT id, trigger_headers FROM flow_runs").all()
    assert dict(map(tuple, found)) == {run.id: kept for run in runs}


@pytest.mark.parametrize("headers", ["via: a", b"via", 7, {"via": 7}, {7: "via"}, [("a", "b", "c")], ["ab"], [None]])
def test_what_is_no_header_starts_nothing(client: Client, headers: Any) -> None:
    with pytest.raises(UsageError, match="Fix: give a mapping of names to texts"):
        client.start(hello, name="you", headers=headers)
    assert client.runs() == []


def test_many_runs_start_in_the_order_of_their_inputs(client: Client) -> None:
    runs = client.start_many(hello, [{"name": str(n)} for n in range(1203)], tags=["many"])
    assert len({run.id for run in runs}) == 1203
    assert [runs[n].row().body for n in (0, 600, 1202)] == [{"name": str(n), "times": 1} for n in (0, 600, 1202)]
    assert len(client.runs(tag="many", limit=2000)) == 1203


def test_a_message_is_published_at_once(client: Client, broker_url: str, settings: Settings) -> None:
    client.start(hello, name="you")
    with redis.Redis.from_url(broker_url) as broker:

        def waiting() -> int:
            return sum(broker.llen(key) for key in broker.keys(f"{settings.key_prefix}default*"))

        eventually(lambda: waiting() == 1)  # by a thread of the client


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (lambda client: client.start(hello), InputInvalid),
        (lambda client: client.start(hello, name=1.5), InputInvalid),
        (lambda client: client.start(hello, name="you", tims=1), InputInvalid),
        (lambda client: client.start(hello, ["name"]), UsageError),
        (lambda client: client.start("hello", name="you", tims=1), InputInvalid),
        (lambda client: client.start("hello", name="nul \0"), UsageError),
        (lambda client: client.start("hello", name=float("nan")), UsageError),
        (lambda client: client.start("helo", name="you"), FlowNotFound),
        (lambda client: client.start(hello, name="you", tags="one"), UsageError),
        (lambda client: client.start(hello, name="you", idempotency_key=""), UsageError),
        (lambda client: client.start_many(hello, [{"name": "you"}, {"name": 1}]), InputInvalid),
        (lambda client: client.start_many("hello", [{"name": "you"}, {"name": 1}]), InputInvalid),
        (lambda client: client.start_many(hello, [{"name": "you"}], idempotency_keys=[]), UsageError),
        (lambda client: client.runs(status="done"), UsageError),
        (lambda client: client.runs(limit=0), UsageError),
        (lambda client: client.run("zz"), RunNotFound),
        (lambda client: client.run(uuid4()), RunNotFound),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(
    client: Client,
    counted: Counted,
    given: Callable[[Client], object],
    error: type[OrchestratorError],
) -> None:
    register.register(client.ledger, hello.manifest)
    before = counted()
    with pytest.raises(error):
        given(client)
    assert counted() == before


def test_a_wait_ends_when_the_run_does(client: Client) -> None:
    run = client.start(hello, name="you")
    worker = threading.Timer(0.3, play.finish_hello, [client.ledger, run.id])
    worker.start()
    assert run.wait(timeout=60) is RunStatus.SUCCEEDED
    worker.join()


def test_a_wait_that_is_over_says_how_to_go_on(client: Client) -> None:
    run = client.start(hello, name="you")
    began = time.monotonic()
    with pytest.raises(WaitTimeout, match=r"still pending after 0.2 s.*run explain"):
        run.wait(timeout=0.2)
    assert time.monotonic() - began >= 0.2


def test_a_failed_run_names_the_step_its_error_and_the_command(client: Client) -> None:
    run = client.start(hello, name="you")
    play.fail(client.ledger, run.id, "greet", "no greeting today")
    with pytest.raises(RunFailed, match=rf"greet: ValueError: no greeting today.*run retry {run.id}") as caught:
        run.result(timeout=60)
    assert (caught.value.step, caught.value.flow) == ("greet", "hello")


def test_a_failed_step_runs_again_on_request(client: Client) -> None:
    run = client.start(hello, name="you")
    play.fail(client.ledger, run.id, "greet")
    with pytest.raises(StepNotFound):
        run.retry("gret")
    run.retry("greet", by="me")
    play.succeed(client.ledger, run.id, "greet", "hello you", number=2)
    play.succeed(client.ledger, run.id, "measure", {"text": "hello you", "length": 9})
    assert run.result(timeout=60) == Greeting("hello you", 9)
    assert any(event.type == "run.retried" for event in run.events())


def test_a_cancelled_run_says_who_and_why(client: Client) -> None:
    run = client.start(hello, name="you")
    assert run.cancel("not needed", by="me") is RunStatus.CANCELLED
    assert run.cancel("again") is RunStatus.CANCELLED
    with pytest.raises(RunCancelled, match="by me: not needed"):
        run.result(timeout=60)


def test_a_run_that_ended_cannot_be_cancelled_or_retried(client: Client) -> None:
    run = client.start(hello, name="you")
    play.finish_hello(client.ledger, run.id)
    with pytest.raises(Conflict):
        run.cancel("too late")
    with pytest.raises(Conflict):
        run.retry()


def test_runs_are_found_by_flow_status_and_tag(client: Client) -> None:
    one = client.start(hello, name="you", tags=["a"])
    client.start(fan, count=3)
    assert [row.id for row in client.runs(flow=hello)] == [one.id]
    assert [row.id for row in client.runs(tag="a")] == [one.id]
    assert [row.flow for row in client.runs(status="pending")] == ["fan", "hello"]
    assert one.row().tags == ("small", "a")


def test_a_run_is_found_by_either_end_of_its_id(client: Client) -> None:
    run = client.start(hello, name="you")
    assert client.run(str(run.id)[:6]).id == client.run(str(run.id)[-6:]).id == run.id


def test_steps_and_explanations_come_with_the_handle(client: Client) -> None:
    run = client.start(hello, name="you")
    assert [(step.key, str(step.status)) for step in run.steps()] == [("greet", "ready"), ("measure", "blocked")]
    assert "greet" in run.explain("measure").sentence
    assert "no worker is live" in run.explain().sentence


def test_one_step_can_be_looked_into(client: Client) -> None:
    """Its attempts, their errors, what it returned: nobody needs SQL for that."""
    run = client.start(hello, name="you")
    play.succeed(client.ledger, run.id, "greet", "hello you")
    play.fail(client.ledger, run.id, "measure", "no ruler")
    assert (run.step("greet").status, run.output("greet")) == ("succeeded", "hello you")
    (attempt,) = run.attempts("measure")
    assert (attempt.attempt, attempt.owner, attempt.error_message) == (1, "test/1/a", "no ruler")
    assert run.attempts("measure", before=1) == []
    assert run.step("measure").worked is not None
    with pytest.raises(StepNotFound, match="is failed and has no output"):
        run.output("measure")
    with pytest.raises(StepNotFound, match="did you mean `measure`"):
        run.step("mesure")
    with pytest.raises(StepNotFound):
        run.attempts("nope")


def test_all_steps_and_events_are_read_page_by_page(client: Client) -> None:
    run = client.start(fan, count=1200)
    play.succeed(client.ledger, run.id, "numbers", list(range(1200)))
    keys = [step.key for step in run.all_steps()]
    assert keys[:3] == ["numbers", "double", "double.0.double"]
    assert len(keys) == 1202
    assert list(run.all_events()) == [*(first := run.events(limit=2)), *run.events(after=first[-1].id)]


def test_starting_works_while_the_broker_is_down(client: Client, settings: Settings) -> None:
    """The ledger holds the run; a keeper publishes later."""
    down = settings.model_copy(update={"broker_url": SecretStr("redis://127.0.0.1:1/0")})
    with Client(down) as cut_off:
        run = cut_off.start(hello, name="you")
    assert client.run(run.id).status() is RunStatus.PENDING


def test_a_dead_connection_is_replaced(client: Client) -> None:
    run = client.start(hello, name="you")
    with client.ledger.tx() as tx:
        tx.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert run.status() is RunStatus.PENDING


def test_a_database_that_is_away_or_empty_is_named(settings: Settings, empty_db_url: str) -> None:
    away = settings.model_copy(update={"database_url": SecretStr("postgresql+psycopg://me:secret@127.0.0.1:1/none")})
    with (
        Client(away) as cut_off,
        pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/none cannot be reached.*Fix") as told,
    ):
        cut_off.runs()
    assert "secret" not in str(told.value)
    empty = Settings(database_url=SecretStr(empty_db_url), broker_url=settings.broker_url)
    with Client(empty) as early, pytest.raises(SchemaBehind, match="db upgrade"):
        early.runs()


def test_threads_do_not_keep_connections(client: Client) -> None:
    run = client.start(hello, name="you")
    together = threading.Barrier(40)
    seen: list[RunStatus] = []

    def look() -> None:
        seen.append(run.status())
        together.wait(60)  # every thread is alive at once, and has looked

    threads = [threading.Thread(target=look) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [RunStatus.PENDING] * 40


def test_a_client_needs_a_database_url(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="ORCHESTRATOR_DATABASE_URL is not set"):
        Client(settings_here({}, tmp_path))


def test_the_servers_of_a_running_dev_are_found(tmp_path: Path) -> None:
    mine = Identity.of(os.getpid())
    assert mine is not None
    folder = tmp_path / ".orchestrator"
    folder.mkdir()
    urls = ("postgresql://a:b@127.0.0.1:1/c", "redis://127.0.0.1:2/0")
    DevState(mine.pid, mine.started, "t", str(folder), *urls, ready=True).write()
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)
    assert settings_here({}, below).require_broker_url() == urls[1]
    own = {"ORCHESTRATOR_DATABASE_URL": "postgresql://own:x@127.0.0.1:3/own"}
    found = settings_here(own, below)  # never half of one and half of the other
    assert "own" in found.require_database_url()
    assert found.broker_url is None


@step
def take(number: str) -> str:
    return number


@step
def pack(number: str) -> str:
    return number


@flow(name="shop")
def deployed(number: str) -> str:
    return take(number)


@flow(name="shop")
def branch(number: str) -> str:
    return pack(take(number))


def test_a_flow_object_runs_its_own_version_and_replaces_none(client: Client) -> None:
    """A web app that is deployed first, or a script on a laptop, changes nothing for others."""
    register.register(client.ledger, deployed.manifest)
    own = client.start(branch, number="1")
    assert [step.key for step in own.steps()] == ["take", "pack"]
    assert [step.key for step in client.start("shop", number="2").steps()] == ["take"]
    assert reads.flows.get(client.ledger, "shop").manifest_hash == deployed.manifest.hash
    assert client.flow_events("shop") == []
    register.register(client.ledger, branch.manifest)
    assert [step.key for step in client.start(deployed, number="3").steps()] == ["take"]
    assert [step.key for step in client.start("shop", number="4").steps()] == ["take", "pack"]


def test_two_clients_that_start_a_new_flow_at_once_keep_both_versions(client: Client, settings: Settings) -> None:
    with Client(settings) as other:
        runs = race(lambda: client.start(deployed, number="1"), lambda: other.start(branch, number="2"))
        assert [len(run.steps()) for run in runs] == [1, 2]
    assert [row.flow for row in client.runs()] == ["shop", "shop"]


def test_the_same_request_with_a_flow_object_is_the_same_after_a_deploy(client: Client) -> None:
    """The object of the new code has a default more; the caller gives what it gave before."""

    @flow(name="ordering")
    def before(number: str) -> str:
        return take(number)

    @flow(name="ordering")
    def after(number: str, region: str = "eu") -> str:
        return take(number)

    first = client.start(before, number="17", idempotency_key="order-17")
    again = client.start(after, number="17", idempotency_key="order-17")
    assert (again.id, again.created) == (first.id, False)
    with pytest.raises(IdempotencyConflict):
        client.start(after, number="17", region="us", idempotency_key="order-17")
    assert client.start(after, number="18").row().body == {"number": "18", "region": "eu"}
