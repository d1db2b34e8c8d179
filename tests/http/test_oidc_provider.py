"""Signing in at a provider of identities that others wrote. (What a right one never does: `test_oidc`.)"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
from starlette.testclient import TestClient

from orchestrator.client import Client
from orchestrator.core.access import Role
from orchestrator.engine.access import audit, users
from orchestrator.http.oidc import provider as conversation
from orchestrator.settings import Settings
from tests.http.access import ROOT, served
from tests.http.signing_in import BACK, SITE, START, asked_of, back_of, come_back, sent
from tests.support.foreign_provider import ForeignProvider, foreign_provider
from tests.support.identities import CLIENT_ID, SECRET, new_key

SAME = {"Sec-Fetch-Site": "same-origin"}
CLIENT = {
    "client_id": CLIENT_ID,
    "client_secret": SECRET,
    "redirect_uris": [f"{SITE}{BACK}"],
    "post_logout_redirect_uris": [SITE],
    "response_types": ["code"],
    "grant_types": ["authorization_code"],
}
OTHER = {**CLIENT, "client_id": "another application", "client_secret": "another secret"}
PEOPLE = {
    "id-1": {"preferred_username": "ann", "groups": ["staff", "on-call"]},
    "id-2": {"preferred_username": "bob", "groups": ["staff"]},
    "id-3": {"preferred_username": "ann", "groups": ["on-call"]},
}


@pytest.fixture
def login(request: pytest.FixtureRequest) -> Iterator[ForeignProvider]:
    cache = request.config.cache
    assert cache is not None
    with foreign_provider(Path(cache.mkdir("oidc-provider")), [CLIENT, OTHER], PEOPLE) as made:
        yield made


@pytest.fixture
def oidc(login: ForeignProvider, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings."""
    monkeypatch.setenv("FOREIGN_SECRET", SECRET)
    return {
        "public_url": SITE,
        "oidc_issuer": login.issuer,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": "env:FOREIGN_SECRET",
        "oidc_scopes": ("openid", "profile", "groups"),
        "group_roles": {"on-call": Role.OPERATOR},
    }


@pytest.fixture
def door(settings: Settings, stack: Client, oidc: dict[str, Any]) -> Iterator[TestClient]:
    with served(settings, **oidc) as made:
        yield made


def walked(place: str, who: str = "id-1") -> str:
    """What a person does there: sign in, agree, and come back."""
    with httpx2.Client() as browser:
        answer = browser.get(place)
        for _ in range(12):
            if answer.is_redirect:
                place = str(answer.url.join(answer.headers["location"]))
                if place.startswith(SITE):
                    return back_of(place)
                answer = browser.get(place)
            else:
                assert answer.status_code == 200, answer.text
                prompt = "login" if 'name="login"' in answer.text else "consent"
                answer = browser.post(place, data={"prompt": prompt, "login": who, "password": "any"})
    raise AssertionError(f"it does not come back, and is at {place}")


def sign_in(door: TestClient, who: str = "id-1") -> Any:
    return come_back(door, walked(sent(door), who))


def test_a_person_signs_in_works_and_signs_out(door: TestClient, stack: Client, login: ForeignProvider) -> None:
    answer = come_back(door, walked(sent(door, f"{START}?next=/runs")))
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs")
    who = door.get("/api/whoami").json()
    assert (who["name"], who["role"], who["groups"]) == ("ann", "operator", ["staff", "on-call"])
    (row,) = users.listed(stack.ledger)
    assert (row.issuer, row.subject) == (login.issuer, "id-1")
    assert door.post("/api/flows/hello/disable", headers=SAME).status_code == 200
    place = door.delete("/api/session", headers=SAME).json()["sign_out_at"]
    assert door.get("/api/whoami").status_code == 401
    page = httpx2.get(place)
    assert page.status_code == 200, page.text
    assert "logout" in page.text.lower()


