"""The expression grammar: a real parser, total, with one canonical text per expression; and strict evaluation."""

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.expressions import (
    EvaluationFailed,
    Ref,
    Scope,
    escape,
    evaluate,
    find,
    parse,
    parse_bare,
    references,
    render,
    resolve,
)
from orchestrator.core.expressions.tree import AllOf, AnyOf, Call, Compare, Default, Not, Value
from orchestrator.errors import ExpressionInvalid, UsageError

NAMES = st.text(min_size=1, max_size=8).filter(lambda s: s.isprintable())
PATHS = st.lists(st.text(max_size=8) | st.integers(-999_999_999, 999_999_999), max_size=5).map(tuple)
REFS = st.one_of(
    st.builds(Ref, st.just("trigger"), st.none(), PATHS),
    st.builds(Ref, st.just("item"), st.none(), PATHS),
    st.builds(Ref, st.just("headers"), st.none(), PATHS),
    st.builds(Ref, st.just("step"), st.text(max_size=10), PATHS, st.sampled_from(["output", "error"])),
    st.builds(Ref, st.just("step"), st.text(max_size=10), st.just(()), st.just("status")),
    st.just(Ref("index")),
)
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9)
LEAVES = REFS | st.builds(Value, st.none() | st.booleans() | st.text(max_size=5) | NUMBERS)
OPERATORS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])


def _made_of(parts):
    several = st.lists(parts, min_size=2, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Compare, OPERATORS, parts, parts),
        st.builds(Not, parts),
        st.builds(AllOf, several),
        st.builds(AnyOf, several),
        st.builds(Default, parts, parts),
        st.builds(Call, st.sampled_from(["number", "time", "text", "lower", "length"]), st.tuples(parts)),
        st.builds(Call, st.just("contains"), st.tuples(parts, parts)),
    )


EXPRESSIONS = st.recursive(LEAVES, _made_of, max_leaves=8)
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
        ("@steps('k').stauts", 12, "write `.output`, `.status` or `.error`"),
        ("@steps('k').output.", 19, "a name"),
        ("@steps('k).output", 7, "cannot be read"),
        ("@item()[1.5]", 8, "a whole number"),
        ("@item()[99999999999]", 8, "a whole number"),
        ("@item() = 3", 8, "cannot be read"),
        ("@item() == ", 11, "text ends"),
        ("@item() == 3 == 4", 13, "write `a < b && b < c`"),
        ("@item() and true", 8, "write `&&`"),
        ("@item() == not(true)", 11, "write `!`"),
        ("@item() == item()", 11, "write `@item(…)`"),
        ("@item() == lenght(@item())", 11, "did you mean `length`?"),
        ("@item() == contains(@item())", 11, "takes 2 and was given 1"),
        ("@item() == (1", 13, "`)`"),
        ("@item() == 1)", 12, "an operator or the end"),
        ("@steps('k').status.x", 0, "no path"),
        ("@item() == " + "9" * 41, 11, "40 digits"),
        ("@item() == " + "(" * 40 + "1" + ")" * 40, 43, "nested deeper than 32"),
        ("@item() || " + "!" * 40 + "true", 43, "nested deeper than 32"),
        ("@item() == '" + "x" * 1000 + "'", 0, "1000 are allowed"),
        (" && ".join(["@item()"] * 21), 0, "21 references, and 20 are allowed"),
        ("@item()" + "||1" * 205, 0, "parts, and 200 are allowed"),
        ("@item()" + ".a" * 51 + " == 1", 0, "51 names in one path"),
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


def test_a_reference_alone_may_be_as_long_as_it_likes():
    assert len(parse("@item()" + ".a" * 2000).path) == 2000


@given(EXPRESSIONS)
def test_an_expression_survives_its_text(expr):
    assert parse_bare(render(expr)) == expr


@given(
    st.text()
    | st.text(alphabet="@stepitm()'\"[].?09-kou=<&|! ").map("@".__add__)
    | EXPRESSIONS.map(render).map(lambda s: s[:-1])
)
def test_any_text_gives_an_expression_or_a_usage_error(text):
    for read in (parse, parse_bare):
        try:
            expr = read(text)
        except UsageError:
            continue
        assert parse_bare(render(expr)) == expr


