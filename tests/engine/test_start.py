"""Accepting triggers: all or nothing, once per key, and only what fits."""

import json
from typing import Any

import pytest

from orchestrator.core.facts import StartedRun, StartRequest
from orchestrator.core.runfilter import RunFilter
from orchestrator.core.states import RunStatus, StepStatus
from orchestrator.engine.flows import switch
from orchestrator.engine.runs import start_run
from orchestrator.errors import (
    FlowDisabled,
    FlowNotFound,
    IdempotencyConflict,
    InputInvalid,
    OrchestratorError,
    StepNotFound,
    UsageError,
)
from orchestrator.ledger import listing, reads
from tests.support.factories import Lab, after, call, keys, loop


def start(lab: Lab, *requests: StartRequest) -> list[StartedRun]:
    return start_run.start(lab.ledger, requests)


def runs(lab: Lab) -> int:
    return len(lab.rows("SELECT 1 FROM flow_runs"))


def test_a_start_gives_the_dispatches_to_publish(lab: Lab) -> None:
    """Exactly the roots, with their routing; the rows are the same."""
    lab.flow({"a": call(), "b": call(queue="gpu", priority=1), "c": after("a"), "each": loop([1, 2])}, queue="main")
    (started,) = start(lab, StartRequest("demo", tags=("x",)))
    found = {(d.step_key, d.number, d.task, d.queue, d.priority) for d in started.dispatches}
    assert found == {
        ("a", 1, "demo.work", "main", 5),
        ("b", 1, "demo.work", "gpu", 1),
        ("each.0.do", 1, "demo.work", "main", 5),
        ("each.1.do", 1, "demo.work", "main", 5),
    }
    rows = lab.rows("SELECT step_key, dispatch_no, task, queue, priority FROM flow_step_dispatches")
    assert {tuple(row.values()) for row in rows} == found
    assert reads.runs.get(lab.ledger, started.run_id).tags == ("x",)


def test_the_same_key_gives_the_same_run(lab: Lab) -> None:
    """Also when the body is written otherwise; only the first call creates."""
    lab.flow({"a": call()})
    (first,) = start(lab, StartRequest("demo", '{"x": 1, "y": 2}', key="k"))
    (second,) = start(lab, StartRequest("demo", '{"y":2,"x":1}', key="k"))
    assert (first.created, second.created, second.dispatches) == (True, False, ())
    assert first.run_id == second.run_id
    (other,) = start(lab, StartRequest("demo", '{"x": 1}', key="another"))
    assert other.created
    assert runs(lab) == 2


def test_the_same_key_with_another_body_is_a_conflict(lab: Lab) -> None:
    """Nothing is started, and the first run is named."""
    lab.flow({"a": call()})
    (first,) = start(lab, StartRequest("demo", '{"x": 1}', key="k"))
    with pytest.raises(IdempotencyConflict, match=str(first.run_id)):
        start(lab, StartRequest("demo", '{"x": 2}', key="k"))
    assert runs(lab) == 1


def test_keys_expire(lab: Lab) -> None:
    """After the flow's time to live the key starts a new run."""
    lab.flow({"a": call()}, idempotency_ttl="PT1H")
    (first,) = start(lab, StartRequest("demo", key="k"))
    lab.forward(3590)
    assert start(lab, StartRequest("demo", key="k"))[0].run_id == first.run_id
    lab.forward(20)
    (second,) = start(lab, StartRequest("demo", '{"other": 1}', key="k"))
    assert second.created
    assert second.run_id != first.run_id
    lab.forward(3610)
    assert start(lab, StartRequest("demo", key="k"))[0].created


def test_keys_of_different_flows_do_not_meet(lab: Lab) -> None:
    """A key belongs to its flow."""
    for name in ("one", "two"):
        lab.flow({"a": call()}, name=name)
    first, second = start(lab, StartRequest("one", key="k"), StartRequest("two", key="k"))
    assert first.created
    assert second.created


