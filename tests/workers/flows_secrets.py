"""Flows that do with a secret whatever may be done with a value, and fail with it."""

from typing import Any

from pydantic import BaseModel, SecretStr

from orchestrator import (
    Context,
    Flow,
    Manifest,
    Secret,
    StepDef,
    approval,
    block,
    each,
    either,
    failed,
    first_of,
    flow,
    require,
    sleep,
    step,
    wait_for_signal,
    when,
)


class Account(BaseModel):
    """Has a secret."""

    name: str
    pin: Secret[str]


class Strict(BaseModel):
    """Fits nothing that these flows have; its errors say what they were given."""

    pin: int


@step
def fetch(pin: Secret[str]) -> Account:
    return Account(name="ada", pin=pin)


@step
def fetch_word(pin: Secret[str]) -> SecretStr:
    return SecretStr(pin.reveal())


@step
def size(account: Account) -> int:
    return len(account.pin.reveal())


@step
def size_of_any(value: Any) -> int:
    return len(str(value))


@step(retries=2, backoff=[0.01])
def second_time(ctx: Context, word: SecretStr) -> str:
    ctx.log.info("the word is %s", word)
    if ctx.attempt == 1:
        raise ValueError(f"refused {word.get_secret_value()!r}, and {[word.get_secret_value()]}")
    return "done"


@step
def never(account: Account) -> str:
    try:
        Strict.model_validate({"pin": account.pin.reveal()})
    except ValueError as exc:
        raise RuntimeError(f"no such account: {account.pin.reveal()}") from exc
    return ""


@step
def bad_result(account: Account) -> Secret[int]:
    return account.pin  # type: ignore[return-value]


@step
def whole(value: int) -> int:
    return value


@step
def nothing() -> None:
    return None


@flow
def inner(account: Account) -> Account:
    size(account)
    return fetch.options(key="again")(account.pin)


@block
def twice(account: Account) -> int:
    size_of_any(account)
    return size.options(key="within")(account)


@flow
def vault(pin: Secret[str], account: Account) -> Account:
    made = fetch(pin)
    word = fetch_word(pin)
    size_of_any.options(key="untyped")({"deep": [made.pin, word]})
    second_time(word)
    with when(made.name == "x"):
        left = fetch.options(key="left")(pin)
    size.options(key="merged")(either(left, made))
    size.options(key="raced")(first_of(made, fetch.options(key="other")(pin)))
    each(size.options(key="one"), [made, account])
    each(twice, [made, account], key="graphs")
    below = inner(made)
    require(below.name == "ada", "it is another one")
    rested = sleep("0.1s", after=[below])
    paid = wait_for_signal(Account, name="paid", after=[rested])
    said = approval(Account, title="Is it she?", to="ada", show={"pin": made.pin, "name": made.name}, after=[paid])
    size_of_any.options(key="answered")([paid, said.pin])
    return said


@flow
def broken(account: Account) -> str | None:
    bad = never(account)
    bad_result(account)
    size_of_any.options(key="cleanup", after=[failed(bad)])(account.pin)
    return bad


@step
def use_iban(iban: str) -> str:
    raise ValueError(f"no bank has {iban!r}")


@flow
def named(iban: str) -> str:
    """What the installation says is a secret by its name."""
    wait_for_signal(dict[str, int], name="checked")
    return use_iban(iban)


PIN = "@triggerBody().account.pin"
by_hand = Flow.from_manifest(
    Manifest(
        name="by_hand",
        input_schema=broken.manifest.input_schema,
        steps={
            "compared": StepDef(type="whole", when=f"number({PIN}) > 5", inputs={"value": 1}),
            "made": StepDef(type="whole", inputs={"value": f"@triggerBody().account.name.none ?? number({PIN})"}),
            "given": StepDef(type="whole", inputs={"value": PIN}),
            "required": StepDef(require=f"{PIN} == 'x' && number({PIN}) > 5", message="no"),
            "looped": StepDef(
                for_each=f"@triggerBody().account.name.none ?? number({PIN})",
                steps={"one": StepDef(type="whole", inputs={"value": "@item()"})},
            ),
            "merged": StepDef(value=f"@steps('text').output ?? time({PIN})"),
            "text": StepDef(type="nothing"),
        },
    ),
    [whole, nothing],
)

FLOWS = (inner, vault, broken, by_hand, named)
