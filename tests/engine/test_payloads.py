"""Long outputs outside of the ledger: which may go there, who reads them, when they are removed."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.core.facts import Chain, Finished, Lease, Success, WorkerInfo
from orchestrator.core.manifest import Manifest
from orchestrator.core.plan import Plan
from orchestrator.core.states import RunStatus
from orchestrator.engine import payloads, workers
from orchestrator.engine.runs import delete_run, rerun
from orchestrator.engine.runs.rerun import Again
from orchestrator.engine.steps import finish_step
from orchestrator.engine.sweeps import retention, sweep
from orchestrator.engine.sweeps.walk import Walk
from orchestrator.errors import LeaseLost, OutputInvalid, PayloadLost, PayloadUnavailable
from orchestrator.ledger import reads
from orchestrator.payloads import Payloads
from tests.support.factories import Lab, after, call, loop
from tests.support.payloads import payloads_of

TTL = timedelta(seconds=30)
LONG = "x" * 5000
READ = {"x": "@steps('make').output"}
CHAIN = {"make": call(), "use": after("make", inputs=READ)}


@pytest.fixture
def stored(lab: Lab, tmp_path: Path) -> Iterator[Lab]:
    """The lab with a payload store of its own."""
    before, lab.ledger.payloads = lab.ledger.payloads, payloads_of(f"file://{tmp_path}")
    payloads.begin(lab.ledger)
    yield lab
    lab.ledger.payloads = before


def offload(lab: Lab, lease: Lease, output: Any = LONG, **fields: Any) -> Finished:
    """Finish as a worker does with a long result."""
    assert payloads.may_write(lab.ledger, lease, TTL)
    text = json.dumps(output)
    payload = lab.ledger.payloads.write(payloads.reference_of(lease), text.encode())
    return finish_step.finish(lab.ledger, lease, Success(text, payload=payload, **fields))


def row(lab: Lab, run_id: UUID, key: str) -> dict[str, Any]:
    (found,) = lab.rows("SELECT * FROM flow_outputs WHERE run_id = %s AND step_key = %s", run_id, key)
    return found


def files(tmp_path: Path) -> set[str]:
    """What is in the store, but for its mark."""
    return {str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*.json")}


def info(name: str, store: UUID | None) -> WorkerInfo:
    return WorkerInfo(name, "host", 1, "solo", 1, 1, ("default",), (), "1", payload_store=store)


# ---- what it does ----


def test_the_next_step_reads_it_in_the_store(stored: Lab, tmp_path: Path) -> None:
    run_id = stored.run(CHAIN, output="@steps('make').output")
    offload(stored, stored.take(run_id, "make"))
    kept = row(stored, run_id, "make")
    assert (kept["output"], kept["size_bytes"], kept["store"]) == (None, 5002, str(stored.ledger.payloads.id))
    assert files(tmp_path) == {kept["reference"]}
    lease = stored.take(run_id, "use")
    assert lease.known == {}
    assert stored.inputs(lease) == {"x": LONG}
    stored.done(lease, 1)
    assert stored.status(run_id) is RunStatus.SUCCEEDED
    assert reads.runs.result(stored.ledger, run_id) == LONG
    assert reads.steps.output(stored.ledger, run_id, "make") == LONG


def test_none_in_the_ledger_is_no_payload(stored: Lab) -> None:
    """JSON's null, and nothing at all, are two things."""
    run_id = stored.run(CHAIN)
    stored.done(stored.take(run_id, "make"), None)
    assert stored.inputs(stored.take(run_id, "use")) == {"x": None}


def test_a_worker_that_goes_on_has_it_in_hand(stored: Lab, tmp_path: Path) -> None:
    run_id = stored.run(CHAIN)
    lease = stored.take(run_id, "make")
    offer = Chain(timedelta(seconds=30), frozenset({lease.task}))
    following = offload(stored, lease, chain=offer).next
    assert following is not None
    for file in tmp_path.rglob("*.json"):
        file.unlink()
    assert stored.inputs(following) == {"x": LONG}


def test_the_children_of_a_loop_read_it_once(stored: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"inputs": {"item": "@item()", **READ}}
    run_id = stored.run({"make": call(), "each": {**loop([1, 2, 3], body=body), "run_after": {"make": ["succeeded"]}}})
    offload(stored, stored.take(run_id, "make"))
    read, seen = Payloads.read, []
    monkeypatch.setattr(Payloads, "read", lambda self, payload: seen.append(payload) or read(self, payload))
    for key in stored.ready(run_id):
        assert stored.inputs(stored.take(run_id, key))["x"] == LONG
    assert len(seen) == 1


