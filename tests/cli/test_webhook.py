"""`orchestrator webhook`: what came, why it was refused, replays, and a sample that is posted to a true API."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from orchestrator import Webhook, env, flow
from orchestrator.client import Client
from orchestrator.engine.flows import register
from orchestrator.engine.webhooks.gatekeeper import Gatekeeper
from orchestrator.engine.webhooks.receive import receive
from orchestrator.http.app import create_app
from orchestrator.servers.secrets import References
from orchestrator.settings import Settings
from orchestrator.webhooks.request import Request
from tests.cli.conftest import Cli
from tests.support.deliveries import KEY, SAMPLES
from tests.support.eventually import eventually
from tests.support.small_flows import greet

SECRET = "WEBHOOK_CLI_SECRET"


@flow(
    name="told",
    webhooks=[
        Webhook("told", scheme="github", secret=env(SECRET), input={"word": "@triggerBody()?.id"}),
        Webhook("stripe", scheme="stripe", secret=env(SECRET), mode="audit", input={"word": "@triggerBody()?.id"}),
    ],
)
def told(word: str) -> str:
    return greet(word)


@pytest.fixture
def hooks(stack: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A ledger that knows the webhooks; the secret is set."""
    register.register(stack.ledger, told.manifest)
    monkeypatch.setenv(SECRET, KEY)
    return stack


def call(stack: Client, request: Request, secret: str = KEY) -> str:
    done = receive(stack.ledger, Gatekeeper(References({SECRET: secret})), "told", request)
    return str(done.id)


def test_webhooks_and_what_came_are_listed(cli: Cli, hooks: Client) -> None:
    assert "Nothing came." in cli("webhook", "recent").err
    call(hooks, SAMPLES["github"]().request())
    call(hooks, Request.of(b"{}", {"x-hub-signature-256": "sha256=00"}, address="192.0.2.7"))
    rows = {row["slug"]: row for row in cli("webhook", "ls", "-o", "json").json}
    assert (rows["told"]["accepted"], rows["told"]["refused"], rows["stripe"]["mode"]) == (1, 1, "audit")
    assert "no key of ours made its signature" in cli("webhook", "recent", "told", "--refused").out
    assert [row["outcome"] for row in cli("webhook", "recent", "-o", "json").json] == ["refused", "started"]
    counts = {(row["outcome"], row["gate"]): row["count"] for row in cli("webhook", "stats", "-o", "json").json}
    assert counts == {("started", None): 1, ("refused", "signature"): 1}


def test_a_delivery_is_shown_gate_by_gate(cli: Cli, hooks: Client) -> None:
    delivery = call(hooks, Request.of(b'{"token": "hunter2", "n": 1}', {"x-hub-signature-256": "sha256=00"}))
    said = cli("webhook", "show", delivery[-6:])
    assert "signature" in said.out
    assert "no key of ours" in said.out
    assert '"token": "***"' in said.out
    assert "hunter2" not in said.out
    assert "orchestrator webhook replay" in said.err
    assert cli("webhook", "show", delivery, "-o", "json").json["body"] == {"token": "***", "n": 1}
    assert "webhook_not_found" in cli("webhook", "show", "ffffffff", code=3).err


def test_what_was_refused_is_replayed(cli: Cli, hooks: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    call(hooks, SAMPLES["github"]().request(), secret="another")
    monkeypatch.setenv(SECRET, "another still")
    assert "refused" in cli("webhook", "replay", "--all", "told", code=1).out
    monkeypatch.setenv(SECRET, KEY)
    (first, second) = cli("webhook", "recent", "--refused", "-o", "json").json
    said = cli("webhook", "replay", second["id"])
    assert "started" in said.out
    assert "was replayed already" in cli("webhook", "replay", second["id"], code=7).err
    assert "seen" in cli("webhook", "replay", "--all", "told").out  # the one that the first replay left
    assert first["replay_of"] == second["id"]
    assert "one of the two" in cli("webhook", "replay", code=2).err


@contextmanager
def served(settings: Settings) -> Iterator[str]:
    """A true server on this machine."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


def test_a_sample_is_signed_and_posted(
    cli: Cli, hooks: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(settings) as url:
        said = cli("webhook", "test", "stripe", "--url", url, "--body", '{"id": "evt_9"}')
        assert said.out.startswith("202 ")
        again = cli("webhook", "test", "stripe", "--url", url, "--body", '{"id": "evt_9"}')
        assert again.out.startswith("200 ")
        monkeypatch.setenv(SECRET, "not what the API has")
        refused = cli("webhook", "test", "told", "--url", url, code=None)
    assert refused.out.startswith("422 ")  # the API reads the same environment here; the sample has no `id`
    assert len(hooks.runs(flow="told")) == 1
    assert "cannot be reached" in cli("webhook", "test", "told", "--url", "http://127.0.0.1:1", code=2).err
    monkeypatch.delenv(SECRET)
    assert f"{SECRET} is not set" in cli("webhook", "test", "told", code=2).err
    assert "webhook_not_found" in cli("webhook", "test", "nobody", code=3).err
