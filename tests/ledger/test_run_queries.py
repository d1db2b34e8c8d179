"""Text, SQL and the reference filter mean the same runs."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core import runquery, search
from orchestrator.core.runfilter import ALL
from orchestrator.core.states import RunStatus
from orchestrator.errors import FlowNotFound, QueryInvalid
from orchestrator.ledger import listing
from orchestrator.ledger.reads.rows import RunRow
from tests.support.factories import Lab, call, retry
from tests.support.run_filter import meant

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
FLOWS = ("bill", "billing", "re-port")
TAGS = ("test", "red", "it's", 'say "no"', "a,b")
KEYS = ("job-1", "nightly", "red")
ERRORS = ("ValueError: card declined", "ConnectionError: host db1 is Away", "KeyError: 'bill'")
AGES_H = (1, 5, 23, 24, 25, 400)
SCHEMAS: dict[str, dict[str, Any]] = {
    "bill": {"customer": {"type": "integer"}, "order": {"properties": {"region": {"type": "string"}}}},
    "billing": {"customer": {"type": "string"}, "vip": {"type": "boolean"}, "amount": {"type": "number"}},
}
ATTRIBUTES = {"bill": ("customer", "order.region"), "billing": ("customer", "vip", "amount")}
BODIES: tuple[dict[str, Any], ...] = (
    {"customer": 42, "order": {"region": "eu"}, "vip": True, "amount": 42.5},
    {"customer": "42", "order": {"region": "US"}, "vip": False, "amount": 42},
    {"customer": -7, "order": {"region": 'a"b'}, "amount": 1e3},
    {"customer": "abc", "order": None, "vip": None},
    {},
)
FILL = """
INSERT INTO flow_runs (id, flow, manifest_hash, status, halt, failures, trigger_key, scheduled_for, trigger_body,
                       search, sinks_open, created_at, ended_at, tags, error)
SELECT %(id)s, %(flow)s, v.hash, %(status)s, %(halt)s, %(failures)s, %(key)s, %(scheduled)s, %(body)s,
       %(search)s, 0, %(at)s, %(ended)s, %(tags)s, %(error)s
  FROM flow_definition_versions v WHERE v.flow = %(flow)s
