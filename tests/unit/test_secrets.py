"""Where secrets are, and what is shown instead."""

import json
from typing import Any

import pytest
from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError
from pydantic import Secret as PydanticSecret

from orchestrator import (
    AuthoringError,
    Cron,
    Manifest,
    Schedule,
    Secret,
    StepDef,
    approval,
    block,
    each,
    either,
    flow,
    require,
    step,
    wait_for_signal,
    when,
)
from orchestrator.core.expressions import EvaluationFailed, Scope, evaluate, parse_bare
from orchestrator.core.expressions.shown import with_values
from orchestrator.core.inputs import Inputs
from orchestrator.core.schemas import misfits
from orchestrator.core.secrets import NAMES, NOTHING, WHOLE, in_schema, leaves, masked, scrubbed
from orchestrator.core.taint import FlowSecrets, secret_names
from orchestrator.core.values import Codec, explain
from orchestrator.errors import InputInvalid, ValueRefused

CANARY = "canary-7c1d9e0a4b"


class Account(BaseModel):
    """Has a secret."""

    name: str
    pin: Secret[str]


@step
def nothing(value: int) -> None:
    return None


class Tree(BaseModel):
    """Refers to itself."""

    key: SecretStr | None = None
    below: list["Tree"] = []


@step
def open_account(name: str) -> Account:
    return Account(name=name, pin=Secret(CANARY))


@step
def use(account: Account) -> str:
    return account.name


@step
def use_any(value: Any) -> str:
    return str(value)


@step
def tell(pin: Secret[str]) -> None:
    pin.reveal()


# ---- the type ----


def test_no_text_of_a_secret_has_it() -> None:
    one = Secret(CANARY)
    texts = [repr(one), str(one), f"{one}", f"{one!r:>40}", repr([one]), repr(Account(name="ada", pin=one))]
    texts += [Account(name="ada", pin=one).model_dump_json(), str({"pin": one})]
    assert all(CANARY not in text and "***" in text for text in texts)
    assert one.reveal() == CANARY
    assert one == Secret(CANARY)
    assert one != Secret("x")
    assert hash(one) == hash(Secret(CANARY))


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        (Secret[str], Secret("x"), "x"),
        (Secret[int], Secret(5), 5),
        (Secret[int], 5, 5),
        (SecretStr, SecretStr("x"), "x"),
        (SecretBytes, SecretBytes(b"\xff"), "_w=="),
        (Secret[list[str]], Secret(["a"]), ["a"]),
        (Account, Account(name="ada", pin=Secret("x")), {"name": "ada", "pin": "x"}),
        (Secret[Account], Secret(Account(name="ada", pin=Secret("x"))), {"name": "ada", "pin": "x"}),
        (Secret[str] | None, None, None),
        (dict[str, SecretStr], {"a": SecretStr("x")}, {"a": "x"}),
    ],
)
def test_the_ledger_has_the_value_and_gives_it_back(kind: Any, value: Any, stored: Any) -> None:
    codec: Codec[Any] = Codec(kind)
    text = codec.dumps(value)
    assert json.loads(text) == stored
    assert codec.dumps(codec.loads(text)) == text
    assert codec.secrets


def test_a_secret_that_does_not_say_so_in_its_schema_is_refused() -> None:
    with pytest.raises(ValueRefused, match=r"write orchestrator\.Secret"):
        Codec(PydanticSecret[int])


def test_what_does_not_fit_is_told_without_its_value() -> None:
    with pytest.raises(ValidationError) as caught:
        Codec(Secret[int]).loads(json.dumps(CANARY))
    assert CANARY not in explain(caught.value, hide=True)[1]
    with pytest.raises(InputInvalid) as refused:
        Inputs("pay", Codec(Account).json_schema).read(json.dumps({"name": 1, "pin": [CANARY]}), NAMES)
    assert CANARY not in str(refused.value)


def test_fields_that_a_flow_names_are_told_without_their_values() -> None:
    """Also where the schema does not know of them."""
    known = {"properties": {"iban": {"type": "integer"}, "city": {"type": "integer"}}}
    any_name: dict[str, object] = {"additionalProperties": {"type": "integer"}}
    flow = Manifest(name="pay", steps={"use": StepDef(type="use")}, secret_names=("IBAN",))
    names = secret_names(flow)
    for schema in (known, any_name):
        for given, told in (({"iban": CANARY}, False), ({"city": CANARY}, True), ({"city": {"iban": CANARY}}, False)):
            with pytest.raises(InputInvalid) as refused:
                Inputs("pay", schema).read(json.dumps(given), names)
            assert (CANARY in str(refused.value)) is told


