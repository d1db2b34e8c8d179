"""Polling as it is written: in Python, in a manifest, and what is refused."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator import Context, Manifest, NotYet, Poll, contains, flow, step
from orchestrator.core.polling import PollDef, UntilInvalid
from orchestrator.errors import AuthoringError, ManifestInvalid


class Seen(BaseModel):
    state: str
    done: bool = False
    weight: Decimal = Decimal(0)


@step
def other(seen: Seen) -> bool:
    return seen.done


def manifest(**poll: Any) -> Manifest:
    given = {"every": "10s", "timeout": "2m", **poll}
    return Manifest.from_json(
        Manifest.model_validate({"name": "f", "steps": {"a": {"type": "t", "poll": given}}}).to_json()
    )


def problems(steps: dict[str, Any]) -> list[str]:
    with pytest.raises(ManifestInvalid) as caught:
        Manifest(name="f", steps=steps)
    return [str(problem) for problem in caught.value.problems]


def test_a_step_says_how_it_polls() -> None:
    """The tracer writes what a person would."""

    @step(poll=Poll(every="10s", timeout="2m", until=lambda seen: seen.done))
    def look(name: str) -> Seen:
        raise NotYet

    @flow
    def looking(name: str) -> Seen:
        return look.options(poll=Poll(every=60, timeout=timedelta(hours=1), min_attempts=2), key="slow")(
            look(name).state
        )

    steps = looking.manifest.steps
    assert steps["look"].poll == PollDef(every="10s", timeout="2m", until="@output().done")  # type: ignore[arg-type]
    assert steps["slow"].poll == PollDef(every="1m", timeout="1h", min_attempts=2)  # type: ignore[arg-type]
    assert looking.manifest.format == 2
    assert Manifest.from_json(looking.manifest.to_json()) == looking.manifest
    assert '"poll":{"every":"PT10S","timeout":"PT2M","until":"@output().done"}' in looking.manifest.to_json()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"poll": "10s"}, r"has `poll='10s'`\. Fix: write `poll=Poll\(every=\"10s\", timeout=\"2m\"\)`"),
        (
            {"poll": Poll(every="500ms", timeout="2m")},
            r"has `Poll\(every='500ms'\)`: polls are a second apart",
        ),
        ({"poll": Poll(every="10s", timeout="soon")}, r"has `Poll\(timeout='soon'\)`: 'soon' is not a length of time"),
        ({"poll": Poll(every="10s", timeout="2m", min_attempts=0)}, r"has `Poll\(min_attempts=0\)`"),
        ({"poll": Poll("10s", "2m", until=lambda seen: seen.don)}, "has no field `don`"),
        ({"poll": Poll("10s", "2m", until=lambda seen: True)}, "a condition is True already"),
        ({"poll": Poll("10s", "2m", until=lambda seen: seen.state)}, "is of type str, which is not a condition"),
        ({"poll": Poll("10s", "2m", until=lambda seen: seen.state == 3)}, "they are never alike"),
        ({"poll": Poll("10s", "2m", until=lambda seen: other(seen))}, "`until` calls a step"),
        ({"poll": Poll("10s", "2m"), "transactional": True}, "is transactional and polls"),
    ],
)
def test_what_a_step_cannot_say(given: dict[str, Any], said: str) -> None:
    def look(ctx: Context, name: str) -> Seen:
        raise NotYet

    decorate: Callable[..., Any] = step
    with pytest.raises(AuthoringError, match=said):
        decorate(look, **given)


@pytest.mark.parametrize(
    ("until", "text"),
    [
        (lambda seen: seen.state == "done", "@output().state == 'done'"),
        (lambda seen: (seen.weight > 3) & ~seen.done, "number(@output().weight) > 3 && !@output().done"),
        (lambda seen: contains(["done", "lost"], seen.state), "@output().state == 'done' || @output().state == 'lost'"),
    ],
)
def test_until_is_a_condition_over_what_the_step_returns(until: Callable[[Any], object], text: str) -> None:
    """Its kinds are checked, as those of `when` are."""

    @step(poll=Poll("10s", "2m", until=until))
    def look(name: str) -> Seen:
        raise NotYet

    assert look.settings.poll is not None
    assert look.settings.poll.until == text


def test_a_manifest_is_checked_with_its_place() -> None:
    """By hand the same can be written, and more wrongly."""

    def one(**poll: Any) -> list[str]:
        return problems({"a": {"type": "t", "poll": {"every": "10s", "timeout": "2m", **poll}}})

    assert one(evry="1s") == ["steps.a.poll.evry: unknown field `evry` (did you mean `every`?)"]
    assert "steps.a.poll.every: " in one(every="100ms")[0]
    assert one(until="@steps('b').output.x")[0] == (
        "steps.a.poll.until: `until` reads `@steps('b').output.x` (it knows `@output()` only, what the step returned)"
    )
    assert "the same for every output" in one(until="true")[0]
    assert "steps.a.poll.until: " in one(until="@output().x ==")[0]
    assert "gives a string, neither true nor false" in one(until="text(@output())")[0]
    assert "compares a number with a string" in one(until="length(@output()) == 'x'")[0]
    assert problems({"a": {"type": "t", "inputs": {"x": "@output().y"}}})[0].startswith(
        "steps.a.inputs.x: `@output()` is known in `until` of a step that polls only"
    )
    loop = {"for_each": [1], "steps": {"b": {"type": "t"}}, "poll": {"every": "10s", "timeout": "2m"}}
    assert problems({"a": loop}) == ["steps.a.poll: a loop has no `poll` (move it to the step in `steps.a.steps`)"]
    transactional = {"type": "t", "transactional": True, "poll": {"every": "10s", "timeout": "2m"}}
    assert "is not transactional" in problems({"a": transactional})[0]


@pytest.mark.parametrize(
    ("until", "output", "said"),
    [
        (None, "{}", None),
        ("@output().done", '{"done": true}', None),
        ("@output().done", '{"done": false}', "`@output().done` is false"),
        ("@output() == 'done' || number(@output()) > 3", '"4"', None),
        ("!@output()", "true", "`!@output()` is false"),
    ],
)
def test_until_asks_what_was_returned(until: str | None, output: str, said: str | None) -> None:
    poll = manifest(until=until).steps["a"].poll
    assert poll is not None
    assert poll.unmet(output) == said


@pytest.mark.parametrize(("until", "output"), [("@output().done", "{}"), ("@output() > 3", '"x"')])
def test_until_that_cannot_be_asked(until: str, output: str) -> None:
    poll = manifest(until=until).steps["a"].poll
    assert poll is not None
    with pytest.raises(UntilInvalid, match="Fix: correct the expression"):
        poll.unmet(output)
