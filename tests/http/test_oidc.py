"""Signing in at a provider of identities. That of these tests also does what a right one never does."""

import hashlib
import hmac
import json
import logging
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from joserfc.util import urlsafe_b64encode
from starlette.testclient import TestClient

from orchestrator import Flow, approval, flow
from orchestrator.client import Client
from orchestrator.core.access import Role
from orchestrator.core.sign_in import is_own_path
from orchestrator.engine.access import audit, sessions, users
from orchestrator.engine.flows import register
from orchestrator.errors import SettingsInvalid
from orchestrator.http.app import create_app
from orchestrator.http.oidc import provider as conversation
from orchestrator.settings import Settings
from tests.http.access import ROOT, bearer, key, served
from tests.http.signing_in import BACK, SITE, START, asked_of, back_of, come_back, sent
from tests.support.eventually import eventually
from tests.support.identities import CLIENT_ID, SECRET, Provider, new_key, provider

SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def login() -> Iterator[Provider]:
    with provider() as made:
        yield made


@pytest.fixture
def oidc(login: Provider, tmp_path: Path) -> dict[str, Any]:
    """Settings."""
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    return {
        "public_url": SITE,
        "oidc_issuer": login.issuer,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": f"file:{secret}",
        "group_roles": {"ops": Role.OPERATOR, "root": Role.ADMIN},
        "rate_strangers": 0,
    }


@pytest.fixture
def door(settings: Settings, stack: Client, oidc: dict[str, Any]) -> Iterator[TestClient]:
    with served(settings, **oidc) as made:
        yield made


def returned(place: str) -> str:
    """What the provider sends the browser back to, as a path."""
    return back_of(httpx2.get(place).headers["location"])


def sign_in(door: TestClient, path: str = START) -> Any:
    return come_back(door, returned(sent(door, path)))


def kept(stack: Client) -> str:
    """All that the ledger has of it."""
    with stack.ledger.auto() as tx:
        tables = ("flow_users", "flow_sessions", "flow_sign_ins", "flow_audit")
        return "".join(str(tx.exec_driver_sql(f"SELECT * FROM {one}").all()) for one in tables)


# ---- as it should be ----


