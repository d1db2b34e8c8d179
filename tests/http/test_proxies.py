"""What proxies say is believed of those that are listed; pages of other sites read what they may."""

import pytest

from orchestrator.client import Client
from orchestrator.core.access import Role
from orchestrator.engine.access import audit
from orchestrator.errors import SettingsInvalid
from orchestrator.http.app import create_app
from orchestrator.settings import Settings
from tests.http.access import bearer, key, served

PROXY = {"trusted_proxies": ("192.0.2.0/24",), "proxy_user_header": "X-Forwarded-User"}
GROUPS = {"proxy_groups_header": "X-Forwarded-Groups", "group_roles": {"on-call": Role.OPERATOR, "*": Role.VIEWER}}
SAME = {"Sec-Fetch-Site": "same-origin"}


def address(
    settings: Settings, stack: Client, depth: int, *forwarded: str, trusted: str = "192.0.2.0/24"
) -> str | None:
    """The one that the audit has of a request through proxies."""
    headers = [*bearer(key(stack)).items(), *(("X-Forwarded-For", value) for value in forwarded)]
    with served(settings, proxy_depth=depth, trusted_proxies=(trusted,)) as door:
        assert door.post("/api/flows/hello/enable", headers=headers).status_code == 200
    return audit.listed(stack.ledger, limit=1)[0].address


@pytest.mark.parametrize(
    ("depth", "forwarded", "found"),
    [
        (0, ["203.0.113.66"], "192.0.2.7"),
        (1, ["203.0.113.66, 198.51.100.7"], "198.51.100.7"),
        (1, ["203.0.113.66", "198.51.100.7"], "198.51.100.7"),
        (2, ["203.0.113.66, 198.51.100.7, 10.0.0.1"], "198.51.100.7"),
        (2, ["198.51.100.7"], None),
        (1, ["::ffff:198.51.100.7"], "198.51.100.7"),
        (1, ["[2001:db8::1]:443"], "2001:db8::1"),
        (1, ["unknown"], None),
    ],
)
def test_the_address_is_counted_from_the_right(
    settings: Settings, stack: Client, depth: int, forwarded: list[str], found: str | None
) -> None:
    assert address(settings, stack, depth, *forwarded) == found


def test_a_proxy_that_is_not_listed_is_not_believed(settings: Settings, stack: Client) -> None:
    assert address(settings, stack, 1, "198.51.100.7", trusted="10.0.0.0/8") is None


def test_who_a_trusted_proxy_has_signed_in_is_let_in(settings: Settings, stack: Client) -> None:
    with served(settings, **PROXY, **GROUPS) as door:
        ann = {"X-Forwarded-User": "ann@example.com", "X-Forwarded-Groups": "staff, on-call"}
        who = door.get("/api/whoami", headers=ann).json()
        assert (who["name"], who["role"], who["groups"]) == ("ann@example.com", "operator", ["staff", "on-call"])
        assert door.post("/api/flows/hello/disable", headers={**ann, **SAME}).status_code == 200
        assert door.post("/api/flows/hello/enable", headers=ann).status_code == 403  # from whatever page
        assert door.get("/api/whoami", headers={"X-Forwarded-User": "bob"}).json()["role"] == "viewer"
        assert door.get("/api/whoami", headers={"X-Forwarded-User": "<b>"}).status_code == 401
        twice = [("X-Forwarded-User", "ann"), ("X-Forwarded-User", "root")]
        assert door.get("/api/whoami", headers=twice).status_code == 401


def test_nobody_else_says_who_somebody_is(settings: Settings, stack: Client) -> None:
    elsewhere = {**PROXY, "trusted_proxies": ("10.0.0.0/8",)}
    with served(settings, **elsewhere, **GROUPS) as door:
        assert door.get("/api/whoami", headers={"X-Forwarded-User": "ann"}).status_code == 401
    with served(settings) as door:
        assert door.get("/api/whoami", headers={"X-Forwarded-User": "ann"}).status_code == 401


