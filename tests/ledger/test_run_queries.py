"""Text, SQL and the reference filter mean the same runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core import runquery
from orchestrator.core.runfilter import ALL
from orchestrator.core.states import RunStatus
from orchestrator.errors import FlowNotFound
from orchestrator.ledger import listing
from orchestrator.ledger.reads.rows import RunRow
from tests.proof.run_filter import meant
from tests.support.factories import Lab, call, retry

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
FLOWS = ("bill", "billing", "re-port")
TAGS = ("test", "red", "it's", 'say "no"', "a,b")
KEYS = ("job-1", "nightly", "red")
ERRORS = ("ValueError: card declined", "ConnectionError: host db1 is Away", "KeyError: 'bill'")
AGES_H = (1, 5, 23, 24, 25, 400)
FILL = """
INSERT INTO flow_runs (id, flow, manifest_hash, status, halt, failures, trigger_key, scheduled_for, trigger_body,
                       sinks_open, created_at, ended_at, tags, error)
SELECT %(id)s, %(flow)s, v.hash, %(status)s, %(halt)s, %(failures)s, %(key)s, %(scheduled)s, '{}', 0, %(at)s, %(ended)s,
       %(tags)s, %(error)s
  FROM flow_definition_versions v WHERE v.flow = %(flow)s
"""


def _fill(lab: Lab) -> None:
    """A hundred runs in which every value meets many others."""
    for flow in (*FLOWS, "idle"):
        lab.flow({"a": call(retry=retry(2))}, name=flow)
    statuses = ("pending", "running", "succeeded", "succeeded", "failed", "cancelled", "timed_out")
    for n in range(100):
        status = statuses[n % 7]
        failed = status == "failed"
        type_, _, message = ERRORS[n % 3].partition(": ")
        at = NOW - timedelta(hours=AGES_H[n % 6], seconds=n)
        row = {
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


@dataclass(repr=False)
class Filled:
    """Without its rows where a failing example is shown."""

    lab: Lab
    rows: list[RunRow]

    def meant(self, query: str) -> list[UUID]:
        wanted = runquery.parse(query, NOW)
        return [row.id for row in self.rows if meant(wanted, row)]

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
)
QUERY = st.lists(st.tuples(st.sampled_from(("", "", "-")), TERM).map("".join), max_size=4).map(" ".join)


@given(query=QUERY)
@settings(max_examples=200)
def test_the_ledger_lists_and_counts_what_a_query_means(filled: Filled, query: str) -> None:
    expected = filled.meant(query)
    assert filled.listed(query) == expected
    assert filled.counted(query) == len(expected)


def test_every_kind_of_term_tells_runs_apart(filled: Filled) -> None:
    """What holds for all runs or for none would be true of wrong SQL too."""
    queries = (
        *("flow:bill", "status:failed", "status:waiting", "tag:test", "key:job-1", "schedule:nightly"),
        *("schedule:bill/nightly", "since:5h", "until:5h", "age<24h", "bill", '"say ""no"""', "-tag:red", "key!=red"),
        *("error:declined", "-error:declined", "since:5h status:failed,cancelled -tag:test"),
    )
    for query in queries:
        assert 0 < len(filled.listed(query)) < len(filled.rows), query


def test_a_flow_that_nobody_knows_is_an_error(filled: Filled) -> None:
    with pytest.raises(FlowNotFound, match="did you mean `billing`"):
        filled.listed("flow:bilings status:failed")