def test_duplicates_inside_one_batch(lab: Lab) -> None:
    """The first of them creates the run, whatever stands around them."""
    lab.flow({"a": call()})
    keyed = [StartRequest("demo", '{"n": 1}', key=key) for key in ("k", "k", "l", "k")]
    started = start(lab, StartRequest("demo"), *keyed)
    assert [each.created for each in started] == [True, True, False, True, False]
    assert started[1].run_id == started[2].run_id == started[4].run_id
    assert runs(lab) == 3
    with pytest.raises(IdempotencyConflict):
        start(lab, StartRequest("demo", '{"n": 1}', key="m"), StartRequest("demo", '{"n": 2}', key="m"))


def test_a_conflict_inside_a_batch_starts_nothing(lab: Lab) -> None:
    """All or none of one call: also of the requests that had no key."""
    lab.flow({"a": call()})
    start(lab, StartRequest("demo", '{"n": 1}', key="k"))
    before = lab.snapshot()
    with pytest.raises(IdempotencyConflict):
        start(lab, StartRequest("demo"), StartRequest("demo", '{"n": 2}', key="k"), StartRequest("demo", key="new"))
    assert lab.snapshot() == before
    assert len(lab.rows("SELECT 1 FROM flow_idempotency_keys")) == 1


def test_500_starts_are_one_commit(lab: Lab) -> None:
    """And one round trip: one transaction wrote every row."""
    lab.flow({"a": call(), "b": after("a")}, tags=["nightly"])
    started = start(lab, *(StartRequest("demo", json.dumps({"n": n})) for n in range(500)))
    assert len({each.run_id for each in started}) == 500
    assert len(lab.rows("SELECT DISTINCT xmin::text AS x FROM flow_runs UNION SELECT xmin::text FROM flow_steps")) == 1
    bodies = lab.rows("SELECT trigger_body FROM flow_runs ORDER BY id")
    assert [row["trigger_body"]["n"] for row in bodies] == list(range(500))
    assert lab.rows("SELECT count(*) AS n FROM flow_step_dispatches")[0]["n"] == 500


def test_several_flows_in_one_call_are_all_or_nothing(lab: Lab) -> None:
    """The answers come in the order of the requests."""
    for name in ("one", "two"):
        lab.flow({name: call()}, name=name)
    started = start(lab, StartRequest("two"), StartRequest("one"), StartRequest("two"))
    assert [keys(each.dispatches) for each in started] == [["two"], ["one"], ["two"]]
    switch.disable(lab.ledger, "two", "ann")
    before = lab.snapshot() | {"flow_events": []}
    with pytest.raises(FlowDisabled):
        start(lab, StartRequest("one"), StartRequest("two"))
    with pytest.raises(FlowNotFound):
        start(lab, StartRequest("one"), StartRequest("zwo"))
    assert lab.snapshot() | {"flow_events": []} == before


def test_unknown_flows_get_a_suggestion(lab: Lab) -> None:
    """With the nearest name, or where the names are."""
    lab.flow({"a": call()}, name="nightly_report")
    with pytest.raises(FlowNotFound, match="did you mean `nightly_report`"):
        lab.start("nightly_reprot")
    with pytest.raises(FlowNotFound, match="start a worker that has it"):
        lab.start("zzz")


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "deep": {"type": "array", "items": {"type": "string"}}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}", '"n" is a required property'),
        ('{"n": "x"}', 'at `n`: "x" is not of type "integer"'),
        ('{"n": 1, "deep": ["a", 2]}', r"at `deep\[1\]`"),
        ('{"n": 1, "m": 2}', "unknown input `m`; use one of"),
        ("[1]", 'is not of type "object"'),
        ("{", "is not JSON"),
        ('{"n": NaN}', "is not JSON"),
        ('{"n": 1e999}', "not"),
        ('{"n": 1, "deep": ["a\\u0000"]}', "cannot be stored"),
        ('{"n": 1, "deep": ["\\ud800"]}', "cannot be stored"),
    ],
)
def test_a_body_that_does_not_fit_is_refused(lab: Lab, body: str, message: str) -> None:
    """With the path of the value, before anything is written."""
    lab.flow({"a": call()}, input_schema=SCHEMA)
    with pytest.raises(InputInvalid, match=message):
        start(lab, StartRequest("demo", '{"n": 1}'), StartRequest("demo", body))
    assert runs(lab) == 0


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_keys_have_a_length(lab: Lab, key: str) -> None:
    """1 to 255 characters."""
    lab.flow({"a": call()})
    with pytest.raises(UsageError, match="1 to 255 characters"):
        start(lab, StartRequest("demo", key=key))
    with pytest.raises(OrchestratorError):
        start(lab, StartRequest("demo", key="a\x00b"))
    assert runs(lab) == 0