def test_who_signs_in_at_the_provider_has_a_session(door: TestClient, stack: Client, login: Provider) -> None:
    answer = sign_in(door, f"{START}?next=/runs?status=failed")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs?status=failed")
    cookie = next(one for one in answer.headers.get_list("set-cookie") if "orchestrator-session" in one)
    assert cookie.startswith("__Host-orchestrator-session=ors_")
    assert "HttpOnly" in cookie
    who = door.get("/api/whoami").json()
    assert (who["name"], who["role"], who["groups"]) == ("ann", "operator", ["ops"])
    (session,) = sessions.listed(stack.ledger)
    assert (session.method, session.address) == ("oidc", "192.0.2.7")
    assert [row.action for row in audit.listed(stack.ledger, limit=2)] == ["session.open", "user.create"]
    assert door.post("/api/flows/hello/disable", headers=SAME).status_code == 200
    assert door.post("/api/flows/hello/disable", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_the_provider_is_asked_for_a_code_that_only_we_can_redeem(door: TestClient, login: Provider) -> None:
    asked = asked_of(sent(door))
    assert asked.keys() >= {"state", "nonce", "code_challenge"}
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == f"{SITE}{BACK}"
    assert asked["scope"] == "openid profile"
    other = asked_of(sent(door))
    assert all(asked[name] != other[name] for name in ("state", "nonce", "code_challenge"))


def test_role_and_groups_become_what_the_provider_says_now(door: TestClient, stack: Client, login: Provider) -> None:
    """In all their sessions; the name stays, because what they did is kept by it."""
    sign_in(door)
    login.person |= {"preferred_username": "ann.married", "groups": ["root", "ops"]}
    sign_in(door)
    (row,) = users.listed(stack.ledger)
    assert (row.name, row.role, row.groups, row.subject) == ("ann", Role.ADMIN, ["root", "ops"], "7")
    eventually(lambda: {one.role for one in sessions.listed(stack.ledger)} == {"admin"})


def test_names_and_groups_may_be_in_userinfo(door: TestClient, login: Provider) -> None:
    login.userinfo, login.person = dict(login.person), {"sub": "7"}
    assert sign_in(door).status_code == 303
    login.userinfo["sub"] = "8"
    answer = sign_in(door)
    assert (answer.status_code, answer.json()["code"]) == (401, "identity_refused")
    assert "different people" in answer.json()["detail"]


def test_two_tabs_sign_in_at_once(door: TestClient) -> None:
    one, other = sent(door), sent(door)
    assert [come_back(door, returned(place)).status_code for place in (one, other)] == [303, 303]


def test_start_at_one_replica_and_come_back_to_another(settings: Settings, stack: Client, oidc: dict[str, Any]) -> None:
    with served(settings, **oidc) as one, served(settings, **oidc) as other:
        back = returned(sent(one))
        for cookie in one.cookies.jar:
            other.cookies.jar.set_cookie(cookie)
        assert come_back(other, back).status_code == 303
        assert other.get("/api/whoami").json()["name"] == "ann"
        assert come_back(one, back).json()["code"] == "sign_in_unknown"


def test_rotated_keys_are_found(door: TestClient, login: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sign_in(door).status_code == 303
    before, login.key = login.key, new_key()
    login.published = [login.key, before]
    assert sign_in(door).json()["code"] == "identity_refused", "they were asked for a moment ago"
    monkeypatch.setattr(conversation, "_AGAIN_S", 0.0)
    assert sign_in(door).status_code == 303
    asked = len([one for one, _ in login.asked if one == "/keys"])
    assert sign_in(door).status_code == 303
    assert len([one for one, _ in login.asked if one == "/keys"]) == asked, "they are remembered"


def test_who_signs_out_is_told_where_to_sign_out_of_the_provider(
    door: TestClient, stack: Client, login: Provider
) -> None:
    sign_in(door)
    assert door.delete("/api/session", headers=SAME).status_code == 204
    login.metadata = {"end_session_endpoint": f"{login.issuer}/bye"}
    with served(door.app.state.settings) as another:  # type: ignore[attr-defined]
        sign_in(another)
        answer = another.delete("/api/session", headers=SAME)
        place = urlsplit(answer.json()["sign_out_at"])
        assert answer.status_code == 200
        assert "orchestrator-session=" in answer.headers["set-cookie"]
    assert parse_qs(place.query) == {"client_id": [CLIENT_ID], "post_logout_redirect_uri": [SITE]}
    assert sessions.listed(stack.ledger) == []


# ---- tries that are not theirs ----


@pytest.mark.parametrize("change", ["state", "no state", "no cookie", "another browser", "late", "again", "empty"])
def test_only_the_browser_that_began_comes_back_once_and_in_time(
    door: TestClient, stack: Client, login: Provider, change: str
) -> None:
    back = returned(sent(door))
    match change:
        case "state":
            back = back.replace("state=", "state=x")
        case "no state":
            back = back.replace("state=", "other=")
        case "no cookie":
            door.cookies.clear()
        case "another browser":
            door.cookies.clear()
            sent(door)
        case "late":
            with stack.ledger.auto() as tx:
                tx.exec_driver_sql("UPDATE flow_sign_ins SET expires_at = flow_now()")
        case "again":
            assert come_back(door, back).status_code == 303
        case "empty":
            back = BACK
    login.asked.clear()
    answer = come_back(door, back)
    assert (answer.status_code, answer.json()["code"]) == (400, "sign_in_unknown")
    assert "GET /api/session/oidc" in answer.json()["fix"]
    assert login.asked == [], "the provider hears nothing of it"
    assert "set-cookie" not in answer.headers
    row = audit.listed(stack.ledger)[0]
    assert (row.action, row.actor, row.address) == ("session.refused", "nobody", "192.0.2.7")


def test_a_code_is_no_good_in_another_try(door: TestClient, login: Provider) -> None:
    """Of another browser, which an attacker put into the way back: the verifier is another one."""
    stolen = asked_of(returned(sent(door)))["code"]
    door.cookies.clear()
    own = asked_of(returned(sent(door)))["state"]
    answer = come_back(door, f"{BACK}?{urlencode({'code': stolen, 'state': own})}")
    assert (answer.status_code, answer.json()["code"]) == (401, "identity_refused")
    assert "invalid_grant" in answer.json()["detail"]


def test_what_the_provider_refuses_is_told(door: TestClient, stack: Client) -> None:
    state = asked_of(returned(sent(door)))["state"]
    answer = come_back(door, f"{BACK}?{urlencode({'error': 'access_denied', 'state': state})}")
    assert answer.status_code == 401
    assert "access_denied" in answer.json()["detail"]
    state = asked_of(returned(sent(door)))["state"]
    answer = come_back(door, f"{BACK}?{urlencode({'error': '<script>', 'state': state})}")
    assert "script" not in answer.text + kept(stack)


@pytest.mark.parametrize(
    ("given", "supported", "status"), [("own", True, 303), (None, True, 401), ("other", False, 401)]
)
def test_an_answer_of_another_provider_is_not_taken(
    door: TestClient, login: Provider, given: str | None, supported: bool, status: int
) -> None:
    """RFC 9207."""
    login.metadata = {"authorization_response_iss_parameter_supported": supported}
    back = returned(sent(door))
    if given is not None:
        back += "&" + urlencode({"iss": login.issuer if given == "own" else "https://other.example"})
    assert come_back(door, back).status_code == status


# ---- tokens that a right provider never makes ----

NOW = time.time()
_WRONG: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://other.example"},
    "no issuer": {"iss": None},
    "another audience": {"aud": "other"},
    "no audience": {"aud": None},
    "one of others": {"aud": ["other", "third"]},
    "two, and nobody in charge": {"aud": [CLIENT_ID, "other"]},
    "two, and another in charge": {"aud": [CLIENT_ID, "other"], "azp": "other"},
    "another in charge": {"azp": "other"},
    "expired": {"exp": int(NOW) - 120},
    "never expires": {"exp": None},
    "expires at a text": {"exp": "tomorrow"},
    "not yet": {"nbf": int(NOW) + 3600},
    "made tomorrow": {"iat": int(NOW) + 86400},
    "another nonce": {"nonce": "x"},
    "no nonce": {"nonce": None},
    "an empty nonce": {"nonce": ""},
    "nobody": {"sub": None},
    "an empty subject": {"sub": ""},
    "a number": {"sub": 7},
    "of another access token": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
}


def test_a_wrong_claim_is_refused(door: TestClient, stack: Client, login: Provider) -> None:
    found = {}
    for wrong, login.changed in _WRONG.items():
        answer = sign_in(door)
        found[wrong] = (answer.status_code, answer.json().get("code"), "set-cookie" in answer.headers)
    assert found == dict.fromkeys(_WRONG, (401, "identity_refused", False))
    assert users.listed(stack.ledger) == []
    login.changed = {}
    assert sign_in(door).status_code == 303


def test_clocks_may_be_a_little_apart(door: TestClient, login: Provider) -> None:
    for changed in (
        {"exp": int(time.time()) - 30},
        {"iat": int(time.time()) + 30},
        {"aud": [CLIENT_ID, "b"], "azp": CLIENT_ID},
    ):
        login.changed = changed
        assert sign_in(door).status_code == 303, changed


def _joined(*parts: bytes) -> str:
    return b".".join(urlsafe_b64encode(part) for part in parts).decode()


def _unsigned(login: Provider, claims: dict[str, Any]) -> str:
    return _joined(json.dumps({"alg": "none"}).encode(), json.dumps(claims).encode(), b"")


def _by_public_key(login: Provider, claims: dict[str, Any]) -> str:
    """Whoever checks an HS256 token with the published key takes this one for right."""
    head = json.dumps({"alg": "HS256", "kid": login.key.kid}).encode()
    signed = _joined(head, json.dumps(claims).encode())
    made = hmac.digest(login.key.as_pem(private=False), signed.encode(), hashlib.sha256)
    return f"{signed}.{_joined(made)}"


def _by_the_secret(login: Provider, claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))


