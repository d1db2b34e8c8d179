"""Users and their sessions."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from orchestrator.core.access import SESSION, Actor, Role, mint
from orchestrator.core.sign_in import Attempt, Identity
from orchestrator.engine.access import audit, sessions, sign_ins, users
from orchestrator.errors import NameTaken, SessionNotFound, Unauthenticated, UsageError, UserNotFound
from tests.support.factories import Lab
from tests.support.race import race

ADMIN = Actor("root")
PASSWORD = "four plain words here"
HOURS = timedelta(hours=8)
BROWSER = Actor("", address="192.0.2.7", request_id="r-1")


def signed_in(lab: Lab, name: str = "ann", password: str = PASSWORD) -> sessions.OpenedSession:
    return sessions.sign_in(lab.ledger, name, password, BROWSER, lifetime=HOURS, agent="Firefox")


def identified(
    lab: Lab, name: str, role: Role = Role.VIEWER, groups: Sequence[str] = ("staff",), subject: str = "7"
) -> sessions.OpenedSession:
    who = Identity("https://login.example", subject, name, groups)
    return sign_ins.sign_in(lab.ledger, who, role, Actor(name), lifetime=HOURS)


@pytest.fixture
def ann(lab: Lab) -> Lab:
    users.create(lab.ledger, "ann", Role.OPERATOR, PASSWORD, ADMIN)
    return lab


def test_who_knows_the_password_has_a_session(ann: Lab) -> None:
    opened = signed_in(ann)
    row = sessions.authenticate(ann.ledger, opened.token)
    assert row is not None
    assert (row.user_name, row.role, row.address, row.agent) == ("ann", Role.OPERATOR, "192.0.2.7", "Firefox")
    assert opened.token not in repr(opened)


@pytest.mark.parametrize(
    ("name", "password"), [("ann", "wrong words in here"), ("bob", PASSWORD), ("ann", ""), ("", "")]
)
def test_nobody_else_has(ann: Lab, name: str, password: str) -> None:
    with pytest.raises(Unauthenticated, match="The name or the password is wrong"):
        signed_in(ann, name, password)
    assert sessions.listed(ann.ledger) == []
    assert audit.listed(ann.ledger)[0].action == "session.refused"


def test_a_name_that_nobody_has_is_hashed_for_too(ann: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the time of an answer does not tell who exists; times themselves are too noisy to test."""
    from orchestrator.engine.access import passwords

    asked: list[str] = []
    real = passwords._hasher()

    class Counting:
        def hash(self, password: str) -> str:
            return real.hash(password)

        def verify(self, password: str, kept: str) -> bool:
            asked.append(kept)
            return real.verify(password, kept)

    monkeypatch.setattr(passwords, "_hasher", Counting)
    identified(ann, "sso")
    for name in ("ann", "nobody", "sso"):
        with pytest.raises(Unauthenticated):
            signed_in(ann, name, "a password that nobody has")
    assert [kept.split("$")[1:4] for kept in asked] == [asked[0].split("$")[1:4]] * 3


def test_a_session_ends_with_its_time_and_with_its_user(ann: Lab) -> None:
    first = signed_in(ann)
    ann.forward(HOURS.total_seconds() + 1)
    assert sessions.authenticate(ann.ledger, first.token) is None
    second = signed_in(ann)
    assert len(ann.rows("SELECT * FROM flow_sessions")) == 1  # the one that ended was removed
    users.disable(ann.ledger, "ann", ADMIN, reason="left")
    assert sessions.authenticate(ann.ledger, second.token) is None
    with pytest.raises(Unauthenticated):
        signed_in(ann)
    users.enable(ann.ledger, "ann", ADMIN)
    assert sessions.authenticate(ann.ledger, second.token) is None
    signed_in(ann)


def test_a_new_password_ends_every_session(ann: Lab) -> None:
    before = signed_in(ann)
    users.set_password(ann.ledger, "ann", "other plain words here", ADMIN)
    assert sessions.authenticate(ann.ledger, before.token) is None
    with pytest.raises(Unauthenticated):
        signed_in(ann)
    signed_in(ann, password="other plain words here")


def test_a_new_role_holds_in_open_sessions(ann: Lab) -> None:
    opened = signed_in(ann)
    users.set_role(ann.ledger, "ann", Role.VIEWER, ADMIN)
    row = sessions.authenticate(ann.ledger, opened.token)
    assert row is not None
    assert row.role is Role.VIEWER or row.role == "viewer"


