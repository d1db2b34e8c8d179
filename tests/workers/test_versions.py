"""Releases side by side: a worker takes no step that its code cannot run, and it costs no attempt."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from orchestrator.authoring.discovery import load_flows
from orchestrator.core.manifest import FORMAT
from orchestrator.engine.runs import explain
from orchestrator.ledger import reads
from orchestrator.settings import Settings
from orchestrator.workers.app import start
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess
from tests.workers.conftest import Bench

Make = Callable[..., WorkerProcess]

OLD = """
from orchestrator import flow, step
@step(retries=3, backoff=["0.3s"])
def send(to: str) -> str:
    return f"old code sent to {to}"
@step
def note(to: str) -> str:
    return to
@flow
def mailing(to: str) -> str:
    return send(note(to))
"""
NEW = """
from orchestrator import flow, step
@step(retries=3, backoff=["0.3s"])
def send(to: str, subject: str) -> str:
    return f"new code sent {subject} to {to}"
@step
def note(to: str) -> str:
    return to
@flow
def mailing(to: str) -> str:
    return send(note(to), "hello")
"""


def module(folder: Path, name: str, text: str) -> str:
    path = folder / f"{name}.py"
    path.write_text(text)
    return str(path)


def newer_run(bench: Bench, db_url: str, **fields: Any) -> UUID:
    """A run of `chain` that is pinned to a manifest of a newer release: one field more."""
    hash_ = reads.flows.get(bench.ledger, "chain").manifest_hash
    run_id = bench.start("chain", publish=False, n=1)
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO flow_definition_versions (hash, flow, version, manifest, format)"
            " SELECT %s, flow, '2', jsonb_set(manifest::jsonb, '{steps,add,when}', '\"x\"')::json, %s"
            "   FROM flow_definition_versions WHERE hash = %s",
            ["f" * 64, fields["format"], hash_],
        )
        connection.execute("UPDATE flow_runs SET manifest_hash = %s WHERE id = %s", ["f" * 64, run_id])
    return run_id


@pytest.mark.parametrize("format", [FORMAT + 1, 1])
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_run_that_cannot_be_read_waits_unharmed(
    bench: Bench, worker: Make, db_url: str, pool: str, format: int
) -> None:
    """Its format says so, or (with a bug of ours) only its text: no claim, no attempt, no message that circles."""
    run_id = newer_run(bench, db_url, format=format)
    made = worker(pool=pool, concurrency=2)
    eventually(lambda: "step.refused" in made.log())
    other = bench.start("chain", n=1)
    assert bench.result(other) == bench.result(bench.start("chain", n=1))  # a few sweeps go by
    with psycopg.connect(db_url) as connection:
        found = connection.execute(
            "SELECT s.status, s.attempts, s.crashes, d.dispatch_no, d.publish_count FROM flow_steps s"
            "  JOIN flow_step_dispatches d USING (run_id, step_key) WHERE run_id = %s AND step_key = 'add'",
            [run_id],
        ).fetchall()
    assert [row[:4] for row in found] == [("ready", 0, 0, 1)]
    assert found[0][4] <= 2
    assert bench.effects("start", run_id) == []
    assert made.log().count("step.refused") == 1
    assert "More is not known here" in explain.explain(bench.ledger, run_id, "add").sentence


def test_a_rolling_deploy_that_adds_a_parameter_fails_no_run(bench: Bench, worker: Make) -> None:
    """Old and new workers share the queue; each run goes on where its inputs fit, and no attempt is lost."""
    old, new = module(bench.folder, "old_mail", OLD), module(bench.folder, "new_mail", NEW)
    worker(flows=old, pool="threads", concurrency=2)
    late = [{"to": f"old{n}"} for n in range(4)]
    before = bench.start_many("mailing", late, publish=False)  # pinned to the old version; met during the deploy
    worker(flows=new, pool="prefork", concurrency=2)
    after = bench.start_many("mailing", [{"to": f"new{n}"} for n in range(12)])
    assert [bench.result(run) for run in after] == [f"new code sent hello to new{n}" for n in range(12)]
    assert [bench.result(run) for run in before] == [f"old code sent to old{n}" for n in range(4)]
    for run in (*before, *after):
        assert [one.status for key in ("note", "send") for one in bench.attempts(run, key)] == ["succeeded"] * 2


def test_a_step_that_no_worker_accepts_waits_and_says_why(bench: Bench, worker: Make) -> None:
    """A run in flight when the old code is gone: it waits, uncharged, and goes on when code comes that fits."""
    old, new = module(bench.folder, "old_mail", OLD), module(bench.folder, "new_mail", NEW)
    worker(flows=old, queues=("elsewhere",)).kill()  # it registers its version, and takes nothing
    (run,) = bench.start_many("mailing", [{"to": "ann"}])
    made = worker(flows=new, pool="threads", concurrency=2)
    why = "refuses it, because its parameter `subject` is not given"
    ttl = bench.settings.worker_ttl
    eventually(lambda: why in explain.explain(bench.ledger, run, "send", ttl).sentence)
    eventually(lambda: "it waits in the ledger" in made.log())
    (row,) = [one for one in reads.workers.every(bench.ledger, ttl) if one.live]
    assert list(row.refuses.values()) == ["its parameter `subject` is not given"]
    assert bench.attempts(run, "send") == []
    fits = NEW.replace("subject: str)", 'subject: str = "your order")')
    worker(flows=module(bench.folder, "fitting_mail", fits), pool="threads", concurrency=2)
    assert bench.result(run) == "new code sent your order to ann"
    assert [one.status for one in bench.attempts(run, "send")] == ["succeeded"]


def test_code_that_fits_starts_what_waited_for_it(bench: Bench, worker: Make) -> None:
    """It need not be found again when its patience is over, which takes an hour here."""
    slow = bench.settings.model_copy(update={"redispatch_after": timedelta(hours=1)})
    worker(flows=module(bench.folder, "old_mail", OLD), queues=("elsewhere",)).kill()
    (run,) = bench.start_many("mailing", [{"to": "ann"}])
    made = worker(flows=module(bench.folder, "new_mail", NEW), pool="threads", settings=slow)
    eventually(lambda: "it waits in the ledger" in made.log(), timeout=60)
    fits = NEW.replace("subject: str)", 'subject: str = "your order")')
    worker(flows=module(bench.folder, "fitting_mail", fits), pool="threads", settings=slow)
    assert bench.result(run) == "new code sent your order to ann"


def test_a_bad_value_still_fails_its_step(bench: Bench, worker: Make) -> None:
    """What the names cannot tell: the type of a parameter changed."""
    old = module(bench.folder, "old_mail", OLD)
    worker(flows=old, queues=("elsewhere",)).kill()
    (run,) = bench.start_many("mailing", [{"to": "ann"}])
    worker(
        flows=module(bench.folder, "new_mail", OLD.replace("def send(to: str)", "def send(to: int)")), pool="threads"
    )
    assert bench.ended(run).value == "failed"
    assert [one.error_type for one in bench.attempts(run, "send")] == ["orchestrator.errors.InputInvalid"]


def test_what_goes_wrong_before_the_handler_costs_no_attempt(bench: Bench, worker: Make, db_url: str) -> None:
    """A claim whose handler is not there, whatever the cause: given back, and not at once, so that nothing spins."""
    run_id = bench.start("chain", n=1)
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute("UPDATE flow_steps SET task = 'chain.gone' WHERE run_id = %s AND step_key = 'add'", [run_id])
        made = worker(pool="threads", concurrency=2)
        eventually(lambda: "step.not_started" in made.log())
        row = connection.execute(
            "SELECT attempts, crashes, dispatch_no FROM flow_steps WHERE run_id = %s AND step_key = 'add'", [run_id]
        ).fetchone()
        assert row is not None
        assert (row[0] <= 1, row[1]) == (True, 0)
        assert row[2] <= 10
        for table in ("flow_steps", "flow_step_dispatches"):  # what was given back was dispatched as it stood there
            connection.execute(
                f"UPDATE {table} SET task = 'chain.add' WHERE run_id = %s AND step_key = 'add'".encode(), [run_id]
            )
    # What is sent in vain is sent again after ever longer pauses.
    assert bench.ended(run_id, timeout=90).value == "succeeded"
    assert [one.status for one in bench.attempts(run_id, "add")] == ["succeeded"]


def test_a_worker_whose_code_is_not_current_says_so(bench: Bench, worker: Make) -> None:
    old, new = module(bench.folder, "old_mail", OLD), module(bench.folder, "new_mail", NEW)
    first = worker(flows=old, pool="threads")
    assert "flow.not_current" not in first.log()
    worker(flows=new, pool="threads")
    again = worker(flows=old, pool="threads")
    again.says("flow.not_current")
    again.says("orchestrator flow deploy mailing")
    versions = {row.versions["mailing"] for row in reads.workers.every(bench.ledger)}
    assert len(versions) == 2
    assert reads.flows.get(bench.ledger, "mailing").manifest_hash in versions


REMOVED = """
from orchestrator import flow, step
@step
def note(to: str) -> str:
    return to
