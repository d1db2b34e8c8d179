"""`Idempotency-Key`: whoever sends a request again, and does not know whether it was done, has it done once."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from sqlalchemy import Connection
from starlette.testclient import TestClient

from orchestrator import Cron, flow
from orchestrator.client import Client
from orchestrator.core.access import Role
from orchestrator.core.facts import WorkerInfo
from orchestrator.core.happened import Dispatched, Ended, Fact, Operated
from orchestrator.engine import workers
from orchestrator.engine.flows import register
from orchestrator.engine.sweeps import retention
from orchestrator.http.policy import SECRET_ANSWERS
from orchestrator.ledger import requests
from orchestrator.observe.observer import Observer, listen, unlisten
from orchestrator.settings import Settings
from tests.http.access import bearer, key, served
from tests.support import play
from tests.support.eventually import eventually
from tests.support.race import race
from tests.support.small_flows import greet

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text("utf-8"))
OWN = {"webhook_receive"}
"""What publishers send: they have keys of their own."""
ONCE = {"Idempotency-Key": "k"}


@flow(schedules=[Cron("0 3 * * *")])
def regular(name: str = "x") -> str:
    return greet(name)


@pytest.fixture
def stack(stack: Client) -> Client:
    register.register(stack.ledger, regular.manifest)
    return stack


def begun(stack: Client) -> str:
    return str(stack.start("hello", name="you").id)


def failed(stack: Client) -> str:
    run = stack.start("hello", name="you")
    play.fail(stack.ledger, run.id, "greet")
    return str(run.id)


def ended(stack: Client) -> str:
    run = stack.start("hello", name="you")
    play.finish_hello(stack.ledger, run.id)
    return str(run.id)


def operation(stack: Client) -> str:
    return str(stack.operate("cancel", [stack.start("hello", name="you").id], reason="x").id)


def paused(stack: Client) -> str:
    made = stack.operation(operation(stack))
    made.pause()
    return str(made.id)


def backfill(stack: Client) -> str:
    span = ("2026-01-01", "2026-01-04")
    return str(stack.schedule("regular", "cron").backfill(*span).id)


def serving(stack: Client) -> str:
    facts = WorkerInfo("worker-7/1/a", "worker-7", 1, "prefork", 1, 1, ("default",), ("hello.greet",), "1")
    workers.hello(stack.ledger, facts)
    return ""


def nothing(stack: Client) -> str:
    return ""


ACTS: dict[str, tuple[Any, str, Any]] = {
    "run_start_many": (nothing, "/api/flows/hello/trigger/batch", {"inputs": [{"name": "a"}, {"name": "b"}]}),
    "flow_disable": (nothing, "/api/flows/hello/disable", {"reason": "a"}),
    "flow_enable": (nothing, "/api/flows/hello/enable", None),
    "run_cancel": (begun, "/api/runs/{}/cancel", {"reason": "a"}),
    "run_retry": (failed, "/api/runs/{}/retry", None),
    "run_rerun": (ended, "/api/runs/{}/rerun", {"input": {"name": "b"}}),
    "step_retry": (failed, "/api/runs/{}/steps/greet/retry", {"fresh": False}),
    "step_skip": (begun, "/api/runs/{}/steps/greet/skip", {"reason": "a"}),
    "step_mark": (begun, "/api/runs/{}/steps/greet/mark", {"output": "hi", "reason": "a"}),
    "operation_pause": (operation, "/api/operations/{}/pause", None),
    "operation_resume": (paused, "/api/operations/{}/resume", None),
    "operation_cancel": (operation, "/api/operations/{}/cancel", None),
    "schedule_pause": (nothing, "/api/schedules/regular/cron/pause", {"reason": "a"}),
    "schedule_resume": (nothing, "/api/schedules/regular/cron/resume", None),
    "schedule_trigger": (nothing, "/api/schedules/regular/cron/trigger", None),
    "schedule_backfill": (
        nothing,
        "/api/schedules/regular/cron/backfill",
        {"since": "2026-01-01", "until": "2026-01-03"},
    ),
    "schedule_backfill_cancel": (backfill, "/api/schedules/regular/cron/backfill/{}/cancel", None),
    "evidence_record": (nothing, "/api/evidence", {"kind": "drill", "ok": True, "facts": {"rpo": "4s"}}),
    "key_revoke": (lambda stack: key(stack, name="gone") and "", "/api/keys/gone/revoke", {"reason": "a"}),
    "worker_drain": (serving, "/api/workers/drain", {"target": "worker-7"}),
    "user_create": (nothing, "/api/users", {"name": "ada", "password": "a long password"}),
}
ELSEWHERE = {"run_start", "operation_create", "run_signal", "approval_answer"}
"""Their keys are the engine's, and have tests of their own: run starts, operations, signals."""
TRIED_ELSEWHERE = {"webhook_replay", "user_passwd", "user_role", "user_disable", "user_enable"}