def _by_another_key(login: Provider, claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "RS256", "kid": login.key.kid}, claims, new_key())


def _by_a_key_of_its_own(login: Provider, claims: dict[str, Any]) -> str:
    """Which it brings along."""
    own = new_key()
    return jwt.encode({"alg": "RS256", "kid": own.kid, "jwk": own.as_dict(private=False)}, claims, own)


def _changed(login: Provider, claims: dict[str, Any]) -> str:
    head, _, signature = jwt.encode({"alg": "RS256", "kid": login.key.kid}, claims, login.key).split(".")
    other = jwt.encode({"alg": "RS256"}, {**claims, "groups": ["root"]}, login.key).split(".")[1]
    return f"{head}.{other}.{signature}"


def _critical(login: Provider, claims: dict[str, Any]) -> str:
    """It says that one must understand what we do not."""
    from joserfc.jws import JWSRegistry
    from joserfc.registry import HeaderParameter

    registry = JWSRegistry({"ours": HeaderParameter("Ours", "str")}, ["RS256"])
    header = {"alg": "RS256", "kid": login.key.kid, "crit": ["ours"], "ours": "x"}
    return jwt.encode(header, claims, login.key, registry=registry)


def _no_token(login: Provider, claims: dict[str, Any]) -> str:
    return "a.b.c"