"""


def _fill(lab: Lab) -> None:
    """A hundred runs in which every value meets many others."""
    for flow in (*FLOWS, "idle"):
        schema = {"input_schema": {"type": "object", "properties": SCHEMAS[flow]}} if flow in SCHEMAS else {}
        lab.flow({"a": call(retry=retry(2))}, name=flow, search=ATTRIBUTES.get(flow, ()), **schema)
    statuses = ("pending", "running", "succeeded", "succeeded", "failed", "cancelled", "timed_out")
    for n in range(100):
        status = statuses[n % 7]
        failed = status == "failed"
        type_, _, message = ERRORS[n % 3].partition(": ")
        at = NOW - timedelta(hours=AGES_H[n % 6], seconds=n)
        body, names = BODIES[n % 5], ATTRIBUTES.get(FLOWS[n % 3])
        row = {
            "body": json.dumps(body),
            "search": names and json.dumps(search.values(names, body)),
            "id": UUID(int=int(at.timestamp() * 1000) << 80 | n),
            "at": at,
            "ended": None if status in ("pending", "running") else at,
            "flow": FLOWS[n % 3],
            "status": status,
            "halt": status if status in ("cancelled", "timed_out") else None,
            "failures": int(failed),
            "key": (*KEYS, None)[n % 4],
            "scheduled": NOW if n % 5 == 0 and n % 4 != 3 else None,
            "tags": [tag for bit, tag in enumerate(TAGS) if n >> bit & 1],
            "error": f'{{"type": "{type_}", "message": "{message}"}}' if failed else None,
        }
        lab.connection.execute(FILL, row)
    waiting = lab.start("bill")
    lab.fail(lab.take(waiting, "a"))


TEXT, NUMBER, BOOLEAN = frozenset({search.Kind.TEXT}), frozenset({search.Kind.NUMBER}), frozenset({search.Kind.BOOLEAN})
KINDS = {
    "bill": {"customer": NUMBER, "order.region": TEXT},
    "billing": {"customer": TEXT, "vip": BOOLEAN, "amount": NUMBER},
}


def declared(flows: Iterable[str]) -> dict[str, frozenset[search.Kind]]:
    every = [pair for flow in flows for pair in KINDS.get(flow, {}).items()]
    return {name: frozenset().union(*(kinds for other, kinds in every if other == name)) for name, _ in every}


class Filled:
    """The lab, and the rows that are there: not shown where a failing example is."""

    def __init__(self, lab: Lab, rows: list[RunRow]) -> None:
        self.lab = lab
        self.rows = rows

    def meant(self, query: str) -> list[UUID] | None:
        """None: it asks for what no flow declares."""
        wanted = runquery.parse(query, NOW)
        try:
            wanted = search.typed(wanted, declared(wanted.flows or FLOWS))
        except QueryInvalid:
            return None
        return [row.id for row in self.rows if meant(wanted, row, ATTRIBUTES.get(row.flow, ()))]

    def listed(self, query: str) -> list[UUID]:
        found = listing.list_runs(self.lab.ledger, runquery.parse(query, NOW), limit=500)
        return [row.id for row in found]

    def counted(self, query: str) -> int:
        return listing.count_runs(self.lab.ledger, runquery.parse(query, NOW))


@pytest.fixture(scope="module")
def filled(_lab: Lab) -> Iterator[Filled]:
    _lab.reset()
    _fill(_lab)
    rows = listing.list_runs(_lab.ledger, ALL, limit=500)
    assert {row.status for row in rows} == set(RunStatus)
    yield Filled(_lab, rows)
    _lab.reset()


def quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def _values(*known: str) -> Any:
    return st.lists(st.sampled_from(known).map(quoted), min_size=1, max_size=3).map(",".join)


def _of(field: str, *known: str) -> Any:
    return st.tuples(st.sampled_from((":", "=", "!=")), _values(*known)).map(lambda pair: f"{field}{pair[0]}{pair[1]}")


def _attribute(name: str, *known: str) -> Any:
    compared = st.sampled_from((":", "=", "!=", "<", "<=", ">", ">="))
    return st.tuples(compared, _values(*known)).map(lambda pair: f"input.{name}{pair[0]}{pair[1]}")


PARTS = ("declined", "DB1 is", "bill", "Error: c", "keyerror: 'BILL'")
TIMES = ("1h", "24h", "1d2h", "2026-06-14T12:00:00Z", "2026-06-14", "2026-06-15T10:59:30+00:00")
TERM = st.one_of(
    _of("flow", *FLOWS, "idle"),
    st.lists(st.sampled_from(RunStatus), min_size=1, max_size=3).map(lambda some: f"status:{','.join(some)}"),
    _of("tag", *TAGS, "none"),
    _of("key", *KEYS, "none"),
    _of("schedule", *KEYS, "bill/nightly", "billing/job-1"),
    _of("error", *PARTS, "none"),
    st.tuples(st.sampled_from(("since", "until")), st.sampled_from(TIMES)).map(":".join),
    st.tuples(st.sampled_from(("<", "<=", ">", ">=")), st.sampled_from(("1h", "24h", "86447s"))).map(
        lambda pair: f"age{pair[0]}{pair[1]}"
    ),
    st.sampled_from((*PARTS, *TAGS, *KEYS)).map(quoted),
    _attribute("customer", "42", "-7", "abc", "41.5"),
    _attribute("order.region", "eu", "US", 'a"b', "z"),
    _attribute("amount", "42", "42.50", "1000", "0"),
    st.sampled_from(("input.vip:true", "input.vip=false", "input.vip!=true")),
)
QUERY = st.lists(st.tuples(st.sampled_from(("", "", "-")), TERM).map("".join), max_size=4).map(" ".join)


@given(query=QUERY)
@settings(max_examples=200)
def test_the_ledger_lists_and_counts_what_a_query_means(filled: Filled, query: str) -> None:
    expected = filled.meant(query)
    if expected is None:
        with pytest.raises(QueryInvalid):
            filled.listed(query)
        return
    assert filled.listed(query) == expected
    assert filled.counted(query) == len(expected)


def test_every_kind_of_term_tells_runs_apart(filled: Filled) -> None:
    """What holds for all runs or for none would be true of wrong SQL too."""
    queries = (
        *("flow:bill", "status:failed", "status:waiting", "tag:test", "key:job-1", "schedule:nightly"),
        *("schedule:bill/nightly", "since:5h", "until:5h", "age<24h", "bill", '"say ""no"""', "-tag:red", "key!=red"),
        *("input.customer=42", "input.amount>42", "input.vip=true", "input.order.region<a", "-input.customer:42"),
        *("error:declined", "-error:declined", "since:5h status:failed,cancelled -tag:test"),
    )
    for query in queries:
        assert 0 < len(filled.listed(query)) < len(filled.rows), query


def test_a_flow_that_nobody_knows_is_an_error(filled: Filled) -> None:
    with pytest.raises(FlowNotFound, match="did you mean `billing`"):
        filled.listed("flow:bilings status:failed")


@pytest.mark.parametrize(
    ("query", "position", "message"),
    [
        ("flow:bill input.custmer=42", 10, "did you mean `customer`?"),
        ("flow:re-port input.customer=42", 13, "declare it"),
        ("input.vip=maybe", 0, "`input.vip` is a boolean, and `maybe` is not. Fix: write `true` or `false`"),
        ("input.vip>true", 0, "is a boolean"),
        ("flow:bill input.customer=abc", 10, "`input.customer` is a number, and `abc` is not"),
    ],
)
def test_only_what_a_flow_declares_is_searched_for(filled: Filled, query: str, position: int, message: str) -> None:
    for ask in (filled.listed, filled.counted):
        with pytest.raises(QueryInvalid) as caught:
            ask(query)
        assert (caught.value.position, message in caught.value.message) == (position, True)


def test_a_run_has_the_attributes_of_its_input_from_the_start(lab: Lab) -> None:
    schema = {"type": "object", "properties": SCHEMAS["bill"]}
    lab.flow({"a": call()}, name="bill", input_schema=schema, search=["customer", "order.region"])
    run_id = lab.start("bill", {"customer": 42, "order": {"region": "eu"}, "more": 1})
    keyed = lab.start("bill", {"order": {"region": "x" * 1001}}, key="k")
    rows = {row.id: row.search for row in listing.list_runs(lab.ledger)}
    assert rows == {run_id: {"customer": 42, "order.region": "eu"}, keyed: {}}
    found = listing.list_runs(lab.ledger, runquery.parse("input.customer:42", NOW))
    assert [row.id for row in found] == [run_id]
