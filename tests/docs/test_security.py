"""What `docs/security.md` says of webhooks and proxies is what happens."""

import re
import shlex
from ipaddress import ip_address

import pytest

from orchestrator import Webhook, env, flow
from orchestrator.client import Client
from orchestrator.engine.flows import register
from orchestrator.settings import Settings
from orchestrator.webhooks.addresses import client_address
from orchestrator.webhooks.out.bounds import BOUNDS
from orchestrator.webhooks.out.model import PORTS, AddressRules
from orchestrator.webhooks.out.places import PlaceRefused, check_addresses, read_place
from orchestrator.webhooks.out.post import DRAINED
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


def test_the_guard_of_what_is_sent_is_the_one_that_is_described() -> None:
    text = pages.section(PAGE, "Where webhooks may be sent")
    bounds = f"after {BOUNDS.total_s:g} s, whatever the other side does: {BOUNDS.connect_s:g} s for a connection, "
    assert f"{bounds}{BOUNDS.read_s:g} s between" in text
    assert f"{DRAINED // 1024} KiB" in text
    *ports, last = sorted(PORTS)
    assert f"ports but {', '.join(map(str, ports))} and {last}," in text
    for spelling in ("127.1", "0x7f.1", "2130706433", "127.0.0.1.", "[fe80::1%25eth0]"):
        with pytest.raises(PlaceRefused):
            read_place(f"https://{spelling}/", AddressRules())
    (setting,) = [one for one in pages.code(text) if one.startswith("ORCHESTRATOR_WEBHOOK_NETWORKS=")]
    rules = AddressRules.of(Settings.from_env(dict([setting.split("=", 1)])).webhook_networks)
    check_addresses("name", [ip_address("10.1.2.3")], rules)
    with pytest.raises(PlaceRefused):
        check_addresses("name", [ip_address("10.1.0.1")], rules)