FORGERIES = (
    _unsigned,
    _by_public_key,
    _by_the_secret,
    _by_another_key,
    _by_a_key_of_its_own,
    _changed,
    _critical,
    _no_token,
)


def test_a_forged_token_is_refused(door: TestClient, stack: Client, login: Provider) -> None:
    login.metadata = {"id_token_signing_alg_values_supported": ["none", "HS256", "RS256"]}
    found = {}
    for forge in FORGERIES:
        login.token = partial(forge, login)
        answer = sign_in(door)
        found[forge.__name__] = (answer.status_code, answer.json().get("code"))
    assert found == dict.fromkeys((one.__name__ for one in FORGERIES), (401, "identity_refused"))
    assert users.listed(stack.ledger) == []
    login.token = None
    assert sign_in(door).status_code == 303


def test_a_provider_that_signs_in_no_safe_way_is_not_believed(door: TestClient, login: Provider) -> None:
    login.metadata = {"id_token_signing_alg_values_supported": ["HS256", "none", {}]}
    login.token = partial(_by_the_secret, login)
    assert sign_in(door).json()["code"] == "identity_refused"


# ---- who may ----


def test_who_has_no_group_with_a_role_gets_nothing(door: TestClient, stack: Client, login: Provider) -> None:
    for groups in ([], ["staff"], None):
        login.person["groups"] = groups
        answer = sign_in(door)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "ORCHESTRATOR_GROUP_ROLES" in answer.json()["fix"]
        assert "set-cookie" not in answer.headers
    assert users.listed(stack.ledger) == []
    row = audit.listed(stack.ledger)[0]
    assert (row.action, row.actor) == ("session.refused", "ann")


def test_nobody_becomes_a_user_who_is_here_by_having_their_name(
    door: TestClient, stack: Client, login: Provider
) -> None:
    users.create(stack.ledger, "ann", Role.ADMIN, "four plain words here", ROOT)
    answer = sign_in(door)
    assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")
    assert door.get("/api/whoami").status_code == 401
    login.person |= {"preferred_username": "bob"}
    assert sign_in(door).status_code == 303
    login.person |= {"sub": "8"}  # the address of somebody who left is given to another one
    assert sign_in(door).json()["code"] == "name_taken"


def test_names_that_mean_something_else_are_not_taken(door: TestClient, stack: Client, login: Provider) -> None:
    for name in ("admin", "key:ci", "local", "ops", "<b>", "", "x" * 101, None, 7):
        login.person["preferred_username"] = name
        assert sign_in(door).status_code in (400, 403), name
    assert users.listed(stack.ledger) == []


def test_an_address_that_nobody_verified_is_no_name(
    settings: Settings, stack: Client, login: Provider, oidc: dict[str, Any]
) -> None:
    with served(settings, **oidc, oidc_name_claim="email") as door:
        login.person["email"] = "root@example.com"
        assert sign_in(door).json()["code"] == "claim_unfit"
        login.person["email_verified"] = True
        assert sign_in(door).status_code == 303


def test_groups_that_cannot_be_read_let_nobody_in(door: TestClient, login: Provider) -> None:
    for groups in ({"a": 1}, [1], [""], ["a\0"], ["x" * 300], ["g"] * 2000, 5):
        login.person["groups"] = groups
        assert sign_in(door).json()["code"] == "claim_unfit", groups


def test_groups_may_be_deep_inside(settings: Settings, stack: Client, login: Provider, oidc: dict[str, Any]) -> None:
    login.person |= {"groups": None, "realm_access": {"roles": ["ops"]}}
    with served(settings, **oidc, oidc_groups_claim="realm_access.roles") as door:
        assert sign_in(door).status_code == 303


def test_who_is_disabled_does_not_come_in(door: TestClient, stack: Client) -> None:
    sign_in(door)
    users.disable(stack.ledger, "ann", ROOT)
    eventually(lambda: door.get("/api/whoami").status_code == 401)
    answer = sign_in(door)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert audit.listed(stack.ledger)[0].action == "session.refused"


