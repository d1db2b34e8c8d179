"""`orchestrator subscription` and `notification`: who is told what, and what became of it."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from standardwebhooks import Webhook

from orchestrator.client import Client
from orchestrator.delivery import outbound
from orchestrator.engine.runs import cancel_run
from orchestrator.engine.subscriptions import deliver, feed
from orchestrator.settings import Settings
from tests.cli.conftest import Cli
from tests.cli.ways import Author
from tests.webhooks.listeners import Listener, listening

KEY = "k" * 40


@pytest.fixture
def endpoint() -> Iterator[Listener]:
    with listening() as made:
        yield made


@pytest.fixture
def settings(settings: Settings, endpoint: Listener, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As on a machine that may send to itself."""
    changes = {"webhook_plain_http": True, "webhook_networks": ("127.0.0.1",), "webhook_ports": (443, endpoint.port)}
    for name, value in {**changes, "signing_key": KEY}.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        monkeypatch.setenv(f"ORCHESTRATOR_{name.upper()}", text)
    return Settings.model_validate({**dict(settings), **changes, "signing_key": KEY})


def happen(stack: Client) -> str:
    """A run is cancelled; its id."""
    run = stack.start("hello", name="you")
    cancel_run.cancel(stack.ledger, run.id, by="bob", reason="x", grace=timedelta(0))
    return str(run.id)


def send(stack: Client) -> list[str | None]:
    """What a worker does."""
    feed.page(stack.ledger, timedelta(days=3))
    post = outbound.post(stack.settings, {})
    return [deliver.deliver(stack.ledger, one, post) for one in deliver.claim(stack.ledger, 10)]


def test_a_subscription_is_made_shown_changed_and_deleted(
    cli: Cli, stack: Client, endpoint: Listener, author: Author
) -> None:
    url = f"http://127.0.0.1:{endpoint.port}/hook?token=x"
    made = cli("subscription", "create", "crm", url, "--on", "run.cancelled", *author.by("ann"))
    secret = made.out.strip()
    assert secret.startswith("whsec_")
    assert "not shown again" in made.err
    (row,) = cli("subscription", "ls", "-o", "json").json
    assert (row["name"], row["types"], row["breaker"]) == ("crm", ["run.cancelled"], "closed")
    assert row["address"] == url.replace("token=x", "…")
    assert secret not in cli("subscription", "show", "crm", "-o", "json").out
    cli("subscription", "update", "crm", "--where", "flow:hello", "--disable")
    shown = cli("subscription", "show", "crm", "-o", "json").json["shown"]
    assert (shown["q"], shown["enabled"], shown["created_by"]) == ("flow:hello", False, author.recorded("ann"))
    assert "deleted" in cli("subscription", "delete", "crm", "--reason", "moved").out
    assert "There is no subscription" in cli("subscription", "show", "crm", code=3).err
    actions = [row["action"] for row in cli("audit", "ls", "-o", "json").json]
    assert actions == ["subscription.delete", "subscription.update", "subscription.create"]


def test_what_it_is_told_is_sent_and_shown(cli: Cli, stack: Client, endpoint: Listener) -> None:
    url = f"http://127.0.0.1:{endpoint.port}/"
    secret = cli("subscription", "create", "crm", url, "--on", "run.cancelled").out.strip()
    run_id = happen(stack)
    assert send(stack) == ["delivered"]
    told = Webhook(secret).verify(endpoint.taken[0].body, endpoint.taken[0].headers)
    assert told["data"]["run_id"] == run_id
    (row,) = cli("notification", "ls", "crm", "-o", "json").json
    shown = cli("notification", "show", row["id"], "-o", "json").json
    assert shown["data"]["run_id"] == run_id
    assert [one["status"] for one in shown["attempts"]] == [200]
    assert "run.cancelled" in cli("notification", "show", row["id"][-6:]).out
    found = cli("subscription", "show", "crm", "-o", "json").json["lately"]
    assert found == {"delivered": {"n": 1, "at_first": 1}}


def test_dead_ones_are_redriven(cli: Cli, stack: Client, endpoint: Listener) -> None:
    cli("subscription", "create", "crm", f"http://127.0.0.1:{endpoint.port}/", "--on", "run.cancelled")
    happen(stack)
    endpoint.status = 410
    assert send(stack) == ["dead"]
    assert "410" in cli("subscription", "ls").out
    cli("subscription", "update", "crm", "--enable")
    endpoint.status = 200
    (row,) = cli("notification", "ls", "--state", "dead", "-o", "json").json
    assert "1 are sent again" in cli("notification", "redrive", row["id"]).out
    assert send(stack) == ["delivered"]
    assert "not dead" in cli("notification", "redrive", row["id"], code=7).err
    assert "0 are sent again" in cli("notification", "redrive", "--all", "crm").out
    cli("notification", "redrive", code=2)


def test_a_secret_is_rotated_and_tried(cli: Cli, stack: Client, endpoint: Listener) -> None:
    url = f"http://127.0.0.1:{endpoint.port}/"
    old = cli("subscription", "create", "crm", url, "--on", "run.failed").out.strip()
    new = cli("subscription", "rotate", "crm", "--overlap", "1h", "-o", "json").json["made_secret"]
    assert old != new
    cli("subscription", "test", "crm")
    assert send(stack) == ["delivered"]
    for secret in (old, new):
        assert Webhook(secret).verify(endpoint.taken[0].body, endpoint.taken[0].headers)["type"] == "subscription.test"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("http://10.0.0.1:443/", "--on", "run.failed"), "may not reach"),
        (("https://hooks.example.com:22/", "--on", "run.failed"), "Port 22"),
        (("https://hooks.example.com/", "--on", "run.faild"), "did you mean `run.failed`"),
        (("https://hooks.example.com/",), "--on"),
        (("https://hooks.example.com/", "--on", "run.failed", "--where", "statuss:x"), "statuss"),
        (("https://hooks.example.com/", "--on", "run.failed", "--secret", "hunter2"), "by reference"),
    ],
)
def test_what_does_not_fit_is_refused(cli: Cli, stack: Client, arguments: tuple[str, ...], said: str) -> None:
    refused = cli("subscription", "create", "crm", *arguments, code=2)
    assert said in refused.err
    assert "hunter2" not in refused.err
    assert cli("subscription", "ls", "-o", "json").json == []


def test_a_name_is_taken_once(cli: Cli, stack: Client) -> None:
    create = ("subscription", "create", "crm", "https://hooks.example.com/", "--on", "run.failed")
    cli(*create)
    assert "name" in cli(*create, code=7).err


def test_slack_is_not_signed_and_its_url_not_shown(cli: Cli, stack: Client) -> None:
    url = "https://hooks.slack.com/services/T0/B0/XXXX"
    made = cli("subscription", "create", "ops", url, "--kind", "slack", "--on", "run.failed")
    assert made.out.strip() == ""
    assert "XXXX" not in cli("subscription", "ls", "-o", "json").out
    assert "nobody signs" in cli("subscription", "rotate", "ops", code=2).err