def posts() -> dict[str, dict[str, Any]]:
    return {one["post"]["operationId"]: one["post"] for one in DOCUMENT["paths"].values() if "post" in one}


def test_every_request_that_does_something_takes_a_key_unless_it_answers_with_a_secret() -> None:
    takes = {
        name
        for name, one in posts().items()
        if any(each["name"] == "Idempotency-Key" and each["in"] == "header" for each in one.get("parameters", ()))
    }
    assert set(posts()) - takes == SECRET_ANSWERS | OWN
    assert takes >= set(ACTS) | ELSEWHERE | TRIED_ELSEWHERE


TABLES = """flow_runs flow_events flow_steps flow_operations flow_operation_runs flow_definitions flow_schedule_states
    flow_schedule_backfills flow_users flow_audit flow_evidence"""


def state(stack: Client) -> dict[str, Any]:
    """All that requests change, but the keys themselves."""
    with stack.ledger.auto() as tx:
        return {
            table: tx.exec_driver_sql(f"SELECT string_agg(t::text, ';' ORDER BY t::text) FROM {table} t").scalar_one()
            for table in TABLES.split()
        }


@pytest.mark.parametrize("name", ACTS)
def test_a_request_is_done_once_and_answered_twice(api: TestClient, stack: Client, name: str) -> None:
    prepare, path, body = ACTS[name]
    place = path.format(prepare(stack))
    first = api.post(place, json=body, headers=ONCE)
    assert (first.is_success, replayed(first)) == (True, False), first.text
    done = state(stack)
    again = api.post(place, json=body, headers={"Idempotency-Key": '"k"'})
    assert (again.status_code, replayed(again)) == (200, True), again.text
    assert (again.content, again.headers.get("Location")) == (first.content, first.headers.get("Location"))
    assert state(stack) == done


def replayed(answer: Response) -> bool:
    return answer.headers.get("Idempotency-Replayed") == "true"


@pytest.mark.parametrize("other", ["body", "path"])
def test_a_key_with_another_request_is_refused(api: TestClient, stack: Client, other: str) -> None:
    run, foreign = begun(stack), begun(stack)
    assert api.post(f"/api/runs/{run}/cancel", json={"reason": "a"}, headers=ONCE).status_code == 202
    path, body = f"/api/runs/{foreign if other == 'path' else run}/cancel", {"reason": "b" if other == "body" else "a"}
    refused = api.post(path, json=body, headers=ONCE)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_conflict")
    assert api.get(f"/api/runs/{foreign}").json()["status"] == "pending"


def test_the_order_of_names_and_spaces_do_not_make_another_request(api: TestClient, stack: Client) -> None:
    place = f"/api/runs/{begun(stack)}/steps/greet/mark"
    assert api.post(place, content=b'{"output": 1, "reason": "a"}', headers=ONCE).status_code == 202
    again = api.post(place, content=b'{ "reason":"a",\n"output":1}', headers=ONCE)
    assert (again.status_code, replayed(again)) == (200, True)