def test_nobody_gives_a_password_to_a_user_of_the_provider(door: TestClient, stack: Client) -> None:
    """It would let them in when the provider does not any more."""
    sign_in(door)
    admin = bearer(key(stack))
    answer = door.post("/api/users/ann/password", headers=admin, json={"password": "four plain words here"})
    assert (answer.status_code, "signs in at" in answer.json()["detail"]) == (400, True)


@flow
def asking() -> Any:
    return approval(bool, title="Is it right?", to="on-call")


def test_an_approval_asks_a_group_of_the_provider(
    door: TestClient, stack: Client, login: Provider, settings: Settings, oidc: dict[str, Any]
) -> None:
    asked: Flow[..., Any] = asking
    register.register(stack.ledger, asked.manifest)
    run = stack.start(asked)
    place = f"/api/approvals/{run.id}/{next(iter(asked.manifest.steps))}/answer"
    sign_in(door)
    assert door.post(place, headers=SAME, json=True).status_code == 403
    login.person["groups"] = ["ops", "on-call"]
    with served(settings, **oidc) as again:
        sign_in(again)
        assert again.post(place, headers=SAME, json=True).status_code in (200, 202)
    assert run.approval(place.split("/")[-2]).answered_by == "ann"


# ---- where it leads ----


ELSEWHERE = (
    "//evil.example",
    "/\\evil.example",
    "https://evil.example",
    "evil",
    "/\t/evil.example",
    "/\n",
    "\\\\evil",
    "/ü",
)


def test_it_leads_to_no_other_site(door: TestClient) -> None:
    for path in ELSEWHERE:
        answer = door.get(f"{START}?{urlencode({'next': path})}", follow_redirects=False)
        assert (answer.status_code, answer.json()["code"]) == (400, "next_unfit"), path
    assert not is_own_path("")


def test_a_request_does_not_say_where_the_provider_sends_back_to(door: TestClient) -> None:
    answer = door.get(
        START, headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"}, follow_redirects=False
    )
    assert parse_qs(urlsplit(answer.headers["location"]).query)["redirect_uri"] == [f"{SITE}{BACK}"]


def test_under_a_path_it_comes_back_there(settings: Settings, stack: Client, oidc: dict[str, Any]) -> None:
    with served(settings, **(oidc | {"public_url": f"{SITE}/flows"})) as door:
        assert asked_of(sent(door))["redirect_uri"] == f"{SITE}/flows{BACK}"


def test_a_code_may_be_long(door: TestClient) -> None:
    """Those of some providers are longer than any other query may be."""
    for length, code in ((4000, "identity_refused"), (9000, "too_large")):
        query = urlencode({"code": "x" * length, "state": asked_of(sent(door))["state"]})
        assert come_back(door, f"{BACK}?{query}").json()["code"] == code
    assert door.get(f"{START}?next=/{'x' * 2000}").json()["code"] == "too_large"


# ---- the provider is away, or not what it should be ----