def test_parameters_with_secret_names_are_told_without_their_values() -> None:
    @flow
    def pay(iban: int, city: int, more: dict[str, int]) -> None:
        nothing(iban)

    good = {"iban": 1, "city": 1, "more": {}}
    for given in ({"iban": CANARY}, {"more": {"iban": CANARY}}):
        with pytest.raises(InputInvalid) as refused:
            pay.encode_given({**good, **given}, ["iban"])
        assert CANARY not in str(refused.value)
    with pytest.raises(InputInvalid, match=CANARY):
        pay.encode_given({**good, "city": CANARY})


# ---- where they are ----


def test_a_schema_says_where_its_secrets_are() -> None:
    schema = {"properties": {"Api-Key": {"type": "string"}, "more": {"items": Codec(Account).json_schema}}}
    assert in_schema(Codec(Account).json_schema) == {("pin",)}
    assert in_schema(Codec(list[Account]).json_schema) == {("*", "pin")}
    assert in_schema(Codec(Secret[Account]).json_schema) == WHOLE
    assert in_schema(Codec(Tree).json_schema) == {("key",), ("below", "*")}, "all that is below could be one"
    assert in_schema({"properties": {"pin": {"writeOnly": True}}}) == {("pin",)}
    assert in_schema(Codec(dict[str, int]).json_schema) == NOTHING
    assert in_schema(schema, NAMES) == {("Api-Key",), ("more", "*", "pin")}


def test_one_function_masks() -> None:
    value = {"name": "ada", "pins": [{"pin": CANARY}, {"pin": None}], "Token": CANARY, "more": {"token": [CANARY]}}
    shown = masked(value, frozenset({("pins", "*", "pin")}), NAMES)
    assert shown == {"name": "ada", "pins": [{"pin": "***"}, {"pin": None}], "Token": "***", "more": {"token": "***"}}
    assert leaves(value, frozenset({("pins", "*", "pin")})) == {CANARY}
    assert masked(value, NOTHING) is value


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"failed with {CANARY}", CANARY),
        ("failed with 'it''s \\'quoted\\' x'", "'quoted'"),
        ('{"a": "line\\nbreak-secret"}', "line\nbreak-secret"),
        ("input_value='canary-7c1...9e0a4b0123456789'", "canary-7c1d9e0a4b-and-more-9e0a4b0123456789"),
        ("pin 12 is wrong", "12"),
    ],
)
def test_texts_are_scrubbed_of_what_was_quoted_or_shortened(text: str, secret: str) -> None:
    found = scrubbed(text, [secret])
    assert "***" in found
    assert not any(part in found for part in (secret, "7c1", "9e0a", "quoted", "break-secret"))
    assert scrubbed("127 of 412", ["12"]) == "127 of 412"


# ---- what carries them ----


def of(manifest: Manifest) -> FlowSecrets:
    return FlowSecrets(manifest)


def test_a_secret_stays_one_wherever_expressions_carry_it() -> None:
    @block
    def work(account: Account) -> dict[str, Any]:
        used = use.options(key="inner")(account)
        return {"used": used, "pin": account.pin}

    @flow
    def carries(accounts: list[Account], word: SecretStr, plain: str) -> Any:
        made = open_account(plain)
        use_any.options(key="whole")(made)
        use_any.options(key="part")([plain, made.pin])
        use_any.options(key="given")({"a": word})
        with when(made.name == "ada"):
            one = open_account.options(key="one")(plain)
        two = open_account.options(key="two")(plain)
        use_any.options(key="merged")(either(one, two))
        paid = wait_for_signal(Account, name="paid")
        use_any.options(key="signalled")(paid)
        asked = approval(Account, title="Fine?", to="ada", show={"pin": made.pin, "name": made.name})
        use_any.options(key="answered")(asked.pin)
        return {"all": each(work, accounts), "made": made}

    found = of(carries.manifest)
    assert found.input == {("accounts", "*", "pin"), ("word",)}
    inputs = {key: found.step(key).inputs for key in ("whole", "part", "given", "merged", "signalled", "answered")}
    assert inputs == {
        "whole": {("value", "pin")},
        "part": {("value", 1)},
        "given": {("value", "a")},
        "merged": {("value", "pin")},
        "signalled": {("value", "pin")},
        "answered": {("value",)},
    }
    assert found.step("work.12.inner").inputs == {("account", "pin")}
    assert found.step("open_account").inputs == NOTHING
    assert found.output >= {("all", "*", "pin"), ("made", "pin")}
    assert carries.manifest.format == 2
    assert Manifest.from_json(carries.manifest.to_json()) == carries.manifest


