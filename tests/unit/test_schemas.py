"""JSON Schema: what does not fit is reported with its place, and nothing is ever fetched."""

import json

import pytest

from orchestrator.core import schemas, values
from orchestrator.errors import ManifestInvalid

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "rows": {"type": "array", "items": {"type": "string"}}},
        "required": ["n"],
        "additionalProperties": False,
    }
)


@pytest.mark.parametrize(
    ("value", "path", "said"),
    [
        ({"n": "x"}, ("n",), '"x" is not of type "integer"'),
        ({"n": 1, "rows": ["a", 2]}, ("rows", 1), '2 is not of type "string"'),
        ([1], (), 'is not of type "object"'),
    ],
)
def test_a_misfit_has_its_place(value, path, said):
    found = schemas.misfit(SCHEMA, value)
    assert found is not None
    assert (found.path, said in found.message) == (path, True)


def test_missing_and_unknown_names_are_told():
    found = list(schemas.misfits(SCHEMA, {"m": 1, "o": 2}))
    assert {one.missing for one in found} == {"n", None}
    assert {name for one in found for name in one.unknown} == {"m", "o"}


def test_what_fits_is_silent():
    assert schemas.misfit(SCHEMA, {"n": 10**30}) is None
    assert schemas.misfit("{}", {"any": ["thing", 1.5, None]}) is None


@pytest.mark.parametrize("schema", [{"type": "nope"}, {"$ref": "#/$defs/gone"}, {"$ref": "http://127.0.0.1:9/schema"}])
def test_what_is_not_a_schema_is_refused_and_nothing_is_fetched(schema):
    with pytest.raises(ManifestInvalid, match="not a JSON Schema"):
        schemas.misfit(json.dumps(schema), {})


@pytest.mark.parametrize("value", ["a\x00b", "\ud800", float("inf"), {"\x00": 1}])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_text_that_holds_what_cannot_be_stored_is_suspect(value, ascii_only):
    text = json.dumps([value], ensure_ascii=ascii_only).replace("Infinity", "1" + "0" * 400 + ".0")
    assert values.suspect(text)
    assert values.refusal(json.loads(text)) is not None


@pytest.mark.parametrize("text", ['["é", 1e20, 1E-7]', '{"a": [1, 2.5, null, true]}', json.dumps("\u20ac")])
def test_plain_text_is_not(text):
    assert not values.suspect(text)