def test_a_deploy_between_two_starts_is_noticed(lab: Lab) -> None:
    """Another process registered a new version: the cached hash is not used."""
    lab.flow({"a": call()})
    first = lab.start()
    other = lab.another()
    try:
        other_lab_manifest = lab.flow({"b": call()}, version="2")
        lab.ledger.current["demo"] = reads.runs.get(lab.ledger, first).manifest_hash
        second = lab.start()
    finally:
        other.close()
    assert reads.runs.get(lab.ledger, second).manifest_hash == other_lab_manifest.hash
    assert lab.ready(second) == ["b"]
    lab.do(first, "a")
    lab.do(second, "b")
    assert lab.status(first) is RunStatus.SUCCEEDED


def test_nothing_to_start(lab: Lab) -> None:
    """An empty call is not an error."""
    assert start(lab) == []


# ---- finding runs ----


def test_runs_are_found_by_prefix_and_listed(lab: Lab) -> None:
    """Newest first; by flow, status, tag; page by page."""
    lab.flow({"a": call()}, name="one", tags=["red"])
    lab.flow({"a": call()}, name="two")
    ids = [lab.start("one"), lab.start("two"), lab.start("one")]
    lab.do(ids[0], "a")
    assert [row.id for row in listing.list_runs(lab.ledger)] == ids[::-1]
    assert [row.id for row in listing.list_runs(lab.ledger, RunFilter.of(flow="one"), limit=1)] == [ids[2]]
    assert [row.id for row in listing.list_runs(lab.ledger, after=ids[1])] == [ids[0]]
    assert [row.id for row in listing.list_runs(lab.ledger, RunFilter.of(status=RunStatus.SUCCEEDED))] == [ids[0]]
    assert [row.id for row in listing.list_runs(lab.ledger, RunFilter.of(tag="red"))] == [ids[2], ids[0]]
    for run_id in ids:
        assert reads.runs.find(lab.ledger, str(run_id)) == run_id
        assert reads.runs.find(lab.ledger, str(run_id)[:-2]) == run_id
        assert reads.runs.find(lab.ledger, str(run_id)[-8:]) == run_id
    with pytest.raises(OrchestratorError, match="matches several runs"):
        reads.runs.find(lab.ledger, str(ids[0])[:6])
    for wrong in ("zzzz", "12", "ffffffff-ffff"):
        with pytest.raises(OrchestratorError, match=r"No run|not a run id"):
            reads.runs.find(lab.ledger, wrong)


def test_steps_fold_big_loops(lab: Lab) -> None:
    """The loop's row counts its children by status."""
    lab.flow({"each": loop("@triggerBody().items"), "two": loop([1, 2])})
    run_id = lab.start(body={"items": list(range(5))})
    lab.do(run_id, "each.0.do")
    folded = {step.key: step for step in reads.steps.page(lab.ledger, run_id, fold=3)}
    assert list(folded) == ["each", "two", "two.0.do", "two.1.do"]
    assert folded["each"].children == {"ready": 4, "succeeded": 1}
    assert (folded["each"].children_total, folded["each"].children_open) == (5, 4)
    assert len(reads.steps.page(lab.ledger, run_id)) == 9


