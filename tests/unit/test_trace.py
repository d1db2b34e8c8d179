"""Which traces of requests are kept: those that W3C's Trace Context allows."""

import pytest

from orchestrator.core import trace

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "parent",
    [GOOD, GOOD[:-2] + "00", "cc" + GOOD[2:], "cc" + GOOD[2:] + "-what-will-be-new", f" {GOOD} "],
)
def test_a_valid_parent_is_kept_as_it_came(parent: str) -> None:
    assert trace.of_headers({"Traceparent": parent}) == {"traceparent": parent.strip()}


@pytest.mark.parametrize(
    "parent",
    [
        "",
        GOOD.upper(),
        GOOD[:-1],
        GOOD + "-more",
        "ff" + GOOD[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        GOOD.replace("-", "_"),
        "cc" + GOOD[2:] + "-" + "x" * 600,
        f"{GOOD}, {GOOD}",
    ],
)
def test_an_invalid_one_is_not(parent: str) -> None:
    assert trace.of_headers({"traceparent": parent, "tracestate": "a=b"}) == {}


def test_two_parents_are_none() -> None:
    assert trace.of_headers([("traceparent", GOOD), ("Traceparent", GOOD)]) == {}


def test_the_state_comes_along_in_the_order_of_its_headers() -> None:
    headers = [("tracestate", "a=1"), ("traceparent", GOOD), ("tracestate", "b=2")]
    assert trace.of_headers(headers) == {"traceparent": GOOD, "tracestate": "a=1,b=2"}
    assert trace.of_headers({"traceparent": GOOD, "tracestate": "x" * 513}) == {"traceparent": GOOD}
    assert trace.as_json({}) is None
