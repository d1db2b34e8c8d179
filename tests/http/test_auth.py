"""Who asks: keys, sessions, and what browsers send by themselves."""

import logging
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from starlette.testclient import TestClient

from orchestrator import Flow, approval, flow, step
from orchestrator.client import Client
from orchestrator.core.access import Role, Scope
from orchestrator.core.sign_in import Identity
from orchestrator.engine.access import audit, keys, sessions, sign_ins, users
from orchestrator.engine.flows import register
from orchestrator.errors import SettingsInvalid
from orchestrator.http.app import create_app
from orchestrator.http.auth import Asked, may_start
from orchestrator.http.caller import Caller
from orchestrator.settings import Settings
from tests.http.access import ROOT, bearer, key, served
from tests.support.eventually import eventually

PASSWORD = "four plain words here"
SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def door(settings: Settings, stack: Client) -> Iterator[TestClient]:
    with served(settings) as made:
        yield made


def signed_in(door: TestClient, stack: Client, name: str = "ann", role: Role = Role.OPERATOR) -> Any:
    if name not in [row.name for row in users.listed(stack.ledger)]:
        users.create(stack.ledger, name, role, PASSWORD, ROOT)
    return door.post("/api/session", json={"name": name, "password": PASSWORD})


# ---- keys ----


def test_what_a_key_does_is_done_in_its_name(door: TestClient, stack: Client) -> None:
    headers = bearer(key(stack, Role.OPERATOR, name="ci"))
    assert door.get("/api/whoami", headers=headers).json() == {
        "name": "key:ci",
        "role": "operator",
        "scopes": [],
        "flows": [],
        "groups": [],
    }
    assert door.post("/api/flows/hello/disable", headers=headers, json={"reason": "no"}).status_code == 200
    (event,) = [one for one in stack.flow_events("hello") if one.type == "flow.disabled"]
    assert "key:ci" in str(event.facts)


def test_a_revoked_key_is_refused_by_every_replica_within_five_seconds(settings: Settings, stack: Client) -> None:
    """One of them revokes; the other has just believed the key."""
    headers, admin = bearer(key(stack, name="old")), bearer(key(stack, name="admin"))
    with served(settings) as one, served(settings) as other:
        assert [door.get("/api/flows", headers=headers).status_code for door in (one, other)] == [200, 200]
        assert one.post("/api/keys/old/revoke", headers=admin).status_code == 200
        revoked = time.monotonic()
        eventually(lambda: all(door.get("/api/flows", headers=headers).status_code == 401 for door in (one, other)))
        assert time.monotonic() - revoked <= 5


def test_a_new_key_works_at_once(door: TestClient, stack: Client) -> None:
    """What was refused is not remembered."""
    admin = bearer(key(stack))
    made = door.post("/api/keys", headers=admin, json={"name": "ci", "role": "viewer"})
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    assert door.get("/api/flows", headers=bearer(made.json()["key"])).status_code == 200
    assert "digest" not in made.text + door.get("/api/keys", headers=admin).text


def test_keys_are_rotated_and_revoked_over_http(door: TestClient, stack: Client) -> None:
    admin = bearer(key(stack, name="admin"))
    given = {"name": "ci", "scopes": ["runs"], "flows": ["hello"], "expires": "90d"}
    first = door.post("/api/keys", headers=admin, json=given).json()
    second = door.post("/api/keys/ci/rotate", headers=admin, json={"overlap": "1h"}).json()
    listed = {one["id"]: one for one in door.get("/api/keys", headers=admin).json()["items"]}
    assert listed[first["shown"]["id"]]["state"] == "replaced"
    assert listed[second["shown"]["id"]]["scopes"] == ["runs"]
    assert len(door.post("/api/keys/ci/revoke", headers=admin, json={"reason": "leak"}).json()["items"]) == 2
    assert door.post("/api/keys/ci/revoke", headers=admin).json()["code"] == "key_not_found"
    newest = door.get("/api/audit?limit=1", headers=admin).json()
    assert (newest["items"][0]["reason"], newest["items"][0]["address"]) == ("leak", "192.0.2.7")
    assert newest["items"][0]["request_id"]
    older = door.get(f"/api/audit?limit=1&cursor={newest['next']}", headers=admin).json()
    assert older["items"][0]["id"] < newest["items"][0]["id"]