def test_a_session_is_ended_by_its_id(ann: Lab) -> None:
    opened, other = signed_in(ann), signed_in(ann)
    sessions.end(ann.ledger, opened.id, ADMIN)
    assert sessions.authenticate(ann.ledger, opened.token) is None
    assert [row.id for row in sessions.listed(ann.ledger, "ann")] == [other.id]
    with pytest.raises(SessionNotFound):
        sessions.end(ann.ledger, opened.id, ADMIN)


def test_no_other_token_is_a_session(ann: Lab) -> None:
    opened = signed_in(ann)
    forged = mint(SESSION, bytes.fromhex(opened.id), bytes(32))
    for token in (forged, mint(SESSION, bytes(8), bytes(32)), opened.token.replace("ors_", "orc_"), ""):
        assert sessions.authenticate(ann.ledger, token) is None


@pytest.mark.parametrize("password", ["", "short", "x" * 1025])
def test_a_password_has_a_length(lab: Lab, password: str) -> None:
    with pytest.raises(UsageError, match="characters"):
        users.create(lab.ledger, "ann", Role.VIEWER, password, ADMIN)


def test_no_password_is_kept(ann: Lab) -> None:
    signed_in(ann)
    tables = ("flow_users", "flow_sessions", "flow_audit")
    kept = "".join(str(ann.rows(f"SELECT * FROM {table}")) for table in tables)
    assert PASSWORD not in kept
    assert "$argon2id$" in kept
    assert "argon2" not in repr(users.listed(ann.ledger))


def test_a_name_is_given_once_and_an_unknown_one_is_told(ann: Lab) -> None:
    with pytest.raises(NameTaken):
        users.create(ann.ledger, "ann", Role.ADMIN, PASSWORD, ADMIN)
    with pytest.raises(UserNotFound, match="did you mean `ann`"):
        users.disable(ann.ledger, "anne", ADMIN)


def test_a_provider_of_identities_adds_and_changes_users(ann: Lab) -> None:
    """By who they are there, not by how they are called."""
    identified(ann, "sso")
    opened = identified(ann, "another name", Role.OPERATOR, ["staff", "on-call"])
    row = sessions.authenticate(ann.ledger, opened.token)
    assert row is not None
    assert (row.user_name, row.role, row.groups) == ("sso", "operator", ["staff", "on-call"])
    actions = [row.action for row in audit.listed(ann.ledger, limit=4)]
    assert actions == ["session.open", "user.change", "session.open", "user.create"]
    with pytest.raises(NameTaken, match="another user 'ann'"):
        identified(ann, "ann", Role.ADMIN, subject="8")
    signed_in(ann)


def test_two_replicas_add_a_user_once(ann: Lab) -> None:
    found = race(lambda: identified(ann, "sso"), lambda: identified(ann, "sso"))
    assert {one.user for one in found} == {"sso"}
    assert len(users.listed(ann.ledger)) == 2


def test_a_try_to_sign_in_is_taken_once_and_in_time(ann: Lab) -> None:
    attempt, late = Attempt("browser", "state"), Attempt("browser", "other")
    for one in (attempt, late):
        sign_ins.begin(ann.ledger, one, "/runs")
    assert sign_ins.take(ann.ledger, Attempt("another browser", "state")) is None
    assert [sign_ins.take(ann.ledger, attempt) for _ in range(2)] == ["/runs", None]
    ann.forward(sign_ins.LIFETIME.total_seconds() + 1)
    assert sign_ins.take(ann.ledger, late) is None
    sign_ins.begin(ann.ledger, attempt, "/")
    assert len(ann.rows("SELECT * FROM flow_sign_ins")) == 1


@pytest.mark.parametrize("name", ["admin", "viewer", "key:ci", "local", "nobody"])
def test_nobody_is_called_like_something_else(lab: Lab, name: str) -> None:
    """A user `key:ci` would be taken for the key in the record, a user `admin` would answer for all admins."""
    with pytest.raises(UsageError, match="means something else"):
        users.create(lab.ledger, name, Role.VIEWER, PASSWORD, ADMIN)


def test_changes_that_change_nothing_are_not_in_the_audit(ann: Lab) -> None:
    before = len(audit.listed(ann.ledger))
    users.set_role(ann.ledger, "ann", Role.OPERATOR, ADMIN)
    users.enable(ann.ledger, "ann", ADMIN)
    assert len(audit.listed(ann.ledger)) == before