def test_without_the_provider_the_rest_works(
    settings: Settings, stack: Client, login: Provider, oidc: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs. The API starts, and nobody who signs in with a password waits for those who wait for it."""
    monkeypatch.setattr(conversation, "ANSWERS_S", 1.0)
    users.create(stack.ledger, "bob", Role.VIEWER, "four plain words here", ROOT)
    login.hangs = Event()
    with served(settings, **oidc) as door:
        began = time.monotonic()
        answer = door.get(START, follow_redirects=False)
        assert (answer.status_code, answer.json()["code"]) == (503, "provider_away")
        assert time.monotonic() - began < 3
        assert "Retry-After" in answer.headers
        given = {"name": "bob", "password": "four plain words here"}
        assert door.post("/api/session", json=given).status_code == 201
        assert door.get("/api/flows", headers=bearer(key(stack))).status_code == 200
        login.hangs.set()
        login.hangs = None
        assert sign_in(door).status_code == 303


def test_a_provider_that_dies_in_between_is_told(door: TestClient, stack: Client, login: Provider) -> None:
    with provider() as other:
        login.metadata = {"token_endpoint": f"{other.issuer}/token"}
        back = returned(sent(door))
    answer = come_back(door, back)
    assert (answer.status_code, answer.json()["code"]) == (503, "provider_away")
    assert "session.refused" not in [row.action for row in audit.listed(stack.ledger)]


def test_a_provider_that_is_another_one_is_told(
    door: TestClient, login: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    wrong: list[dict[str, Any]] = [
        {"issuer": "https://other.example"},
        {"issuer": None},
        {"token_endpoint": None},
        {"jwks_uri": "http://keys.example"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"token_endpoint": 5},
    ]
    for login.metadata in wrong:
        answer = door.get(START, follow_redirects=False)
        assert (answer.status_code, answer.json()["code"]) == (502, "provider_unfit"), login.metadata
    assert "oidc.provider_unfit" in caplog.messages


def test_a_secret_that_is_not_right_is_told(
    settings: Settings, stack: Client, oidc: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_SECRET", "not it")
    with served(settings, **(oidc | {"oidc_client_secret": "env:OTHER_SECRET"})) as door:
        answer = sign_in(door)
        assert (answer.status_code, answer.json()["code"]) == (502, "provider_unfit")
        assert "ORCHESTRATOR_OIDC_CLIENT_SECRET" in answer.json()["fix"]


def test_no_secret_is_kept_or_logged(
    door: TestClient, stack: Client, login: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        back = returned(sent(door))
        come_back(door, back)
        come_back(door, back)
        login.changed = {"aud": "other"}
        sign_in(door)
    said = kept(stack) + "\n".join(str(vars(record)) for record in caplog.records if record.name.startswith("orch"))
    query = parse_qs(urlsplit(back).query)
    browser = door.cookies["__Host-orchestrator-sign-in"]
    form = next(form for path, form in login.asked if path == "/token")
    for secret in (SECRET, "at-1", "eyJ", query["code"][0], query["state"][0], browser, form["code_verifier"]):
        assert secret not in said
    assert "session.refused" in said


# ---- settings ----


def test_without_a_provider_it_says_so(settings: Settings, stack: Client) -> None:
    with served(settings) as door:
        for path in (START, BACK):
            assert door.get(path).json()["code"] == "oidc_off"


def test_strangers_do_not_fill_the_ledger(settings: Settings, stack: Client, oidc: dict[str, Any]) -> None:
    with served(settings, **(oidc | {"rate_strangers": 3})) as door:
        found = [door.get(START, follow_redirects=False).status_code for _ in range(5)]
    assert found == [303] * 3 + [429] * 2


def test_no_session_goes_over_the_network_in_plain(settings: Settings, stack: Client, oidc: dict[str, Any]) -> None:
    with served(settings, "http://flows.example", **(oidc | {"public_url": "http://flows.example"})) as door:
        assert door.get(START).json()["code"] == "https_needed"


GOOD = {
    "OIDC_ISSUER": "https://login.example",
    "OIDC_CLIENT_ID": "flows",
    "OIDC_CLIENT_SECRET": "env:SECRET",
    "PUBLIC_URL": SITE,
    "GROUP_ROLES": '{"ops": "admin"}',
}


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("OIDC_CLIENT_ID", "", "OIDC_CLIENT_ID is not"),
        ("PUBLIC_URL", "", "PUBLIC_URL is not"),
        ("GROUP_ROLES", "", "GROUP_ROLES is not"),
        ("OIDC_ISSUER", "http://login.example", "not an https address"),
        ("OIDC_ISSUER", "https://u:p@login.example", "not an https address"),
        ("OIDC_CLIENT_SECRET", "hunter2", "OIDC_CLIENT_SECRET"),
    ],
)
def test_settings_that_do_not_fit_are_refused(variable: str, value: str, message: str) -> None:
    assert Settings.from_env({f"ORCHESTRATOR_{name}": one for name, one in GOOD.items()}).oidc_scopes[0] == "openid"
    given = {f"ORCHESTRATOR_{name}": one for name, one in (GOOD | {variable: value}).items()}
    with pytest.raises(SettingsInvalid, match=message) as caught:
        Settings.from_env(given)
    assert "hunter2" not in str(caught.value)


def test_a_secret_that_is_not_there_stops_the_start(settings: Settings, oidc: dict[str, Any]) -> None:
    with pytest.raises(SettingsInvalid, match="ORCHESTRATOR_OIDC_CLIENT_SECRET: the environment variable NO_SUCH"):
        create_app(settings.model_copy(update={**oidc, "oidc_client_secret": "env:NO_SUCH"}))