@pytest.mark.parametrize("body", [{}, {"name": "<b>"}, {"name": "a", "role": "root"}, {"name": "a", "scopes": ["x"]}])
def test_a_malformed_key_is_not_made(door: TestClient, stack: Client, body: dict[str, Any]) -> None:
    answer = door.post("/api/keys", headers=bearer(key(stack)), json=body)
    assert answer.status_code in (400, 422)
    assert len(keys.listed(stack.ledger, ended=True)) == 1


def test_use_is_noted_behind_the_request(door: TestClient, stack: Client) -> None:
    door.get("/api/flows", headers=bearer(key(stack)))
    eventually(lambda: keys.listed(stack.ledger)[0].last_used_at)


def test_a_key_that_is_believed_costs_no_statement(door: TestClient, stack: Client, monkeypatch: Any) -> None:
    headers = bearer(key(stack))
    assert door.get("/api/flows", headers=headers).status_code == 200
    monkeypatch.setattr(keys, "authenticate", None)
    assert door.get("/api/flows", headers=headers).status_code == 200


def test_no_log_has_a_key(door: TestClient, stack: Client, caplog: pytest.LogCaptureFixture) -> None:
    text = key(stack, name="ci")
    with caplog.at_level(logging.DEBUG):
        door.get("/api/flows", headers=bearer(text))
        door.get(f"/api/flows?key={text}", headers=bearer(text[:-1]))
        signed_in(door, stack)
    said = "\n".join(str(vars(record)) for record in caplog.records if record.name.startswith("orchestrator"))
    assert "'caller': 'key:ci'" in said
    assert f"'key_id': '{text.split('_')[1]}'" in said
    for secret in (text.split("_")[2], PASSWORD):
        assert secret not in said


def test_two_keys_in_one_request_are_none(door: TestClient, stack: Client) -> None:
    good = f"Bearer {key(stack)}"
    for headers in ([("Authorization", good), ("Authorization", good)], [("Authorization", f"{good}, {good}")]):
        assert door.get("/api/flows", headers=headers).status_code == 401


def test_a_wrong_key_beside_a_session_is_refused(door: TestClient, stack: Client) -> None:
    """Whoever sends a key means it."""
    signed_in(door, stack)
    assert door.get("/api/flows").status_code == 200
    assert door.get("/api/flows", headers=bearer("x")).status_code == 401


def test_a_limited_key_sees_its_flows_only(door: TestClient, stack: Client) -> None:
    own, other = stack.start("hello", name="x").id, stack.start("fan", count=1).id
    headers = bearer(key(stack, Role.OPERATOR, flows=frozenset({"hello"})))
    assert door.get(f"/api/runs/{own}", headers=headers).status_code == 200
    foreign, unknown = (door.get(f"/api/runs/{one}", headers=headers) for one in (other, "0" * 32))
    assert (foreign.status_code, unknown.status_code) == (404, 404)
    assert foreign.json()["code"] == unknown.json()["code"] == "run_not_found"
    assert door.get("/api/runs", headers=headers).status_code == 403
    assert [one["flow"] for one in door.get("/api/runs?flow=hello", headers=headers).json()["items"]] == ["hello"]
    assert door.get("/api/runs?flow=fan", headers=headers).status_code == 404
    assert door.get("/api/runs?flow=fan&flow=hello", headers=headers).status_code == 404
    assert door.post("/api/flows/hello/trigger", headers=headers, json={"name": "x"}).status_code == 201
    assert door.post("/api/flows/fan/trigger", headers=headers, json={"count": 1}).status_code == 404


