"""Webhooks of a flow as they are written in Python, and where their secrets are read."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator import Webhook, env, flow, secret_file, step
from orchestrator.errors import AuthoringError
from orchestrator.servers.secrets import References


@step
def book(order: str) -> str:
    return order


def test_webhooks_are_triggers_of_the_manifest() -> None:
    hooks = [
        Webhook(
            "stripe-payments",
            scheme="Stripe",
            secret=env("STRIPE_SECRET"),
            previous_secret=secret_file("/run/secrets/old"),
            addresses=["stripe", "!192.0.2.1"],
            tolerance="2m",
            rate={"limit": 10, "per": "1m", "by": "address"},
            input={"order": "@triggerBody()?.data.object.id"},
        ),
        Webhook(
            "acme",
            scheme="custom",
            secret=env("ACME"),
            signature={"signature": "header:x-acme", "prefix": "v1=", "content": "{body}"},
        ),
    ]

    @flow(webhooks=hooks)
    def orders(order: str) -> str:
        return book(order)

    stripe, acme = orders.manifest.webhooks.values()
    assert (stripe.scheme, stripe.secret, stripe.previous_secret) == (
        "stripe",
        "env:STRIPE_SECRET",
        "file:/run/secrets/old",
    )
    assert acme.signature is not None
    assert acme.signature.prefix == "v1="
    assert list(orders.manifest.triggers) == ["manual", "stripe-payments", "acme"]


@pytest.mark.parametrize(
    ("webhooks", "problem"),
    [
        (Webhook("a", scheme="github", secret="env:A"), "is not a list"),
        (["a"], "is not a webhook of flow `orders`"),
        ([Webhook("manual", scheme="github", secret="env:A")], "has a trigger `manual` already"),
        ([Webhook("a b", scheme="github", secret="env:A")], "triggers.a b: a key has"),
        ([Webhook("a", scheme="git", secret="env:A")], "triggers.a.scheme: There is no webhook scheme 'git'"),
        ([Webhook("a", scheme="github", secret="sk_live")], "a secret is given by reference"),
        ([Webhook("a", scheme="github", secret="env:A", addresses="github")], "is not a list"),
        ([Webhook("a", scheme="github", secret="env:A", addresses=["githib"])], "did you mean `github`?"),
        ([Webhook("a", scheme="github", secret="env:A", input={"ordr": 1})], "did you mean `order`?"),
        ([Webhook("a", scheme="github", secret="env:A", input={})], "the flow needs the input `order`"),
    ],
)
def test_what_is_wrong_with_a_webhook_is_told_at_the_flow(webhooks: Any, problem: str) -> None:
    with pytest.raises(AuthoringError) as caught:

        @flow(webhooks=webhooks)
        def orders(order: str) -> str:
            return book(order)

    assert problem in str(caught.value)
    assert __file__ in str(caught.value)
    assert "sk_live" not in str(caught.value)


def test_a_secret_is_read_where_its_reference_says(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from a file\n")
    read = References({"A": "from the environment", "EMPTY": ""})
    assert read("env:A") == "from the environment"
    assert read(f"file:{file}") == "from a file"
    for reference in ("env:B", "env:EMPTY", f"file:{tmp_path}/none", f"file:{tmp_path}"):
        with pytest.raises(LookupError, match=r"is not set|cannot be read"):
            read(reference)
    file.write_bytes(b"\xff")
    with pytest.raises(LookupError, match="not UTF-8"):
        read(f"file:{file}")
    assert "environment" not in repr(read)
