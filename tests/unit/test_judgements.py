"""What a condition gave and what it saw, in words and as facts."""

import pytest

from orchestrator.core.conditions import judge
from orchestrator.core.expressions import Scope

SCOPE = Scope(
    trigger={"yes": True, "no": False, "tags": ["a", "b"], "long": "x" * 300, "many": list(range(200)), "text": "it's"},
    outputs={"total": 250, "price": "1000.5"},
    statuses={"total": "succeeded"},
)


@pytest.mark.parametrize(
    ("text", "holds", "sentence"),
    [
        ("@steps('total').output > 1000", False, "is false, with 250 > 1000"),
        ("number(@steps('price').output) > 1000", True, 'is true, with number("1000.5") > 1000'),
        ("@triggerBody().no", False, "is false"),
        ("false", False, "is false"),
        ("!@triggerBody().yes && @steps('total').output == 1", False, "is false, with !true && 250 == 1"),
        ("@steps('none').output != null", False, "is false, with null != null"),
        ("contains(@triggerBody().tags, 'c')", False, 'is false, with contains(["a", "b"], \'c\')'),
    ],
)
def test_what_it_gave_and_with_what(text: str, holds: bool, sentence: str) -> None:
    found = judge(text, SCOPE)
    assert (found.holds, found.problem) == (holds, None)
    assert found.sentence == f"{text} {sentence}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("@triggerBody().text > 3", 'string "it\'s" compared with number 3'),
        ("@steps('total').output", "250 is neither true nor false"),
        ("@steps('none').output", "null is neither true nor false"),
        ("@steps('none').output && true", "null null is neither true nor false"),
    ],
)
def test_what_cannot_be_evaluated_says_why(text: str, problem: str) -> None:
    found = judge(text, SCOPE)
    assert (found.holds, found.problem) == (False, problem)
    assert found.sentence == f"{text} cannot be evaluated: {problem}"
    assert found.facts["result"] is None
    assert found.facts["problem"] == problem


def test_facts_are_short_and_name_every_reference() -> None:
    text = "@triggerBody().long == 'y' || contains(@triggerBody().many, 'x') || @steps('total').status == 'failed'"
    facts = judge(text, SCOPE).facts
    values = facts["values"]
    assert isinstance(values, dict)
    assert (facts["expression"], facts["result"]) == (text, False)
    assert list(values) == ["@triggerBody().long", "@triggerBody().many", "@steps('total').status"]
    assert all(len(str(value)) <= 200 for value in values.values())
    assert values["@steps('total').status"] == "succeeded"
    assert len(judge(text, SCOPE).sentence) < 1000
