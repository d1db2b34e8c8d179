"""Which headers of a request are kept with its run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.headers import BYTES, MOST, is_secret, kept


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Authorization",
            "Proxy-Authorization",
            "Cookie",
            "Set-Cookie",
            "X-Auth-Token",
            "X-Api-Key",
            "x-forwarded-cookie",
        ),
        *("Stripe-Signature", "X-Hub-Signature-256", "X-Shopify-Hmac-Sha256", "X-Gitlab-Token", "Webhook-Secret"),
        *("X_API_KEY", "apikey", "X-ApiKey", "Idempotency-Key", "X-Goog-IAP-JWT-Assertion", "token", "X-Password"),
    ],
)
def test_what_proves_who_sent_it_is_never_kept(name: str) -> None:
    assert is_secret(name)
    assert kept({name: "x", name.upper(): "y", "x-request-id": "r"}) == {"x-request-id": "r"}


@pytest.mark.parametrize("name", ["X-Request-Id", "X-GitHub-Event", "Keyboard", "X-Token-Count", "", "-"])
def test_what_says_what_the_request_is_about_is_kept(name: str) -> None:
    assert kept({name: "x"}) == {name.lower(): "x"}


def test_one_that_came_several_times_has_all_its_values() -> None:
    assert kept([("Accept", "a"), ("X-Id", "1"), ("accept", "b")]) == {"accept": "a, b", "x-id": "1"}


def test_no_more_than_the_limits_are_kept_and_a_large_one_costs_no_other() -> None:
    assert len(kept({f"x-{n}": "v" for n in range(200)})) == MOST
    found = kept({"x-first": "1", "x-large": "v" * BYTES, "x-last": "2"})
    assert found == {"x-first": "1", "x-last": "2"}
    assert kept({"x": "v" * (BYTES - 1)}) != {}


@pytest.mark.parametrize("value", ["a\x00b", "\ud800"])
def test_what_the_ledger_cannot_hold_is_left_out(value: str) -> None:
    assert kept({"x-a": value, "x-b": "1"}) == {"x-b": "1"}


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=300), max_size=100))
def test_any_headers_fit_and_are_kept_again_as_they_are(headers: dict[str, str]) -> None:
    found = kept(headers)
    assert len(found) <= MOST
    assert sum(len(name.encode()) + len(value.encode()) for name, value in found.items()) <= BYTES
    assert kept(found) == found