def test_a_user_without_a_role_is_refused(settings: Settings, stack: Client) -> None:
    with served(settings, **PROXY, group_roles={"on-call": Role.ADMIN}) as door:
        answer = door.get("/api/whoami", headers={"X-Forwarded-User": "ann"})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_a_malformed_list_of_proxies_stops_the_start(settings: Settings) -> None:
    for entry in ("10.0.0.0/99", "010.0.0.1", "proxy"):
        with pytest.raises(SettingsInvalid, match="TRUSTED_PROXIES"):
            create_app(settings.model_copy(update={"trusted_proxies": (entry,)}))


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PROXY_USER_HEADER", "X-User", "no proxy is believed"),
        ("GROUP_ROLES", '{"a": "root"}', "ORCHESTRATOR_GROUP_ROLES"),
        ("CORS_ORIGINS", "*", "not an origin"),
        ("CORS_ORIGINS", "https://a.example/path", "not an origin"),
        ("PUBLIC_URL", "flows.example", "not the address of a site"),
        ("AUTH", "off", "ORCHESTRATOR_AUTH"),
    ],
)
def test_settings_that_do_not_fit_are_refused(variable: str, value: str, message: str) -> None:
    with pytest.raises(SettingsInvalid, match=message):
        Settings.from_env({f"ORCHESTRATOR_{variable}": value})


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PUBLIC_URL", "https://flows.example"), ("PROXY_DEPTH", "1"), ("TRUSTED_PROXIES", "10.0.0.1")],
)
def test_it_is_not_open_behind_a_proxy(variable: str, value: str) -> None:
    """Which brings everybody from an address of this machine."""
    given = {"ORCHESTRATOR_AUTH": "open", f"ORCHESTRATOR_{variable}": value}
    with pytest.raises(SettingsInvalid, match=f"ORCHESTRATOR_{variable} is set"):
        Settings.from_env(given)
    assert Settings.from_env({"ORCHESTRATOR_AUTH": "open", "ORCHESTRATOR_PUBLIC_URL": "http://127.0.0.1:8000"})


def test_pages_of_listed_origins_may_read(settings: Settings, stack: Client) -> None:
    with served(settings, cors_origins=("https://tools.example",)) as door:
        asked = {"Origin": "https://tools.example", "Access-Control-Request-Method": "POST"}
        preflight = door.options("/api/flows/hello/trigger", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://tools.example"
        assert preflight.headers["X-Content-Type-Options"] == "nosniff"
        strange = {**asked, "Origin": "https://evil.example"}
        refused = door.options("/api/flows/hello/trigger", headers=strange)
        assert "Access-Control-Allow-Origin" not in refused.headers
        headers = {**bearer(key(stack)), "Origin": "https://tools.example"}
        answer = door.get("/api/flows", headers=headers)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://tools.example"
        assert "Access-Control-Allow-Credentials" not in answer.headers


def test_https_in_front_of_it_is_said(settings: Settings, stack: Client) -> None:
    with served(settings, "http://10.0.0.9", public_url="https://flows.example") as door:
        assert "Strict-Transport-Security" in door.get("/api/flows").headers
    with served(settings, "http://10.0.0.9") as door:
        assert "Strict-Transport-Security" not in door.get("/api/flows").headers


def test_what_operators_change_is_in_the_audit(settings: Settings, stack: Client) -> None:
    operator, viewer = bearer(key(stack, Role.OPERATOR, name="ops")), bearer(key(stack, Role.VIEWER))
    with served(settings) as door:
        door.post("/api/flows/hello/disable", headers=viewer)
        door.post("/api/flows/nothing/disable", headers=operator)
        answer = door.post("/api/flows/hello/disable", headers=operator, json={"reason": "it fails"})
    row = audit.listed(stack.ledger)[0]
    assert (row.actor, row.action, row.target, row.reason) == (
        "key:ops",
        "flow.disable",
        "flow/hello",
        "it fails",
    )
    assert row.request_id == answer.headers["X-Request-Id"]
    assert len([one for one in audit.listed(stack.ledger) if one.action == "flow.disable"]) == 1