def test_a_second_try_of_a_step_has_a_name_of_its_own(stored: Lab, tmp_path: Path) -> None:
    """Whoever lost the step may write yet: what is recorded stays as it is."""
    run_id = stored.run(CHAIN)
    late = stored.take(run_id, "make")
    stored.forward(TTL * 2)
    sweep.expired(stored.ledger, crash_limit=3, walk=Walk(10))
    offload(stored, stored.take(run_id, "make"), LONG + "new")
    with pytest.raises(LeaseLost):
        offload(stored, late)
    assert len(files(tmp_path)) == 2
    assert reads.steps.output(stored.ledger, run_id, "make") == LONG + "new"


def test_what_is_recorded_again_in_the_ledger_is_read_there(stored: Lab) -> None:
    """Also where the row has where it was before."""
    run_id = stored.run(CHAIN)
    offload(stored, stored.take(run_id, "make"))
    stored.execute("UPDATE flow_outputs SET output = 'null' WHERE run_id = %s", run_id)
    assert reads.steps.output(stored.ledger, run_id, "make") is None


# ---- which may ----


def plan(steps: dict[str, Any], **fields: Any) -> Plan:
    return Plan.of(Manifest(name="demo", steps=steps, **fields))


MAKE: dict[str, Any] = {"make": call()}


@pytest.mark.parametrize(
    "steps",
    [
        {"make": call(), "each": loop("@steps('make').output.rows")},
        {"make": call(), "use": call(when="@steps('make').output.ok")},
        {"make": call(), "ok": {"require": "@steps('make').output.ok", "message": "no"}},
        {"make": call(), "other": call(), "one": {"value": "@steps('make').output ?? @steps('other').output"}},
        {"make": call(), "rest": {"until": "@steps('make').output.at"}, "end": after("rest")},
        {"make": call(), "sub": {"flow": "child", "inputs": READ}},
        {"make": call(), "ask": {"approval": {"title": "Is it?", "to": "ann", "show": READ}}},
        {"make": call(), "each": {**loop([1], body={"when": "@steps('make').output.ok"}), "output": 1}},
        {"make": call(transactional=True)},
    ],
    ids=lambda steps: "-".join(steps),
)
def test_what_is_read_while_the_run_is_held_stays(steps: dict[str, Any]) -> None:
    """A list that SQL reads, a condition, a merge: nobody waits for a store with a lock in hand."""
    assert "make" not in plan(steps).offloadable


def test_what_workers_and_clients_read_may_go() -> None:
    steps = {
        "make": call(),
        "use": after("make", inputs=READ),
        "each": loop([1], body={"inputs": READ}),
        "checked": call(when="@steps('make').status == 'succeeded'"),
    }
    found = plan(steps, output="@steps('make').output")
    assert found.offloadable == {"make", "use", "checked"}
    assert found.read_by_output == {"make"}


def test_what_a_calling_run_reads_stays(stored: Lab) -> None:
    """It is copied in the moment in which the call ends."""
    stored.flow(CHAIN, name="child", output="@steps('use').output")
    run_id = stored.run({"sub": {"flow": "child", "inputs": {}}})
    child = stored.step(run_id, "sub")["child_run_id"]
    offload(stored, stored.take(child, "make"))
    lease = stored.take(child, "use")
    assert not payloads.may_write(stored.ledger, lease, TTL)
    stored.done(lease, LONG)


def test_nothing_goes_where_not_every_worker_reads_it(stored: Lab) -> None:
    """A worker of the release before would give its steps null."""
    store = stored.ledger.payloads.id
    run_id = stored.run(CHAIN)
    lease = stored.take(run_id, "make")
    workers.hello(stored.ledger, info("w1", store))
    assert payloads.may_write(stored.ledger, lease, TTL)
    for stranger in (None, uuid4()):
        workers.hello(stored.ledger, info("w2", stranger))
        with pytest.raises(PayloadUnavailable, match=r"1 live worker without payload store .* Fix: set"):
            payloads.may_write(stored.ledger, lease, TTL)
        workers.gone(stored.ledger, "w2")
    workers.hello(stored.ledger, info("w3", None))
    stored.forward(TTL * 2)
    workers.seen(stored.ledger, "w1", consuming=True)
    assert payloads.may_write(stored.ledger, lease, TTL)


def test_the_cap() -> None:
    small = payloads_of("file:///nowhere", cap=2000)
    finish_step.check_size("x" * 2000, small)
    for text in ("x" * 2001, "é" * 1001):
        with pytest.raises(OutputInvalid, match=r"ORCHESTRATOR_PAYLOAD_CAP allows 2,000. Fix: store it elsewhere"):
            finish_step.check_size(text, small)
    finish_step.check_size("x" * 2001, Payloads())


# ---- whose store it is ----