def test_a_key_is_of_one_caller_and_one_route(settings: Settings, stack: Client) -> None:
    run = failed(stack)
    with served(settings) as door:
        ada, bob = bearer(key(stack, Role.OPERATOR, name="ada")), bearer(key(stack, Role.OPERATOR, name="bob"))
        assert door.post(f"/api/runs/{run}/retry", headers=ONCE | ada).status_code == 202
        assert door.post(f"/api/runs/{run}/cancel", headers=ONCE | ada).status_code == 202
        assert not replayed(door.post(f"/api/runs/{run}/cancel", headers=ONCE | bob))
        assert replayed(door.post(f"/api/runs/{run}/cancel", headers=ONCE | ada))
        assert door.post(f"/api/runs/{run}/cancel", headers=ONCE).status_code == 401


def test_a_key_that_was_rotated_is_the_same_caller(settings: Settings, stack: Client) -> None:
    with served(settings) as door:
        first, root = bearer(key(stack, Role.OPERATOR, name="ada")), bearer(key(stack, name="root"))
        place = f"/api/runs/{begun(stack)}/cancel"
        door.post(place, headers=ONCE | first)
        second = bearer(door.post("/api/keys/ada/rotate", headers=root).json()["key"])
        assert replayed(door.post(place, headers=ONCE | second))


@pytest.mark.parametrize("name", ["run_cancel", "schedule_trigger", "run_start_many", "run_rerun"])
def test_of_two_at_once_the_second_waits_and_gets_the_first_answer(api: TestClient, stack: Client, name: str) -> None:
    prepare, path, body = ACTS[name]
    place = path.format(prepare(stack))
    before = stack.count_runs()
    answers = race(*[lambda: api.post(place, json=body, headers=ONCE)] * 6)
    assert sorted(map(replayed, answers)) == [False, *[True] * 5], [one.text for one in answers]
    assert len({one.content for one in answers}) == 1
    assert stack.count_runs() - before == {"run_cancel": 0, "run_start_many": 2}.get(name, 1)


