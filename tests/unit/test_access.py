"""What a key looks like, and what a role may do."""

import hashlib
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.access import KEY, SESSION, Credential, Grant, Role, Scope, is_name, mint, read, same

ID, SECRET = bytes(range(8)), bytes(range(32))
TEXT = mint(KEY, ID, SECRET)


def test_a_key_is_written_as_the_docs_say() -> None:
    """Composed here by hand: scanners for leaked secrets are told this form."""
    body = "orc_0001020304050607_" + "".join(f"{n:02x}" for n in range(32))
    assert f"{body}_{zlib.crc32(body.encode()):08x}" == TEXT


def test_what_is_kept_of_a_key_is_its_id_and_a_digest() -> None:
    assert read(KEY, TEXT) == Credential(ID.hex(), hashlib.sha256(SECRET).digest())


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=32, max_size=32), st.sampled_from([KEY, SESSION]))
def test_every_key_is_read_as_its_kind_only(id_bytes: bytes, secret: bytes, kind: str) -> None:
    text = mint(kind, id_bytes, secret)
    assert read(kind, text) == Credential(id_bytes.hex(), hashlib.sha256(secret).digest())
    assert read(SESSION if kind == KEY else KEY, text) is None


@pytest.mark.parametrize("place", range(len(TEXT)))
def test_no_character_of_a_key_may_differ(place: int) -> None:
    """The checksum finds each typing error, before anybody asks the ledger."""
    for other in "0f_G" if TEXT[place] != "0" else "1f_G":
        if other != TEXT[place]:
            assert read(KEY, TEXT[:place] + other + TEXT[place + 1 :]) is None


@pytest.mark.parametrize("text", ["", "orc_", TEXT[:-1], TEXT + "0", TEXT.upper(), f" {TEXT}", f"{TEXT}\n", "orc_" * 9])
def test_what_is_no_key_is_not_read(text: str) -> None:
    assert read(KEY, text) is None


@pytest.mark.parametrize(("id_bytes", "secret"), [(ID, SECRET[:-1]), (ID[:-1], SECRET), (ID, SECRET + b"x")])
def test_a_key_is_never_shorter(id_bytes: bytes, secret: bytes) -> None:
    with pytest.raises(ValueError, match="8 and 32 bytes"):
        mint(KEY, id_bytes, secret)


def test_an_unknown_digest_is_like_no_other() -> None:
    """Not like the zeros that stand for it either."""
    assert same(b"a" * 32, b"a" * 32)
    assert not same(b"a" * 32, b"b" * 32)
    assert not same(None, bytes(32))


def test_each_role_may_do_what_the_one_before_it_may() -> None:
    for lower, higher in pairwise(Role):
        assert higher.covers(lower)
        assert not lower.covers(higher)
        assert lower.covers(lower)


def test_scopes_narrow_a_role_and_widen_none() -> None:
    wide = Grant(Role.OPERATOR)
    assert all(wide.allows(Role.OPERATOR, scope) and not wide.allows(Role.ADMIN, scope) for scope in Scope)
    narrow = Grant(Role.OPERATOR, frozenset({Scope.RUNS}))
    assert [scope for scope in Scope if narrow.allows(Role.VIEWER, scope)] == [Scope.RUNS]
    assert not narrow.allows(Role.ADMIN, Scope.RUNS)


def test_flows_narrow_too() -> None:
    assert Grant(Role.VIEWER).reaches("any")
    assert [flow for flow in ("a", "b") if Grant(Role.VIEWER, flows=frozenset({"a"})).reaches(flow)] == ["a"]


@pytest.mark.parametrize("name", ["ci", "Ann Lee", "ann@example.com", "svc/deploy:eu-1", "Zoë", "a" * 100])
def test_what_people_and_programs_are_called(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "-a", "<b>", "a\nb", "a\x1b[31m", "a" * 101, "a'b", 'a"b', "a&b", "a,b"]
)
def test_no_name_can_be_read_as_anything_else(name: str) -> None:
    assert not is_name(name)