def test_the_first_process_marks_the_store_and_the_others_find_it(lab: Lab, tmp_path: Path) -> None:
    (here := tmp_path / "here").mkdir()
    (there := tmp_path / "there").mkdir()
    ledger = lab.ledger
    before = ledger.payloads
    try:
        assert payloads.begin(ledger) is None
        ledger.payloads = payloads_of(f"file://{here}")
        first = payloads.begin(ledger)
        ledger.payloads = payloads_of(f"file://{here}")
        assert payloads.begin(ledger) == first
        ledger.payloads = payloads_of(f"file://{there}")
        with pytest.raises(PayloadUnavailable, match=f"has the id {first}: it has no mark. Fix: mount that one"):
            payloads.begin(ledger)
        assert list(there.iterdir()) == []
        payloads_of(f"file://{there}").put_mark(other := uuid4())
        with pytest.raises(PayloadUnavailable, match=f"its mark says {other}"):
            payloads.begin(ledger)
        assert payloads.forget_store(ledger) == first
        assert payloads.begin(ledger) == other
    finally:
        ledger.payloads = before


def test_two_that_begin_at_once_agree(lab: Lab, tmp_path: Path) -> None:
    ledgers = [lab.another() for _ in range(4)]
    for one in ledgers:
        one.payloads = payloads_of(f"file://{tmp_path}")
    try:
        found = lab.race(*(lambda one=one: payloads.begin(one) for one in ledgers))
        assert len(set(found)) == 1
        assert found[0] == payloads_of(f"file://{tmp_path}").mark()
    finally:
        for one in ledgers:
            one.close()


# ---- when they go ----


def ended(lab: Lab) -> UUID:
    run_id = lab.run(CHAIN)
    offload(lab, lab.take(run_id, "make"))
    lab.do_fail(run_id, "use")
    return run_id


def test_they_go_with_their_run(stored: Lab, tmp_path: Path) -> None:
    """Those of lost attempts too; but not before whoever was writing has surely ended."""
    run_id, other = ended(stored), ended(stored)
    stored.ledger.payloads.write(f"{run_id}/make/99.json", b"1")
    assert payloads.sweep(stored.ledger) == 0
    delete_run.delete(stored.ledger, run_id, by="ann")
    assert payloads.sweep(stored.ledger) == 0
    assert len(files(tmp_path)) == 3
    stored.forward(payloads.GRACE + timedelta(seconds=1))
    assert payloads.sweep(stored.ledger) == 1
    assert files(tmp_path) == {row(stored, other, "make")["reference"]}
    assert payloads.sweep(stored.ledger) == 0
    stored.forward(timedelta(days=2))
    assert retention.runs(stored.ledger, timedelta(days=1)) == 1
    stored.forward(payloads.GRACE * 2)
    assert payloads.sweep(stored.ledger) == 1
    assert files(tmp_path) == set()
    assert stored.rows("SELECT * FROM flow_payloads") == []


def test_what_a_rerun_has_kept_outlives_its_source(stored: Lab, tmp_path: Path) -> None:
    source = ended(stored)
    again = rerun.start(stored.ledger, Again(source, "use"), by="ann").run_id
    stored.do_fail(again, "use")
    third = rerun.start(stored.ledger, Again(again, "use"), by="ann").run_id
    for gone in (source, again):
        delete_run.delete(stored.ledger, gone, by="ann")
        stored.forward(payloads.GRACE * 2)
        assert payloads.sweep(stored.ledger) == 0
    lease = stored.take(third, "use")
    assert stored.inputs(lease) == {"x": LONG}
    stored.done(lease, 1)
    assert reads.steps.output(stored.ledger, third, "make") == LONG
    delete_run.delete(stored.ledger, third, by="ann")
    stored.forward(payloads.GRACE * 2)
    assert payloads.sweep(stored.ledger) == 1
    assert files(tmp_path) == set()


def test_a_store_that_is_away_is_cleaned_up_later(stored: Lab, tmp_path: Path) -> None:
    run_id = ended(stored)
    delete_run.delete(stored.ledger, run_id, by="ann")
    stored.forward(payloads.GRACE * 2)
    with pytest.MonkeyPatch.context() as patch:

        def away(*_: object) -> None:
            raise PayloadUnavailable("away")

        patch.setattr(Payloads, "remove", away)
        with pytest.raises(PayloadUnavailable):
            payloads.sweep(stored.ledger)
    assert payloads.sweep(stored.ledger) == 1
    assert files(tmp_path) == set()


def test_a_run_that_is_gone_gets_no_payloads(stored: Lab) -> None:
    run_id = stored.run(CHAIN)
    lease = stored.take(run_id, "make")
    with pytest.raises(LeaseLost, match="was removed"):
        payloads.may_write(stored.ledger, replace(lease, run_id=uuid4()), TTL)
    stored.done(lease)


def test_what_was_lost_is_an_error_that_says_what_to_do(stored: Lab, tmp_path: Path) -> None:
    run_id = stored.run(CHAIN)
    offload(stored, stored.take(run_id, "make"))
    lease = stored.take(run_id, "use")
    (file,) = tmp_path.rglob("*.json")
    file.unlink()
    with pytest.raises(PayloadLost, match=r"make/\d+.json \(5,002 bytes\) is not there any more.*--from STEP"):
        stored.inputs(lease)