@given(EXPRESSIONS, st.builds(Scope, JSON, st.dictionaries(st.text(max_size=3), JSON), JSON, st.integers()))
def test_any_expression_gives_a_value_or_says_why_not(expr, scope):
    try:
        found = evaluate(expr, scope)
    except EvaluationFailed as exc:
        assert exc.problem  # noqa: PT017  either is right; no other error is
        return
    if isinstance(expr, Compare | Not | AllOf | AnyOf):
        assert isinstance(found, bool)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("@item()=='x'&&!(@index()<3)", "@item() == 'x' && !(@index() < 3)"),
        ("(((@item())))", "@item()"),
        ("@item() || @index() == 1 && true", "@item() || @index() == 1 && true"),
        ("(@item() || true) && true", "(@item() || true) && true"),
        ("@item() ?? @item().a ?? null", "@item() ?? @item().a ?? null"),
        ("(@item() ?? 1) == 1", "(@item() ?? 1) == 1"),
        ('contains(@item() , "it\'s")', "contains(@item(), 'it''s')"),
        ("!!true", "!!true"),
        ("1.50 < 2", "1.50 < 2"),
    ],
)
def test_brackets_and_precedence(text, canonical):
    assert render(parse_bare(text)) == canonical


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
    assert found[0].expr == Ref("item")
    assert isinstance(found[1].expr, ExpressionInvalid)
    assert references({"a": ["@item()", "@item()"], "b": "@index()"}) == {Ref("item"), Ref("index")}
    with pytest.raises(ExpressionInvalid):
        references(value)


# ---- evaluation ----

WORLD = Scope(
    trigger={
        "n": 0.1,
        "big": 12345678901234567890,
        "s": "9",
        "yes": True,
        "nothing": None,
        "list": [1, "a", None],
        "object": {"k": 1},
        "at": "2026-01-01T00:00:00+00:00",
        "name": "ADA",
        "long": "x" * 1_100_000,
    },
    outputs={"a": 3},
    statuses={"a": "succeeded", "b": "failed"},
    errors={"b": {"step": "b", "type": "BankDown", "message": "closed"}},
    headers={"x-request-id": "r1"},
    index=2,
)
OF_A_KIND = {
    "number": "@triggerBody().n",
    "string": "@triggerBody().s",
    "bool": "@triggerBody().yes",
    "null": "@triggerBody().nothing",
    "list": "@triggerBody().list",
    "object": "@triggerBody().object",
}


