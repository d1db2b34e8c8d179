"""API keys: who has one comes in, for as long as it works."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.core.access import KEY, Actor, Grant, Role, Scope, mint
from orchestrator.engine.access import audit, keys
from orchestrator.errors import KeyEnded, KeyNotFound, NameTaken, UsageError
from orchestrator.ledger.access import AuditFilter, Expiry
from tests.support.factories import Lab
from tests.support.race import race

ANN = Actor("ann", "k1", "192.0.2.7", "r-1")
OPERATOR = Grant(Role.OPERATOR, frozenset({Scope.RUNS, Scope.TRIGGER}), frozenset({"orders"}))


def made(lab: Lab, name: str = "ci", grant: Grant = OPERATOR, **fields: timedelta) -> keys.MadeKey:
    return keys.create(lab.ledger, name, grant, ANN, Expiry(**fields))


def lets_in(lab: Lab, text: str) -> bool:
    return keys.authenticate(lab.ledger, text) is not None


def test_a_key_lets_in_with_what_it_was_given(lab: Lab) -> None:
    key = made(lab)
    row = keys.authenticate(lab.ledger, key.text)
    assert row is not None
    assert (row.name, row.grant, row.state) == ("ci", OPERATOR, "live")


def test_no_other_key_lets_in(lab: Lab) -> None:
    """One that nobody has, one with the id of another, and what is no key."""
    key = made(lab)
    forged = mint(KEY, bytes.fromhex(key.row.id), bytes(32))
    for text in (mint(KEY, bytes(8), bytes(32)), forged, key.text[:-1], "", key.text + "\x00"):
        assert not lets_in(lab, text)


def test_the_ledger_has_no_key(lab: Lab) -> None:
    """Not in any column of any table: a dump of the database lets nobody in."""
    key = made(lab)
    rotated = keys.rotate(lab.ledger, "ci", ANN)
    kept = str(lab.rows("SELECT *, encode(digest, 'hex') FROM flow_api_keys")) + str(
        lab.rows("SELECT * FROM flow_audit")
    )
    for text in (key.text, rotated.text):
        assert text not in kept
        assert text.split("_")[2] not in kept
        assert key.text not in repr(key)


def test_an_expired_key_lets_nobody_in(lab: Lab) -> None:
    key = made(lab, after=timedelta(hours=1))
    assert lets_in(lab, key.text)
    lab.forward(3601)
    assert not lets_in(lab, key.text)
    assert keys.listed(lab.ledger) == []
    assert [row.state for row in keys.listed(lab.ledger, ended=True)] == ["expired"]


def test_a_key_that_would_have_expired_is_refused(lab: Lab) -> None:
    with pytest.raises(UsageError, match="would have expired"):
        keys.create(lab.ledger, "ci", OPERATOR, ANN, Expiry(at=datetime(2020, 1, 1, tzinfo=UTC)))
    assert lab.rows("SELECT * FROM flow_api_keys") == []


@pytest.mark.parametrize("name", ["", "<script>", "a\nb", "x" * 101])
def test_a_key_has_a_plain_name(lab: Lab, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        made(lab, name)


def test_a_name_is_given_once_until_its_key_is_revoked(lab: Lab) -> None:
    made(lab)
    with pytest.raises(NameTaken, match="key rotate"):
        made(lab)
    keys.revoke(lab.ledger, "ci", ANN)
    made(lab)


def test_two_who_take_a_name_at_once_get_one_key(lab: Lab) -> None:
    found = race(*(lambda: made(lab) for _ in range(4)))
    assert sum(isinstance(one, keys.MadeKey) for one in found) == 1
    assert sum(isinstance(one, NameTaken) for one in found) == 3


def test_after_a_rotation_both_keys_work_for_the_overlap(lab: Lab) -> None:
    before = made(lab)
    after = keys.rotate(lab.ledger, "ci", ANN, overlap=timedelta(hours=1))
    assert lets_in(lab, before.text)
    row = keys.authenticate(lab.ledger, after.text)
    assert row is not None
    assert row.grant == OPERATOR
    lab.forward(3601)
    assert not lets_in(lab, before.text)
    assert lets_in(lab, after.text)


def test_a_rotation_gives_no_key_a_longer_life(lab: Lab) -> None:
    """The one before ends when it would have; the new one lives as long as that was made to."""
    before = made(lab, after=timedelta(minutes=10))
    lab.forward(300)
    after = keys.rotate(lab.ledger, before.row.id, ANN, overlap=timedelta(days=1))
    lab.forward(301)
    assert not lets_in(lab, before.text)
    assert lets_in(lab, after.text)
    lab.forward(300)
    assert not lets_in(lab, after.text)


def test_a_key_is_rotated_once(lab: Lab) -> None:
    """Two at once would leave a key that nobody knows of."""
    before = made(lab)
    found = race(*(lambda: keys.rotate(lab.ledger, before.row.id, ANN) for _ in range(3)))
    assert sum(isinstance(one, keys.MadeKey) for one in found) == 1
    with pytest.raises(KeyEnded, match="was replaced by"):
        keys.rotate(lab.ledger, before.row.id, ANN)


def test_an_expired_key_is_not_rotated(lab: Lab) -> None:
    made(lab, after=timedelta(minutes=1))
    lab.forward(61)
    with pytest.raises(KeyEnded, match="has expired"):
        keys.rotate(lab.ledger, "ci", ANN)


def test_a_revoked_name_lets_nobody_in(lab: Lab) -> None:
    """Nor does the key that a rotation let work on: whoever revokes thinks of a leak."""
    before = made(lab)
    after = keys.rotate(lab.ledger, "ci", ANN)
    other = made(lab, "other")
    assert {row.id for row in keys.revoke(lab.ledger, "ci", ANN)} == {before.row.id, after.row.id}
    assert [lets_in(lab, one.text) for one in (before, after, other)] == [False, False, True]


def test_one_key_is_revoked_by_its_id(lab: Lab) -> None:
    before = made(lab)
    after = keys.rotate(lab.ledger, "ci", ANN)
    keys.revoke(lab.ledger, before.row.id, ANN)
    assert [lets_in(lab, one.text) for one in (before, after)] == [False, True]
    with pytest.raises(KeyNotFound):
        keys.revoke(lab.ledger, before.row.id, ANN)


def test_an_unknown_key_is_told_with_the_nearest(lab: Lab) -> None:
    made(lab, "deploy")
    with pytest.raises(KeyNotFound, match="did you mean `deploy`"):
        keys.revoke(lab.ledger, "depoy", ANN)


def test_use_is_noted_once_a_minute(lab: Lab) -> None:
    key = made(lab)
    keys.authenticate(lab.ledger, key.text)
    assert keys.listed(lab.ledger)[0].last_used_at is None
    keys.used(lab.ledger, {key.row.id})
    first = keys.listed(lab.ledger)[0].last_used_at
    assert first is not None
    keys.used(lab.ledger, {key.row.id})
    assert keys.listed(lab.ledger)[0].last_used_at == first
    lab.forward(61)
    keys.used(lab.ledger, {key.row.id})
    assert (
        keys.listed(lab.ledger)[0].last_used_at
        == lab.rows("SELECT max(last_used_at) AS at FROM flow_api_keys")[0]["at"]
    )
    assert keys.listed(lab.ledger)[0].last_used_at != first


def test_every_change_is_in_the_audit(lab: Lab) -> None:
    key = made(lab)
    rotated = keys.rotate(lab.ledger, "ci", ANN)
    keys.revoke(lab.ledger, rotated.row.id, ANN, reason="it leaked")
    revoked, rotation, creation = audit.listed(lab.ledger)
    assert [row.action for row in (creation, rotation, revoked)] == ["key.create", "key.rotate", "key.revoke"]
    assert {(row.actor, row.key_id, row.address, row.request_id) for row in (creation, rotation, revoked)} == {
        ("ann", "k1", "192.0.2.7", "r-1")
    }
    assert (creation.became or {})["scopes"] == ["runs", "trigger"]
    assert (rotation.was or {})["id"] == key.row.id
    assert (revoked.reason, revoked.target) == ("it leaked", f"key/{rotated.row.id}")


def test_the_audit_is_found_by_what_and_when(lab: Lab) -> None:
    made(lab)
    lab.forward(3600)
    keys.revoke(lab.ledger, "ci", Actor("bob"))
    edge = lab.rows("SELECT max(at) AS at FROM flow_audit")[0]["at"]
    for wanted in (AuditFilter(actor="bob"), AuditFilter(action="key.revoke"), AuditFilter(since=edge)):
        assert [row.action for row in audit.listed(lab.ledger, wanted)] == ["key.revoke"]
    assert [row.action for row in audit.listed(lab.ledger, AuditFilter(until=edge))] == ["key.create"]
    (newest,) = audit.listed(lab.ledger, limit=1)
    assert [row.action for row in audit.listed(lab.ledger, before=newest.id)] == ["key.create"]