@contextmanager
def lost_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The connection is gone when all is done and nothing is committed."""

    def end(tx: Connection, *_: object) -> None:
        tx.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    with monkeypatch.context() as patch:
        patch.setattr(requests, "keep", end)
        yield


@pytest.mark.parametrize("name", ACTS)
def test_what_is_lost_before_the_commit_is_not_done_and_may_be_sent_again(
    api: TestClient, stack: Client, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    prepare, path, body = ACTS[name]
    place = path.format(prepare(stack))
    before = state(stack)
    told: list[Fact] = []
    with lost_before_the_commit(monkeypatch), heard(told):
        lost = api.post(place, json=body, headers=ONCE)
    assert (lost.status_code, lost.json()["code"]) == (503, "unavailable")
    assert state(stack) == before
    assert [one for one in told if not isinstance(one, Dispatched)] == []  # starts before are sent meanwhile
    again = api.post(place, json=body, headers=ONCE)
    assert (again.is_success, replayed(again)) == (True, False)


@contextmanager
def heard(told: list[Fact]) -> Iterator[None]:
    class Ear:
        def __getattr__(self, name: str) -> Any:
            return told.append

    ear: Observer = Ear()
    listen(ear)
    try:
        yield
    finally:
        unlisten(ear)


def test_observers_hear_of_it_once_it_is_committed(api: TestClient, stack: Client) -> None:
    told: list[Fact] = []
    place = f"/api/runs/{begun(stack)}/cancel"
    with heard(told):
        api.post(place, headers=ONCE)
        api.post(place, headers=ONCE)
    assert [type(one) for one in told if not isinstance(one, Dispatched)] == [Ended, Operated]


def test_what_was_refused_leaves_the_key_and_what_says_so(api: TestClient, stack: Client) -> None:
    """The event of a refused start is written, as it is without a key."""
    api.post("/api/flows/hello/disable")
    _, place, body = ACTS["run_start_many"]
    refused = api.post(place, json=body, headers=ONCE)
    assert (refused.status_code, refused.json()["code"]) == (409, "flow_disabled")
    assert api.get("/api/flows/hello/events").json()["items"][-1]["type"] == "trigger.rejected_disabled"
    api.post("/api/flows/hello/enable")
    assert api.post(place, json=body, headers=ONCE).status_code == 201


def test_a_body_that_does_not_fit_leaves_the_key(api: TestClient, stack: Client) -> None:
    place = f"/api/runs/{begun(stack)}/steps/greet/skip"
    assert api.post(place, json={}, headers=ONCE).status_code == 422
    assert api.post(place, json={"reason": "a"}, headers=ONCE).status_code == 202


def test_first_steps_are_sent_after_the_commit(api: TestClient, stack: Client) -> None:
    told: list[Fact] = []
    with heard(told):
        api.post("/api/flows/hello/trigger/batch", json={"inputs": [{"name": "a"}]}, headers=ONCE)
        eventually(lambda: [one for one in told if isinstance(one, Dispatched)])


def test_a_key_is_good_for_a_day(api: TestClient, stack: Client) -> None:
    place = f"/api/runs/{ended(stack)}/rerun"
    first = api.post(place, headers=ONCE).json()["id"]
    with stack.ledger.auto() as tx:
        tx.exec_driver_sql("UPDATE flow_request_keys SET expires_at = expires_at - interval '24 hours'")
    second = api.post(place, headers=ONCE)
    assert (second.status_code, replayed(second)) == (201, False)
    assert second.json()["id"] != first
    assert replayed(api.post(place, headers=ONCE))


def test_keys_that_expired_are_forgotten(api: TestClient, stack: Client) -> None:
    place = f"/api/runs/{ended(stack)}/rerun"
    for name in ("a", "b", "c"):
        api.post(place, headers={"Idempotency-Key": name})
    assert retention.keys(stack.ledger) == 0
    with stack.ledger.auto() as tx:
        tx.exec_driver_sql("UPDATE flow_request_keys SET expires_at = now() - interval '1 second' WHERE key <> 'c'")
    assert [retention.keys(stack.ledger, page=1) for _ in range(3)] == [1, 1, 0]
    assert replayed(api.post(place, headers={"Idempotency-Key": "c"}))


def test_a_password_cannot_be_found_by_trying(api: TestClient, stack: Client) -> None:
    """What is kept of such a request is salted, and costs some tens of milliseconds a try."""
    asked = {"name": "ada", "password": "a long password", "role": "viewer"}
    assert api.post("/api/users", json=asked, headers=ONCE).status_code == 201
    assert replayed(api.post("/api/users", json=asked, headers=ONCE))
    other = api.post("/api/users", json={**asked, "password": "another password"}, headers=ONCE)
    assert other.json()["code"] == "idempotency_conflict"
    with stack.ledger.auto() as tx:
        row = tx.exec_driver_sql("SELECT digest, answer FROM flow_request_keys").one()
    plain = json.dumps(["/api/users", [], asked], sort_keys=True).encode()
    assert len(row.digest) == 64
    assert row.digest != hashlib.sha512(plain).digest()
    assert "password" in row.answer  # that there is one
    assert "a long password" not in row.answer


def test_changes_of_users_take_keys(api: TestClient, stack: Client) -> None:
    api.post("/api/users", json={"name": "ada", "password": "a long password"})
    for act, body in (("disable", None), ("enable", None), ("password", {"password": "another password"})):
        place = f"/api/users/ada/{act}"
        first = api.post(place, json=body, headers=ONCE)
        again = api.post(place, json=body, headers=ONCE)
        assert (first.status_code, again.status_code, replayed(again)) == (204, 204, True)
    role = [api.post("/api/users/ada/role", json={"role": "operator"}, headers=ONCE) for _ in range(2)]
    assert [replayed(one) for one in role] == [False, True]
    with stack.ledger.auto() as tx:
        rows = tx.exec_driver_sql("SELECT action FROM flow_audit ORDER BY id").scalars().all()
    assert rows == ["user.create", "user.disable", "user.enable", "user.password", "user.role"]


@pytest.mark.parametrize("text", ["", "a" * 256, "a\tb", '""'])
def test_a_key_that_is_none_is_refused(api: TestClient, stack: Client, text: str) -> None:
    answer = api.post(f"/api/runs/{begun(stack)}/cancel", headers={"Idempotency-Key": text})
    assert answer.status_code == 400
