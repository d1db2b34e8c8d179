"""What `docs/security.md` says of webhooks and proxies is what happens."""

import re
import shlex

import pytest

from orchestrator import Webhook, env, flow
from orchestrator.client import Client
from orchestrator.engine.flows import register
from orchestrator.settings import Settings
from orchestrator.webhooks.addresses import client_address
from tests.cli.conftest import Cli
from tests.cli.test_webhook import served
from tests.docs import pages
from tests.support.deliveries import KEY
from tests.support.small_flows import greet

PAGE = "docs/security.md"
ROLLOUT = "Bringing webhooks in"


@flow(name="orders_in", webhooks=[Webhook("orders", scheme="github", secret=env("ORDERS_SECRET"), input={"word": "x"})])
def orders_in(word: str) -> str:
    return greet(word)


def commands(mode: str) -> list[list[str]]:
    """Of the step of that mode, in order."""
    text = pages.text_of(PAGE).partition(f"## {ROLLOUT}\n")[2].partition("\n## ")[0]
    step = text.partition(f". **`{mode}`**")[2]
    block = re.search(r"```sh\n(.*?)```", step, re.DOTALL)
    assert block
    return [shlex.split(line)[1:] for line in block[1].splitlines() if line.strip()]


@pytest.mark.parametrize("row", pages.table(pages.section(PAGE, ROLLOUT)), ids=lambda row: row[0])
def test_a_step_of_the_rollout_goes_as_it_is_written(
    row: list[str], cli: Cli, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every command of the step, and true deliveries by HTTP."""
    import httpx2

    mode, signed, unsigned, counted = row
    monkeypatch.setenv("ORDERS_SECRET", KEY)
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", settings.require_database_url())
    with Client(settings) as client:
        register.register(client.ledger, orders_in.manifest)
    changed = settings.model_copy(update={"webhook_mode": mode.strip("`")})
    with served(changed) as url:
        sample = cli("webhook", "test", "orders", "--url", url)
        answer = httpx2.post(f"{url}/api/webhook/orders", json={"n": 1})
        assert (sample.out.split()[0], str(answer.status_code)) == (signed, unsigned)
        rows = cli("webhook", "stats", "orders", "-o", "json").json
        outcome, _, gate = counted.partition(", gate ")
        assert (outcome, gate or None) in {(one["outcome"], one["gate"]) for one in rows}
        last = cli("webhook", "recent", "orders", "-o", "json").json[0]["id"]
        for words in commands(mode.strip("`")):
            given = {"http://127.0.0.1:8000": url, "3f2a": last}
            # A replay of what nobody signed is refused again, and says so by its exit code.
            said = cli(*(given.get(word, word) for word in words), code=None)
            assert said.code == ("replay" in words), said
            assert said.out.strip()


def test_the_client_is_the_one_that_the_table_says() -> None:
    for depth, peer, forwarded, wanted in pages.table(pages.section(PAGE, "Behind proxies")):
        found = client_address(peer, [forwarded], int(depth))
        assert (found or "unknown") == wanted
