"""The grammar of queries for runs: what a text means, and what is said of one that means nothing."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.runfilter import Field, Op, RunFilter, Term
from orchestrator.core.runquery import CHARACTERS, TERMS, parse
from orchestrator.core.states import RunStatus
from orchestrator.errors import QueryInvalid

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


def is_(field: Field, *values: str, negated: bool = False) -> Term:
    return Term(field, values, negated=negated)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("  flow:bill   tag=x ", [is_(Field.FLOW, "bill"), is_(Field.TAG, "x")]),
        (
            "-tag:test tag!=red -tag!=a",
            [is_(Field.TAG, "test", negated=True), is_(Field.TAG, "red", negated=True), is_(Field.TAG, "a")],
        ),
        ("status:failed,cancelled", [Term(Field.STATUS, (RunStatus.FAILED, RunStatus.CANCELLED))]),
        (
            "status:failed flow:a status:waiting",
            [Term(Field.STATUS, (RunStatus.FAILED, RunStatus.WAITING)), is_(Field.FLOW, "a")],
        ),
        ("tag:a tag:b", [is_(Field.TAG, "a"), is_(Field.TAG, "b")]),
        ("-flow:a -flow:b", [is_(Field.FLOW, "a", negated=True), is_(Field.FLOW, "b", negated=True)]),
        ("""tag:"a, b",'it''s',c"d""", [is_(Field.TAG, "a, b", "it's", 'c"d')]),
        ("schedule:report/nightly", [is_(Field.SCHEDULE, "report/nightly")]),
        ("error:http://x?a=b", [is_(Field.ERROR, "http://x?a=b")]),
        (
            """declined -can't "two words" -"flow:x" """,
            [
                is_(Field.WORD, "declined"),
                is_(Field.WORD, "can't", negated=True),
                is_(Field.WORD, "two words"),
                is_(Field.WORD, "flow:x", negated=True),
            ],
        ),
        ("job-1", [is_(Field.WORD, "job-1")]),
        ("since:2026-06-01", [Term(Field.CREATED, (datetime(2026, 6, 1, tzinfo=UTC),), Op.FROM)]),
        ("until:2026-06-01T07:00+02:00", [Term(Field.CREATED, (datetime(2026, 6, 1, 5, tzinfo=UTC),), Op.BELOW)]),
        ("-since:2h", [Term(Field.CREATED, (NOW - timedelta(hours=2),), Op.BELOW)]),
        ("age<1d", [Term(Field.CREATED, (NOW - timedelta(days=1),), Op.ABOVE)]),
        ("age>=1h30m", [Term(Field.CREATED, (NOW - timedelta(hours=1.5),), Op.UP_TO)]),
        ("-age<1d", [Term(Field.CREATED, (NOW - timedelta(days=1),), Op.UP_TO)]),
    ],
)
def test_a_query_means_its_terms(text: str, terms: list[Term]) -> None:
    assert parse(text, NOW) == RunFilter(tuple(terms))


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("tag:x flwo:bill", 6, "there is no field `flwo`. Fix: did you mean `flow`?"),
        ("status:faild", 7, "there is no run status `faild`. Fix: did you mean `failed`?"),
        ("status:failed,done", 14, "no run status `done`"),
        ("flow:", 5, "a value of `flow` is missing"),
        ("flow: bill", 5, "without spaces"),
        ("tag:a,,b", 6, "a value of `tag` is missing"),
        ('tag:"a', 4, "a quote is not closed"),
        ('tag:"a"b', 7, "goes on behind its quotes"),
        ('"two words', 0, "a quote is not closed"),
        ("tag:a - b", 6, "no word follows the minus"),
        ("flow<bill", 4, "`flow` is equal or not. Fix: write `flow:value` or `-flow:value`."),
        ("age:1d", 3, "an age is compared. Fix: write `age<1d` or `age>2h`."),
        ("age<tomorrow", 4, "write a length of time"),
        ("since:2026", 6, "`2026` does not read as a time"),
        ("since>2h", 5, "write `since:2h`"),
        ("since:1h,2h", 9, "`since` has one value"),
        ("until:" + "9" * 30 + "-01-01", 6, "does not read as a time"),
        ("age<1d\x00", 0, "NUL"),
        ("tag:\ud800", 0, "surrogate"),
        ("x" * (CHARACTERS + 1), CHARACTERS, "more than 2000 characters"),
        ("x " * (TERMS + 1), 2 * TERMS, "more than 50 terms"),
        ("http://example.org", 0, 'write it in quotes: "…"'),
    ],
)
def test_what_does_not_read_is_told_with_its_place(text: str, position: int, message: str) -> None:
    with pytest.raises(QueryInvalid) as caught:
        parse(text, NOW)
    assert caught.value.position == position
    assert message in caught.value.message


@given(st.text(alphabet=st.sampled_from("ab:=<>!-,\"' \x00é.0age<1d") | st.characters(), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(QueryInvalid):
        assert isinstance(parse(text, NOW), RunFilter)