@pytest.mark.parametrize("operator", ["==", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize("left", OF_A_KIND)
@pytest.mark.parametrize("right", OF_A_KIND)
def test_the_table_of_comparisons(left, right, operator):
    """Kinds are never mixed; null can be asked for; only numbers and texts have an order."""
    expr = parse(f"{OF_A_KIND[left]} {operator} {OF_A_KIND[right]}")
    equality = operator in ("==", "!=")
    allowed = (left == right and left in ("number", "string")) or (left == right == "bool" and equality)
    allowed = allowed or ("null" in (left, right) and equality)
    if not allowed:
        with pytest.raises(EvaluationFailed, match=r"compared with|null has no order"):
            evaluate(expr, WORLD)
        return
    same = left == right
    assert (
        evaluate(expr, WORLD) is {"==": same, "!=": not same, "<": False, "<=": True, ">": False, ">=": True}[operator]
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("@triggerBody().n == 0.1", True),
        ("@triggerBody().n < 0.2", True),
        ("@triggerBody().big == 12345678901234567890", True),
        ("number(@triggerBody().s) < 10", True),
        ("@triggerBody().s < '10'", False),
        ("'a' < 'b'", True),
        ("'Z' < 'a'", True),
        ("1.0 == 1", True),
        ("time(@triggerBody().at) == time('2026-01-01T01:00:00+01:00')", True),
        ("time(@triggerBody().at) < time('2026-01-01T00:00:00-01:00')", True),
        ("text(1.50) == '1.50'", True),
        ("text(true) == 'true' && text(null) == 'null'", True),
        ("lower(@triggerBody().name) == 'ada'", True),
        ("length(@triggerBody().list) == 3 && length(null) == 0 && length('ab') == 2", True),
        ("length(@triggerBody().object) == 1", True),
        ("contains(@triggerBody().list, 'a') && contains(@triggerBody().list, 1.0)", True),
        ("contains(@triggerBody().list, '1')", False),
        ("contains(@triggerBody().list, true)", False),
        ("contains(@triggerBody().list, null)", True),
        ("contains('haystack', 'st')", True),
        ("contains(@triggerBody().none, 'x')", False),
        ("@triggerBody().none ?? 'other'", "other"),
        ("@triggerBody().none ?? @triggerBody().nothing ?? 3", Decimal(3)),
        ("@triggerBody().yes ?? false", True),
        ("@steps('a').output ?? 1", 3),
        ("@steps('a').status == 'succeeded'", True),
        ("@steps('b').error.type", "BankDown"),
        ("@steps('a').error", None),
        ("@steps('none').status", None),
        ("@triggerHeaders()['X-Request-Id']", "r1"),
        ("@triggerHeaders()['none']", None),
        ("false && @triggerBody().s", False),
        ("true || @triggerBody().s", True),
        ("!(@index() == 2)", False),
        ("true && false || true", True),
    ],
)
def test_evaluating(text, value):
    assert evaluate(parse_bare(text), WORLD) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("@triggerBody().s > 3", "string '9' compared with number 3"),
        ("@triggerBody().s && true", "string '9' is neither true nor false"),
        ("!@triggerBody().nothing", "null null is neither true nor false"),
        ("number('nine')", "string 'nine' is not a number"),
        ("number('NaN')", "is not a number"),
        ("number('1_000')", "is not a number"),
        ("number('١٢')", "is not a number"),
        ("number('')", "is not a number"),
        ("number('1e999999999')", "a number of more than 400 digits"),
        ("number('-1e-999999999999999999')", "a number of more than 400 digits"),
        ("number(@triggerBody().list)", "list of 3 is not a number"),
        ("time('2026-01-01T00:00:00')", "has no zone"),
        ("time('soon')", "is not a time"),
        ("time('9999-12-31T23:59:59-10:00')", "is not a time"),
        ("time('0001-01-01T00:00:00+10:00')", "is not a time"),
        ("time(3)", "number 3 is not a time"),
        ("text(@triggerBody().object)", "object of 1 has no text"),
        ("lower(3)", "is not a text"),
        ("length(true)", "has no length"),
        ("contains(3, 4)", "cannot be looked for in number 3"),
        ("contains(@triggerBody().list, @triggerBody().list)", "cannot be looked for"),
        ("time(@triggerBody().at) == @triggerBody().at", "time 2026-01-01T00:00:00+00:00 compared with string"),
        ("@triggerBody().long == 'x'", "a text of 1,100,000 characters is not compared"),
    ],
)
def test_what_cannot_be_evaluated_says_which_part_and_why(text, says):
    with pytest.raises(EvaluationFailed) as caught:
        evaluate(parse_bare(text), WORLD)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_number_that_a_text_gives_can_be_written_out():
    """A caller's text of ten characters is no gigabyte, in a reason or in an output."""
    for text, whole in (("1e400", 10**400), ("9" * 400, 10**400 - 1), ("-1E+5", -100_000)):
        assert resolve("@steps('none').output ?? number(@triggerBody())", Scope(trigger=text)) == whole
    with pytest.raises(EvaluationFailed, match="more than 400 digits"):
        evaluate(parse_bare("number(@triggerBody())"), Scope(trigger="9" * 401))


def test_what_goes_into_inputs_is_json():
    expressions = {"n": "@steps('none').output ?? 1.0", "h": "@steps('none').output ?? 1.5", "b": "@index() == 2"}
    assert resolve(expressions, WORLD) == {"n": 1, "h": 1.5, "b": True}
    at = resolve("@steps('none').output ?? time('2026-01-01T00:00:00Z')", WORLD)
    assert at == "2026-01-01T00:00:00+00:00"


def test_evaluation_is_linear():
    """The largest expression that is allowed, with the largest values: no power of anything."""
    text = " && ".join(["contains(@triggerBody().list, 'zz')"] * 18)
    scope = Scope(trigger={"list": [*map(str, range(50_000)), "zz"]})
    began = time.process_time()
    assert evaluate(parse_bare(text), scope) is True
    once = time.process_time() - began
    half = Scope(trigger={"list": [*map(str, range(25_000)), "zz"]})
    began = time.process_time()
    assert evaluate(parse_bare(text), half) is True
    assert once < 20 * max(time.process_time() - began, 0.001)
