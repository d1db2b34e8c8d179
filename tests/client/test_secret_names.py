"""Fields that the installation says are secret: what is refused is told without them, whoever refuses it."""

import json
from collections.abc import Callable, Iterator

import pytest
from pydantic import BaseModel

from orchestrator import Client, Flow, Manifest, StepDef, approval, flow, step, wait_for_signal
from orchestrator.engine.flows import register
from orchestrator.errors import InputInvalid, OutputInvalid, SignalInvalid
from orchestrator.settings import Settings
from tests.cli.conftest import Cli, cli

__all__ = ["cli"]
CANARY = "canary-7c1d9e0a4b"
NAME = "iban"


class Transfer(BaseModel):
    iban: int
    amount: int = 1


@step
def use(value: int) -> int:
    return value


@flow
def pay(transfer: Transfer, iban: int) -> int:
    wait_for_signal(Transfer, name="paid")
    approval(Transfer, title="Is it right?", to="ada")
    return use(iban)


by_hand = Flow.from_manifest(
    Manifest(
        name="by_hand",
        input_schema={"additionalProperties": {"type": "integer"}},
        steps={"use": StepDef(type="use", inputs={"value": 1})},
    ),
    [use],
)
GOOD = {"transfer": {"iban": 1}, "iban": 1}


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings.model_copy(update={"secret_names": (NAME.upper(),)})) as made:
        for one in (pay, by_hand):
            register.register(made.ledger, one.manifest)
        yield made


REFUSED: dict[str, Callable[[Client], object]] = {
    "start by name": lambda client: client.start("pay", {**GOOD, "iban": CANARY}),
    "start by flow": lambda client: client.start(pay, {**GOOD, "iban": CANARY}),
    "deeper": lambda client: client.start("pay", {**GOOD, "transfer": {"iban": CANARY}}),
    "deeper by flow": lambda client: client.start(pay, {**GOOD, "transfer": {"iban": CANARY}}),
    "in what is wrong": lambda client: client.start("pay", {**GOOD, "transfer": [{"iban": CANARY}]}),
    "by hand": lambda client: client.start(by_hand, {"iban": CANARY}),
    "by hand, by name": lambda client: client.start("by_hand", {"iban": CANARY}),
    "rerun": lambda client: client.start("pay", GOOD).rerun(input={**GOOD, "iban": CANARY}),
    "rerun by flow": lambda client: client.start(pay, GOOD).rerun(input={**GOOD, "iban": CANARY}),
    "signal": lambda client: client.start("pay", GOOD).signal("paid", {"iban": CANARY}),
    "mark": lambda client: client.start("pay", GOOD).mark("paid", {"iban": CANARY}, "by hand"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_a_refusal_does_not_quote_them(client: Client, how: str) -> None:
    with pytest.raises((InputInvalid, OutputInvalid, SignalInvalid)) as refused:
        REFUSED[how](client)
    assert CANARY not in f"{refused.value!r} {refused.value} {refused.value.__cause__}"
    assert "fit" in str(refused.value) or "is not what" in str(refused.value)


def test_an_answer_that_is_refused_is_not_quoted(client: Client, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = client.start("pay", GOOD)
    handle.signal("paid", {"iban": 1})
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", client.settings.require_database_url())
    monkeypatch.setenv("ORCHESTRATOR_SECRET_NAMES", NAME)
    with pytest.raises(SignalInvalid) as refused:
        handle.answer("approval", {"iban": CANARY})
    said = [str(refused.value)]
    for text in (f'{{"{CANARY}', CANARY):
        said.append(cli("approval", "answer", f"{handle.id}/approval", "-i", f"iban={text}", code=None).err)
        said.append(cli("run", "start", "pay", "-i", f"iban={text}", code=None).err)
        said.append(cli("run", "rerun", str(handle.id), "-i", f"iban={text}", code=None).err)
    said.append(cli("run", "signal", str(handle.id), "paid", json.dumps({"iban": CANARY}), code=None).err)
    assert all(said)
    assert not [one for one in said if CANARY in one]


def test_another_field_is_quoted(client: Client) -> None:
    with pytest.raises(InputInvalid, match=CANARY):
        client.start("pay", {**GOOD, "transfer": {"iban": 1, "amount": CANARY}})
