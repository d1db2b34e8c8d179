"""Unhappy runs are found, and counted, by the fingerprints of their errors."""

from datetime import UTC, datetime, timedelta

from orchestrator.core import runquery
from orchestrator.core.facts import StepError
from orchestrator.core.runfilter import RunFilter
from orchestrator.engine.runs import cancel_run
from orchestrator.engine.steps import retry_step
from orchestrator.ledger import error_groups, listing, reads
from tests.support.factories import Lab, after, call, retry

GONE, OTHER = StepError("KeyError", "order 1 is gone", None, "pay.py f"), StepError("OSError", "away")


def test_a_failure_has_its_fingerprint_on_the_attempt_and_on_the_run(lab: Lab) -> None:
    run_id = lab.run({"a": call(retry=retry(2)), "b": call()})
    lab.fail(lab.take(run_id, "a"), OTHER)
    lab.do_fail(run_id, "b", error=GONE)
    assert reads.runs.get(lab.ledger, run_id).fingerprint == GONE.fingerprint
    assert [one.fingerprint for one in reads.steps.attempts(lab.ledger, run_id, "a")] == [OTHER.fingerprint]
    assert [one.fingerprint for one in reads.steps.attempts(lab.ledger, run_id, "b")] == [GONE.fingerprint]
    (row,) = listing.list_runs(lab.ledger, runquery.parse(f"error:{GONE.fingerprint}", datetime.now(UTC)))
    assert (row.id, row.error) == (run_id, {"step": "b", "type": "KeyError", "message": "order 1 is gone"})
    assert listing.list_runs(lab.ledger, RunFilter.of(error=OTHER.fingerprint)) == []


def test_a_run_that_goes_on_has_the_fingerprint_of_what_is_still_wrong(lab: Lab) -> None:
    run_id = lab.run({"a": call(), "b": call(), "c": after("a")})
    lab.do_fail(run_id, "a", error=GONE)
    lab.do_fail(run_id, "b", error=OTHER)
    assert reads.runs.get(lab.ledger, run_id).fingerprint == GONE.fingerprint
    retry_step.retry(lab.ledger, run_id, "a", by="ann")
    assert reads.runs.get(lab.ledger, run_id).fingerprint == OTHER.fingerprint
    lab.drain(run_id)
    retry_step.retry(lab.ledger, run_id, "b", by="ann")
    assert reads.runs.get(lab.ledger, run_id).fingerprint is None
    lab.drain(run_id)
    assert error_groups.errors(lab.ledger) == []


def test_errors_that_are_alike_are_one_group(lab: Lab) -> None:
    lab.flow({"a": call()})
    lab.flow({"a": call()}, name="other")
    runs = [lab.start() for _ in range(3)] + [lab.start("other")]
    for number, run_id in enumerate(runs):
        lab.do_fail(run_id, "a", error=StepError("KeyError", f"order {number} is gone", None, "pay.py f"))
    lab.do_fail(single := lab.start(), "a", error=OTHER)
    cancel_run.cancel(lab.ledger, stopped := lab.start(), reason="enough", by="ann", grace=timedelta(0))
    lab.drain(lab.start())
    first, *rest = error_groups.errors(lab.ledger)
    assert (first.fingerprint, first.count, first.flows) == (GONE.fingerprint, 4, ("demo", "other"))
    assert (first.example, first.message) == (runs[-1], "order 3 is gone")
    assert (first.first, first.last) == tuple(lab.run_row(run)["created_at"] for run in (runs[0], runs[-1]))
    assert {(one.fingerprint, one.type, one.example, one.count) for one in rest} == {
        (OTHER.fingerprint, "OSError", single, 1),
        (None, "cancelled", stopped, 1),
    }
    assert [one.count for one in error_groups.errors(lab.ledger, RunFilter.of(flow="other"))] == [1]