@flow
def mailing(to: str) -> str:
    return note(to)
"""
RETIRED = """
from orchestrator import flow, step
@step
def note(to: str) -> str:
    return to
@step
def send(to: str) -> str:
    return f"retired code sent to {to}"
@flow(retired=[send])
def mailing(to: str) -> str:
    return note(to)
"""


@pytest.mark.slow
def test_a_removed_step_of_a_run_in_flight_waits_for_its_retired_handler(bench: Bench, worker: Make) -> None:
    """What `explain` says is what helps."""
    worker(flows=module(bench.folder, "old_mail", OLD), queues=("elsewhere",)).kill()
    (run,) = bench.start_many("mailing", [{"to": "ann"}])
    made = worker(flows=module(bench.folder, "removed_mail", REMOVED), pool="threads", concurrency=2)
    ttl = bench.settings.worker_ttl

    def said() -> bool:
        sentence = explain.explain(bench.ledger, run, "send", ttl).sentence
        return "no live worker has handler mailing.send" in sentence and "`@flow(retired=[send])`" in sentence

    eventually(said)
    made.term()
    worker(flows=module(bench.folder, "retired_mail", RETIRED), pool="threads", concurrency=2)
    assert bench.result(run) == "retired code sent to ann"
    assert [one.status for one in bench.attempts(run, "send")] == ["succeeded"]


def test_a_worker_of_dev_makes_its_code_current_whatever_was_before(bench: Bench, settings: Settings) -> None:
    """Who edits back and forth wants what the file says."""
    flows = {
        name: load_flows([module(bench.folder, name, text)]) for name, text in (("old_mail", OLD), ("new_mail", NEW))
    }
    for name in ("old_mail", "new_mail", "old_mail"):
        start.prepare(settings, flows[name])
    current = reads.flows.get(bench.ledger, "mailing")
    assert current.manifest_hash == flows["new_mail"]["mailing"].manifest.hash
    start.prepare(settings.model_copy(update={"deploy_at_start": True}), flows["old_mail"])
    assert reads.flows.get(bench.ledger, "mailing").manifest_hash == flows["old_mail"]["mailing"].manifest.hash
