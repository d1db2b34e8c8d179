"""What a flow takes: read once, with its defaults at the end of what was given."""

import json
from typing import Any

import pytest

from orchestrator.core import inputs
from orchestrator.core.inputs import Inputs
from orchestrator.core.secrets import NAMES
from orchestrator.errors import InputInvalid

SCHEMA = {
    "type": "object",
    "properties": {"number": {"type": "string"}, "region": {"type": "string", "default": "eu"}},
    "required": ["number"],
    "additionalProperties": False,
}


def test_an_input_is_parsed_once_and_keeps_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is checked, filled with defaults, and told from another one. Numbers keep their last digit."""
    parsed: list[str] = []
    original = json.loads

    def loads(text: str, **options: Any) -> Any:
        parsed.append(text)
        return original(text, **options)

    monkeypatch.setattr(inputs.json, "loads", loads)
    text = '{ "number": "17" , "weight": 1.10000000000000000001 }'
    schema = {**SCHEMA, "additionalProperties": True}
    found = Inputs("order", schema).read(text, NAMES)
    assert found.text == '{ "number": "17" , "weight": 1.10000000000000000001 , "region": "eu"}'
    assert found.given == text
    assert found.value == {"number": "17", "weight": 1.1, "region": "eu"}
    assert found.digest == Inputs("order", {}).accept('{"region":"eu","weight":1.1,"number":"17"}').digest
    assert [one for one in parsed if "17" in one] == [text, '{"region":"eu","weight":1.1,"number":"17"}']


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{}", '{"region": "eu"}'),
        ('{"region": "us"}', '{"region": "us"}'),
        ("[1]", "[1]"),
        (' {"number": "1"} ', ' {"number": "1", "region": "eu"}'),
    ],
)
def test_what_was_checked_before_is_only_filled(text: str, filled: str) -> None:
    found = Inputs("order", SCHEMA).accept(text)
    assert found.text == filled
    assert json.loads(found.text) == found.value


@pytest.mark.parametrize("depth", [100_000])
def test_an_input_that_is_too_deep_is_refused(depth: int) -> None:
    with pytest.raises(InputInvalid, match="is not JSON"):
        Inputs("order", {}).read("[" * depth + "]" * depth, NAMES)


def test_a_schema_without_plain_properties_has_no_defaults() -> None:
    """A schema may be anything that JSON Schema allows."""
    for schema in ({}, {"properties": True}, {"properties": {"a": True}}):
        assert Inputs("order", schema).accept('{"b": 1}').text == '{"b": 1}'