def test_names_are_secret_by_themselves() -> None:
    steps = {
        "a": StepDef(type="a"),
        "b": StepDef(
            type="b", inputs={"x": "@steps('a').output.session.token", "iban": 5, "password": "@triggerBody().p"}
        ),
    }
    found = of(Manifest(name="f", steps=steps, secret_names=("IBAN",)))
    assert found.step("b").inputs == {("x",), ("iban",), ("password",)}
    assert found.shown({"any": {"iban": 1, "n": 2}}, NOTHING) == {"any": {"iban": "***", "n": 2}}


def test_a_condition_is_told_without_the_secret_that_it_reads() -> None:
    found = of(Manifest(name="f", steps={"a": StepDef(type="a", secret=(("pin",),)), "b": StepDef(type="b")}))
    seen, scope = found.seen, Scope(outputs={"a": {"pin": CANARY, "n": 5}})
    expr = parse_bare("@steps('a').output.n > 1 && @steps('a').output.pin == 'x'")
    assert with_values(expr, scope, seen.hides) == """, with 5 > 1 && '***' == 'x'"""
    wrong = parse_bare("number(@steps('a').output.pin) > 1")
    with pytest.raises(EvaluationFailed) as caught:
        evaluate(wrong, scope)
    assert CANARY in str(caught.value)
    assert CANARY not in seen.sentence(caught.value)


# ---- what is refused ----


def test_a_secret_is_not_written_into_a_flow() -> None:
    with pytest.raises(AuthoringError, match="argument `pin` of step `tell` is a secret that is written into the flow"):

        @flow
        def wrong() -> None:
            tell(Secret(CANARY))

    with pytest.raises(AuthoringError, match="has a default for `pin`, which is a secret"):

        @flow
        def wrong_too(pin: Secret[str] = Secret(CANARY)) -> None:  # noqa: B008
            tell(pin)

    with pytest.raises(AuthoringError, match="it holds a secret, in clear in the manifest") as caught:

        @flow(schedules=[Schedule(Cron("0 3 * * *"), input={"pin": CANARY})])
        def scheduled(pin: Secret[str]) -> None:
            tell(pin)

    assert CANARY not in str(caught.value)


def test_a_secret_is_no_key_of_a_signal() -> None:
    with pytest.raises(AuthoringError, match="it reads a secret, and is shown in clear"):

        @flow
        def wrong(pin: Secret[str]) -> None:
            wait_for_signal(str, name="paid", key=pin)


def test_a_flow_that_is_called_has_to_know_its_secrets() -> None:
    @flow
    def below(value: Any) -> None:
        use_any(value)

    @flow
    def knows(value: Secret[str]) -> None:
        tell(value)

    with pytest.raises(AuthoringError, match="passes a secret as `value` to flow `below`"):

        @flow
        def wrong(pin: Secret[str]) -> None:
            below(pin)

    @flow
    def right(pin: Secret[str]) -> None:
        knows(pin)

    assert of(right.manifest).step("knows").inputs == {("value",)}


def test_a_flow_without_secrets_is_as_it_was() -> None:
    @flow
    def plain(number: int) -> str:
        require(number > 1, "too small")
        return use_any(number)

    found = of(plain.manifest)
    assert "secret" not in plain.manifest.to_json()
    assert not found.input
    assert not found.output
    assert not any(found.step(key).any for key in plain.manifest.steps)


def test_only_what_is_secret_is_left_out_of_what_does_not_fit() -> None:
    """Whoever gave a wrong number reads which; of an object with a secret inside nothing is quoted."""
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer"},
            "login": {"type": "object", "properties": {"password": {"type": "string"}, "user": {"type": "string"}}},
        },
    }
    text = json.dumps(schema)
    said = {one.path: one.message for one in misfits(text, {"n": "three", "login": {"password": 77123, "user": 5}})}
    assert said == {
        ("n",): '"three" is not of type "integer"',
        ("login", "password"): '*** is not of type "string"',
        ("login", "user"): '5 is not of type "string"',
    }
    assert [one.message for one in misfits(text, {"login": ["hunter2"]})] == ['*** is not of type "object"']