# ---- sessions ----


def test_who_signs_in_has_a_cookie_that_scripts_cannot_read(door: TestClient, stack: Client) -> None:
    answer = signed_in(door, stack)
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 201
    assert cookie.startswith("__Host-orchestrator-session=ors_")
    assert {part.strip().lower() for part in cookie.split(";")[1:]} == {
        "httponly",
        "secure",
        "path=/",
        "samesite=lax",
        "max-age=43200",
    }
    assert "ors_" not in answer.text
    assert door.get("/api/whoami").json()["name"] == "ann"


def test_a_session_ends_when_its_user_signs_out(door: TestClient, stack: Client) -> None:
    signed_in(door, stack)
    token = door.cookies["__Host-orchestrator-session"]
    assert door.delete("/api/session", headers=SAME).status_code == 204
    assert sessions.listed(stack.ledger) == []
    door.cookies["__Host-orchestrator-session"] = token
    assert door.get("/api/whoami").status_code == 401, "at once here, and within five seconds at other replicas"


def test_admins_see_and_end_sessions(door: TestClient, stack: Client) -> None:
    opened = signed_in(door, stack).json()["id"]
    admin = bearer(key(stack))
    (row,) = door.get("/api/sessions", headers=admin).json()["items"]
    assert (row["id"], row["user_name"], row["address"]) == (opened, "ann", "192.0.2.7")
    assert door.delete(f"/api/sessions/{opened}", headers=admin).status_code == 204
    eventually(lambda: door.get("/api/whoami").status_code == 401)


def test_a_wrong_password_is_refused_without_a_reason(door: TestClient, stack: Client) -> None:
    users.create(stack.ledger, "ann", Role.VIEWER, PASSWORD, ROOT)
    answers = [
        door.post("/api/session", json={"name": name, "password": password})
        for name, password in (("ann", "wrong words in here"), ("nobody", PASSWORD))
    ]
    assert [one.status_code for one in answers] == [401, 401]
    assert answers[0].json() | {"request_id": ""} == answers[1].json() | {"request_id": ""}
    assert "set-cookie" not in answers[0].headers
    assert [row.action for row in audit.listed(stack.ledger, limit=2)] == ["session.refused"] * 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://flows.example"}, 403),
        ({"Origin": "https://flows.example"}, 200),
        ({"Origin": "https://flows.example:444"}, 403),
        ({"Origin": "http://flows.example"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
    ],
)
def test_a_cookie_is_taken_from_our_own_pages_only(
    door: TestClient, stack: Client, headers: dict[str, str], status: int
) -> None:
    signed_in(door, stack)
    assert door.post("/api/flows/hello/enable", headers=headers).status_code == status
    assert door.get("/api/flows", headers=headers).status_code == 200  # looking changes nothing, and shows them nothing