def test_steps_come_in_pages(lab: Lab) -> None:
    """Those of the manifest, and the children of a loop, also by status."""
    lab.flow({"a": call(), "each": loop("@triggerBody().items"), "b": after("a"), "c": after("a")})
    run_id = lab.start(body={"items": list(range(25))})
    lab.do(run_id, "each.3.do", "each.11.do", "each.20.do")

    def keys(loop: str | None = None, **page: Any) -> list[str]:
        if loop is not None:
            return [step.key for step in reads.steps.children(lab.ledger, run_id, loop, **page)]
        return [step.key for step in reads.steps.page(lab.ledger, run_id, **page)]

    assert keys(limit=2) == ["a", "each"]
    assert keys(after="each", limit=1) == ["b"]
    assert keys(after="c") == []
    assert keys(status=StepStatus.BLOCKED) == ["b", "c"]
    assert keys(loop="each", limit=2) == ["each.0.do", "each.1.do"]
    assert keys(loop="each", after="each.22.do") == ["each.23.do", "each.24.do"]
    assert keys(loop="each", status=StepStatus.SUCCEEDED, limit=2) == ["each.3.do", "each.11.do"]
    assert keys(loop="each", status=StepStatus.SUCCEEDED, after="each.11.do") == ["each.20.do"]
    for wrong, said in (
        ({"loop": "eech"}, "did you mean `each`"),
        ({"loop": "a"}, "is not a loop"),
        ({"after": "nope"}, "has no step 'nope'"),
        ({"loop": "each", "after": "a"}, "is not a child of loop"),
    ):
        with pytest.raises(StepNotFound, match=said):
            keys(**wrong)


ORDER = {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]}


def with_default(region: str) -> dict[str, Any]:
    """The input schema after a deploy that added a parameter."""
    return {**ORDER, "properties": {**ORDER["properties"], "region": {"type": "string", "default": region}}}  # type: ignore[dict-item]


def test_the_same_request_is_the_same_after_a_deploy_that_adds_a_default(lab: Lab) -> None:
    """A caller that retries a request must not be told to use a new key: that would double the order."""
    lab.flow({"a": call()}, input_schema=ORDER)
    asked = StartRequest("demo", '{"number": "17"}', key="order-17")
    (first,) = start(lab, asked)
    lab.flow({"a": call()}, input_schema=with_default("eu"))
    assert start(lab, asked) == [StartedRun(first.run_id, False, ())]
    pair = start(lab, asked, StartRequest("demo", '{"number": "18"}', key="order-18"))
    assert [one.created for one in pair] == [False, True]
    assert reads.runs.get(lab.ledger, pair[1].run_id).body == {"number": "18", "region": "eu"}
    with pytest.raises(IdempotencyConflict, match=str(first.run_id)):
        start(lab, StartRequest("demo", '{"number": "17", "region": "us"}', key="order-17"))
    with pytest.raises(IdempotencyConflict):
        start(lab, StartRequest("demo", '{"number": "71"}', key="order-17"))


def test_a_default_that_changed_changes_no_request(lab: Lab) -> None:
    """What the first run was given is what counts: left out, it had the default of then."""
    lab.flow({"a": call()}, input_schema=with_default("eu"))
    (first,) = start(lab, StartRequest("demo", '{"number": "17"}', key="k"))
    lab.flow({"a": call()}, input_schema=with_default("us"))
    for same in ('{"number": "17"}', '{"region": "eu", "number": "17"}'):
        assert start(lab, StartRequest("demo", same, key="k")) == [StartedRun(first.run_id, False, ())]
    with pytest.raises(IdempotencyConflict):
        start(lab, StartRequest("demo", '{"number": "17", "region": "us"}', key="k"))


def test_a_key_expires_for_the_whole_of_a_start_or_not_at_all(lab: Lab) -> None:
    """The clock goes on within a statement: a run must not be left with the digest of another request."""
    lab.flow({"a": call()}, idempotency_ttl="PT60S")
    lab.execute("CREATE SEQUENCE calls")
    for asked in range(12):
        key = f"k{asked}"
        lab.start(body={"n": 1}, key=key)
        (row,) = lab.rows("SELECT expires_at FROM flow_idempotency_keys WHERE key = %s", key)
        lab.execute("ALTER SEQUENCE calls RESTART")
        lab.execute(
            "CREATE OR REPLACE FUNCTION flow_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS"
            f" $$SELECT timestamptz '{row['expires_at'].isoformat()}' + (nextval('calls') - {asked}) * interval '1 s'$$"
        )
        try:
            (started,) = start_run.start(lab.ledger, [StartRequest("demo", '{"n": 2}', key=key)])
            assert started.created, asked
        except IdempotencyConflict:
            pass
        lab.forward(0)
    lab.execute("DROP SEQUENCE calls")