def test_start_at_one_replica_and_come_back_to_another(settings: Settings, stack: Client, oidc: dict[str, Any]) -> None:
    with served(settings, **oidc) as one, served(settings, **oidc) as other:
        back = walked(sent(one))
        for cookie in one.cookies.jar:
            other.cookies.jar.set_cookie(cookie)
        assert come_back(other, back).status_code == 303
        assert other.get("/api/whoami").json()["name"] == "ann"


def test_what_is_not_theirs_is_refused(door: TestClient, stack: Client) -> None:
    """State, code, nonce, verifier and client of another try; whoever has no group, or the name of another person."""
    back = walked(sent(door))
    found = {"state": come_back(door, back.replace("state=", "state=x"))}
    assert come_back(door, back).status_code == 303
    found["replay"] = come_back(door, back)
    used = {"code": asked_of(back)["code"], "iss": asked_of(back)["iss"]}
    found["used code"] = come_back(door, f"{BACK}?{urlencode({**used, 'state': asked_of(sent(door))['state']})}")
    for name, value in (("nonce", "x"), ("code_challenge", "A" * 43), ("client_id", OTHER["client_id"])):
        path, _, query = sent(door).partition("?")
        place = f"{path}?{urlencode({**asked_of(f'?{query}'), name: value})}"
        found[name] = come_back(door, walked(place))
    place = sent(door)
    found["other issuer"] = come_back(door, f"{walked(place).partition('&iss=')[0]}&iss=https%3A%2F%2Fother.example")
    found["no group"] = sign_in(door, "id-2")
    found["the name of another"] = sign_in(door, "id-3")
    assert {name: (one.status_code, one.json()["code"]) for name, one in found.items()} == {
        "state": (400, "sign_in_unknown"),
        "replay": (400, "sign_in_unknown"),
        "used code": (401, "identity_refused"),
        "nonce": (401, "identity_refused"),
        "code_challenge": (401, "identity_refused"),
        "client_id": (401, "identity_refused"),
        "other issuer": (401, "identity_refused"),
        "no group": (403, "forbidden"),
        "the name of another": (409, "name_taken"),
    }
    assert "invalid_grant" in found["used code"].json()["detail"]
    assert "`nonce`" in found["nonce"].json()["detail"]
    assert [row.subject for row in users.listed(stack.ledger)] == ["id-1"]
    assert [row.action for row in audit.listed(stack.ledger, limit=3)] == ["session.refused"] * 3


def test_an_old_token_is_refused(door: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives for an hour; a minute more is for clocks that differ."""
    monkeypatch.setattr(conversation, "time", lambda: time.time() + 3670)
    answer = sign_in(door)
    assert (answer.status_code, "expired" in answer.json()["detail"]) == (401, True)
    monkeypatch.setattr(conversation, "time", lambda: time.time() + 3590)
    assert sign_in(door).status_code == 303


def test_keys_are_rotated_under_it(door: TestClient, login: ForeignProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "_AGAIN_S", 0.0)
    assert sign_in(door).status_code == 303
    login.kill()
    login.keys = [new_key()]
    login.start()
    assert sign_in(door).status_code == 303


def test_the_provider_is_killed_in_between(door: TestClient, stack: Client, login: ForeignProvider) -> None:
    """Who is signed in works on, with a password too; who comes back is told, and comes in when it is there again."""
    users.create(stack.ledger, "root", Role.ADMIN, "four plain words here", ROOT)
    assert sign_in(door).status_code == 303
    back = walked(sent(door))
    login.kill()
    answer = come_back(door, back)
    assert (answer.status_code, answer.json()["code"]) == (503, "provider_away")
    assert door.get("/api/whoami").json()["name"] == "ann"
    given = {"name": "root", "password": "four plain words here"}
    assert door.post("/api/session", json=given).status_code == 201
    assert door.delete("/api/session", headers=SAME).status_code == 204
    login.start()
    assert sign_in(door).status_code == 303
