"""The expression grammar: a real parser, total, with one canonical text per reference."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.expressions import Ref, Scope, escape, find, parse, references, render, resolve
from orchestrator.errors import ExpressionInvalid, UsageError

NAMES = st.text(min_size=1, max_size=8).filter(lambda s: s.isprintable())
PATHS = st.lists(st.text(max_size=8) | st.integers(-999_999_999, 999_999_999), max_size=5).map(tuple)
REFS = st.one_of(
    st.builds(Ref, st.just("trigger"), st.none(), PATHS),
    st.builds(Ref, st.just("item"), st.none(), PATHS),
    st.builds(Ref, st.just("step"), st.text(max_size=10), PATHS),
    st.just(Ref("index")),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just("@x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("@triggerBody()", Ref("trigger")),
        ("@triggerBody()?.a.b[0]['k']", Ref("trigger", None, ("a", "b", 0, "k"))),
        ("@triggerBody()?['a b']?.c", Ref("trigger", None, ("a b", "c"))),
        ("@steps('k').output", Ref("step", "k")),
        ('@steps("k").output.rows[-1]', Ref("step", "k", ("rows", -1))),
        ("@steps('it''s').output", Ref("step", "it's")),
        ("@item()", Ref("item")),
        ("@item().größe", Ref("item", None, ("größe",))),
        ("@index()", Ref("index")),
        (" @item()"[1:], Ref("item")),
        ("@ steps ( 'k' ) . output [ 0 ] ", Ref("step", "k", (0,))),
    ],
)
def test_the_grammar(text, ref):
    assert parse(text) == ref


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("@", 1, "a function"),
        ("@triggerbody()", 1, "did you mean `triggerBody`?"),
        ("@stps('k').output", 1, "did you mean `steps`?"),
        ("@steps(k).output", 7, "in quotes"),
        ("@steps('k')", 11, "text ends"),
        ("@steps('k').status", 12, "write `.output`"),
        ("@steps('k').output.", 19, "a name"),
        ("@steps('k).output", 7, "cannot be read"),
        ("@item()[1.5]", 9, "`]`"),
        ("@item()[99999999999]", 8, "cannot be read"),
        ("@item() == 3", 8, "cannot be read"),
        ("@item()x", 7, "stands"),
        ("@item", 5, "`(`"),
        ("@index().a", 0, "no path"),
        ("plain", 0, "not an expression"),
        ("@@x", 0, "not an expression"),
    ],
)
def test_a_wrong_expression_names_its_place_and_the_fix(text, position, says):
    with pytest.raises(ExpressionInvalid, match="Fix: ") as caught:
        parse(text)
    assert caught.value.position == position
    assert says in str(caught.value)


@given(REFS)
def test_a_reference_survives_its_text(ref):
    assert parse(render(ref)) == ref


@given(
    st.text() | st.text(alphabet="@stepitm()'\"[].?09-kou ").map("@".__add__) | REFS.map(render).map(lambda s: s[:-1])
)
def test_any_text_gives_a_reference_or_a_usage_error(text):
    try:
        ref = parse(text)
    except UsageError:
        return
    assert parse(render(ref)) == ref


@given(JSON)
def test_an_escaped_literal_comes_back_unchanged(value):
    assert resolve(escape(value), Scope()) == value
    assert references(escape(value)) == set()


SCOPE = Scope(
    trigger={"a": {"b": [1, {"k": "v"}]}, "0": "zero"}, outputs={"k": {"rows": [1, 2]}}, item={"x": None}, index=3
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("@triggerBody().a.b[1].k", "v"),
        ("@triggerBody()[0]", "zero"),  # JSON has text keys only, dict[int, …] included
        ("@triggerBody().no.such[3]['path']", None),
        ("@triggerBody().a.b.k", None),
        ("@triggerBody().a.b[2]", None),
        ("@triggerBody().a.b[-3]", None),
        ("@steps('k').output.rows[-1]", 2),
        ("@steps('skipped').output.rows", None),
        ("@item()", {"x": None}),
        ("@index()", 3),
        ("@@item()", "@item()"),
        ("plain", "plain"),
    ],
)
def test_resolving(text, value):
    assert resolve({"in": [text]}, SCOPE) == {"in": [value]}


def test_a_text_is_not_indexed_like_a_list():
    assert resolve("@item()[0]", Scope(item="abc")) is None


def test_references_are_found_with_their_place():
    value = {"a": ["x", "@item()"], "b": "@nope()"}
    found = list(find(value))
    assert [one.path for one in found] == [("a", 1), ("b",)]
    assert found[0].ref == Ref("item")
    assert isinstance(found[1].ref, ExpressionInvalid)
    assert references({"a": ["@item()", "@item()"], "b": "@index()"}) == {Ref("item"), Ref("index")}
    with pytest.raises(ExpressionInvalid):
        references(value)