def test_another_site_cannot_sign_a_browser_in(door: TestClient, stack: Client) -> None:
    users.create(stack.ledger, "eve", Role.VIEWER, PASSWORD, ROOT)
    given = {"name": "eve", "password": PASSWORD}
    answer = door.post("/api/session", json=given, headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


def test_a_key_needs_no_page(door: TestClient, stack: Client) -> None:
    """No browser sends it by itself."""
    headers = {**bearer(key(stack)), "Sec-Fetch-Site": "cross-site", "Origin": "https://tools.example"}
    assert door.post("/api/flows/hello/enable", headers=headers).status_code == 200


def test_no_session_goes_over_the_network_in_plain(
    settings: Settings, stack: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with served(settings, "http://flows.example") as door:
        assert signed_in(door, stack).json()["code"] == "https_needed"
        assert sessions.listed(stack.ledger) == []
    with served(settings, "http://10.0.0.9", public_url="https://flows.example") as door:  # behind a proxy
        assert signed_in(door, stack).headers["set-cookie"].startswith("__Host-")
    with served(settings, "http://localhost:8000") as door:
        cookie = signed_in(door, stack).headers["set-cookie"]
        assert cookie.startswith("orchestrator-session=")
        assert "secure" not in cookie.lower()
        assert "api.cookie_plain" in caplog.messages
        assert door.get("/api/whoami").status_code == 200


def test_users_are_managed_over_http(door: TestClient, stack: Client) -> None:
    admin = bearer(key(stack))
    made = door.post("/api/users", headers=admin, json={"name": "bob", "password": PASSWORD, "role": "operator"})
    assert (made.status_code, made.json()["role"], made.json()["password"]) == (201, "operator", True)
    assert door.post("/api/users/bob/role", headers=admin, json={"role": "admin"}).json()["role"] == "admin"
    assert door.post("/api/users/bob/password", headers=admin, json={"password": "x"}).status_code == 400
    assert door.post("/api/users/bob/disable", headers=admin, json={"reason": "left"}).status_code == 204
    assert signed_in(door, stack, "bob").status_code == 401
    assert door.post("/api/users/bob/enable", headers=admin).status_code == 204
    assert signed_in(door, stack, "bob").status_code == 201
    assert [one["name"] for one in door.get("/api/users", headers=admin).json()["items"]] == ["bob"]
    assert "argon2" not in door.get("/api/users", headers=admin).text


# ---- approvals ----


@flow
def asking() -> Any:
    return approval(bool, title="Is it right?", to="on-call")


def test_an_approval_is_answered_by_whom_it_asks(door: TestClient, stack: Client) -> None:
    """A user, a group or a role; an operator who is none of these may not."""
    asked: Flow[..., Any] = asking
    register.register(stack.ledger, asked.manifest)
    run_id = stack.start(asked).id
    place = f"/api/approvals/{run_id}/{next(iter(asked.manifest.steps))}/answer"
    for how, said in (("mark", {"output": True, "reason": "x"}), ("skip", {"reason": "x"})):
        settled = door.post(
            place.replace("approvals", "runs").replace(f"{run_id}/", f"{run_id}/steps/").replace("answer", how),
            headers=bearer(key(stack, Role.OPERATOR)),
            json=said,
        )
        assert (settled.status_code, settled.json()["facts"]) == (403, {"needed": "admin"})
    beside = door.post(f"/api/runs/{run_id}/signals/{place.split('/')[-2]}", headers=bearer(key(stack)), json=True)
    assert (beside.status_code, beside.json()["code"]) == (409, "conflict"), "a plain signal would pass by whom it asks"
    answer = door.post(place, headers=bearer(key(stack, Role.OPERATOR)), json=True)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    who = Identity("https://login.example", "7", "ann", ["on-call"])
    opened = sign_ins.sign_in(stack.ledger, who, Role.OPERATOR, ROOT, lifetime=timedelta(hours=1))
    door.cookies["__Host-orchestrator-session"] = opened.token
    answer = door.post(place, headers=SAME, json=True)
    assert answer.status_code in (200, 202), answer.text
    assert stack.run(run_id).approval(place.split("/")[-2]).answered_by == "ann"


@step
def pay(amount: int, agreed: bool) -> int:
    return amount if agreed else 0


@flow
def paying(amount: int) -> Any:
    return pay(amount, approval(bool, title="Pay it?", to="on-call"))


def test_what_somebody_agreed_to_is_not_kept_for_another_input(door: TestClient, stack: Client) -> None:
    pays: Flow[..., Any] = paying
    register.register(stack.ledger, pays.manifest)
    run = stack.start(pays, amount=1)
    asked = next(name for name in pays.manifest.steps if "approval" in name)
    run.answer(asked, True, by="ann")
    run.cancel("not now", by="ann")
    again = {"from_step": "pay", "input": {"amount": 1_000_000}}
    operator, admin = bearer(key(stack, Role.OPERATOR)), bearer(key(stack))
    place = f"/api/runs/{run.id}/rerun"
    answer = door.post(place, headers=operator, json=again)
    assert (answer.status_code, asked in answer.json()["detail"]) == (403, True)
    assert door.post(place, headers=operator, json={**again, "dry_run": True}).status_code == 200
    assert door.post(place, headers=operator, json={"input": {"amount": 2}}).status_code == 201  # it asks again
    assert door.post(place, headers=admin, json=again).status_code == 201


def test_a_role_is_asked_by_its_name() -> None:
    from orchestrator.core.access import Grant

    operator = Caller("ann", Grant(Role.OPERATOR), groups=("staff",))
    assert [operator.answers_for(to) for to in (None, "ann", "staff", "viewer", "operator")] == [True] * 5
    assert [operator.answers_for(to) for to in ("bob", "admin", "")] == [False] * 3
    called_so = Caller("ann", Grant(Role.VIEWER), groups=("admin", "operator"))
    assert [called_so.answers_for(to) for to in ("admin", "operator")] == [False] * 2, "a group is no role"


# ---- open, and an authorizer of one's own ----


def test_open_is_for_this_machine_only(settings: Settings, stack: Client) -> None:
    opened = create_app(settings.model_copy(update={"auth": "open"}))

    def status(url: str, peer: str, **headers: str) -> int:
        with TestClient(opened, url, client=(peer, 1)) as door:
            return door.post("/api/flows/hello/enable", headers=headers).status_code

    assert status("http://127.0.0.1:8000", "127.0.0.1") == 200
    assert status("http://localhost:8000", "::1") == 200
    assert status("http://127.0.0.1:8000", "192.0.2.7") == 401
    assert status("http://flows.example", "127.0.0.1") == 401  # a name that was made to lead here
    assert status("http://localhost", "127.0.0.1", **{"X-Forwarded-For": "192.0.2.7"}) == 401
    for brought in ("X-Forwarded-Proto", "X-Real-IP", "Via", "Forwarded"):
        assert status("http://localhost", "127.0.0.1", **{brought: "1.1 proxy"}) == 401
    assert status("http://localhost", "127.0.0.1", Origin="https://evil.example") == 403
    assert status("http://localhost", "127.0.0.1", Authorization="Bearer x") == 401


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.7", "flows.example"])
def test_it_does_not_start_open_to_others(settings: Settings, address: str) -> None:
    may_start(settings, address)
    opened = settings.model_copy(update={"auth": "open"})
    may_start(opened, "127.0.0.1")
    with pytest.raises(SettingsInvalid, match="would let in everybody"):
        may_start(opened, address)


def test_ones_own_authorizer_decides(settings: Settings, stack: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Asked] = []

    def decide(caller: Caller, what: Asked) -> bool | None:
        asked.append(what)
        return {"flow_show": False, "flow_disable": True}.get(what.operation)

    module = ModuleType("their_rules")
    module.decide = decide  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_rules", module)
    headers = bearer(key(stack, Role.VIEWER))
    with served(settings, authorizer="their_rules:decide") as door:
        assert door.get("/api/flows/hello", headers=headers).status_code == 403
        assert door.post("/api/flows/hello/disable", headers=headers).status_code == 200
        assert door.post("/api/flows/hello/enable", headers=headers).status_code == 403  # as the rules have it
        assert door.get("/api/flows").status_code == 401  # whom nobody knows is not asked about
    assert (asked[0].flows, asked[0].role, asked[0].scope) == (("hello",), Role.VIEWER, Scope.FLOWS)


@pytest.mark.parametrize("name", ["no_such_module:decide", "os:no_such_name", "os:sep"])
def test_an_authorizer_that_cannot_be_loaded_stops_the_start(settings: Settings, name: str) -> None:
    with pytest.raises(SettingsInvalid, match="ORCHESTRATOR_AUTHORIZER"):
        create_app(settings.model_copy(update={"authorizer": name}))
