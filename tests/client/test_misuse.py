"""What a slip of the pen is answered with: a UsageError that says what to write instead."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.client import Client
from orchestrator.errors import DurationInvalid, UsageError, WaitTimeout
from orchestrator.settings import Settings
from tests.support.small_flows import hello

ANY: Any = None


def plain() -> None: ...


@pytest.mark.parametrize(
    ("misuse", "said"),
    [
        (lambda client: client.start(plain), "`plain` is a function"),
        (lambda client: client.start(None), "not NoneType"),
        (lambda client: client.start(17), "not int"),
        (
            lambda client: client.start(hello, {"name": "x"}, name="y"),
            "`name` is given in the mapping and as a keyword",
        ),
        (lambda client: client.start(hello, name="x", idempotency_key=17), "An idempotency key is a string, not 17"),
        (lambda client: client.start(hello, name="x", tags=[1]), "A tag is a string, not 1"),
    ],
)
def test_a_misuse_is_named(client: Client, misuse: Callable[[Any], object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        misuse(client)
    assert client.runs() == []


def test_a_closed_client_says_so(settings: Settings) -> None:
    with Client(settings) as client:
        run = client.start(hello, name="x")
    for use in (lambda: client.start(hello, name="x"), run.status):
        with pytest.raises(UsageError, match="This client is closed"):
            use()


@pytest.mark.parametrize("timeout", [0.05, "50ms", timedelta(seconds=0.05)])
def test_a_wait_takes_a_length_of_time_like_everything_else(client: Client, timeout: Any) -> None:
    run = client.start(hello, name="x")
    with pytest.raises(WaitTimeout, match=r"after 0\.05 s"):
        run.result(timeout=timeout)
    with pytest.raises(DurationInvalid):
        run.wait(timeout="soon")
