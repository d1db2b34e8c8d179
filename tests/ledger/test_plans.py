"""A wide run costs its children, not their square, whatever the planner knows: it may have met short runs only.

Sessions keep one plan per statement, so a plan that was right for the runs of yesterday has to be right for this one.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.ledger import statements
from orchestrator.ledger.tx import Ledger
from tests.ledger.test_statements import parameters, touched
from tests.support import databases
from tests.support.factories import Lab, loop
from tests.support.servers import Server

ONE_STEP = """
INSERT INTO flow_runs (id, flow, manifest_hash, status, trigger_body, sinks_open, created_at, ended_at)
SELECT gen_random_uuid(), 'old', 'x', 'succeeded', '{}', 0, now(), now() FROM generate_series(1, 3000);
INSERT INTO flow_steps (run_id, step_key, position, type, task, status, queue, priority)
SELECT id, 'a', 0, 'work', 'old.work', 'succeeded', 'default', 5 FROM flow_runs;
INSERT INTO flow_step_attempts (run_id, step_key, attempt, version, owner, status)
SELECT run_id, step_key, 1, 1, 'w', 'succeeded' FROM flow_steps;
INSERT INTO flow_outputs (run_id, step_key, output) SELECT run_id, step_key, '1' FROM flow_steps;
INSERT INTO flow_step_claims (run_id, step_key, owner, version, attempt, claimed_at, renewed_at)
SELECT run_id, step_key, 'w', 1, 1, now(), now() FROM flow_steps;
"""
WIDE = 1500


@pytest.fixture(scope="module", params=["never analyzed", "runs of one step"])
def short_runs(pg_server: Server, template_db: str, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """What the planner knows is nothing, as after `db upgrade`, or a ledger of runs of a single step."""
    with databases.created(pg_server, template=template_db) as name:
        url = pg_server.url_of(name)
        lab = Lab(url, Ledger.connect(url, name="lab"))
        if request.param == "runs of one step":
            lab.execute(ONE_STEP)
            lab.execute("ANALYZE")
        lab.execute("SET plan_cache_mode = force_generic_plan")
        yield lab
        lab.close()


@pytest.fixture
def runs(short_runs: Lab) -> dict[int, UUID]:
    """A narrow and a wide run, by the number of their children; each child has failed once and left an output."""
    short_runs.flow({"each": loop("@triggerBody().items", concurrency=4)})
    made = {width: short_runs.start(body={"items": list(range(width))}) for width in (10, WIDE)}
    for run_id in made.values():
        short_runs.execute(
            "INSERT INTO flow_outputs (run_id, step_key, output)"
            " SELECT run_id, step_key, '1' FROM flow_steps WHERE run_id = %s AND loop_key IS NOT NULL",
            run_id,
        )
    return made


def cost(lab: Lab, name: str, run_id: UUID, **changes: Any) -> int:
    """Buffers that a statement touches when its plan is made and its pages are warm."""
    values = {**parameters(name), "run_id": run_id, "loop_key": "each", "body_key": "do", **changes}
    values = {key: value for key, value in values.items() if f"%({key})s" in statements.sql(name)}
    touched(lab, name, values)
    return touched(lab, name, values)


def test_finishing_a_child_reads_no_sibling(short_runs: Lab, runs: dict[int, UUID]) -> None:
    spent = {}
    for width, run_id in runs.items():
        lease = short_runs.take(run_id, "each.3.do")
        spent[width] = cost(
            short_runs,
            "finish_child",
            run_id,
            step_key=lease.step_key,
            version=lease.fence,
            owner=lease.owner,
            chain=True,
            lease_for=timedelta(seconds=30),
        )
    assert spent[WIDE] <= spent[10] * 1.5 + 20, spent


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("claim", {"step_key": "each.1.do", "number": 1}),
        ("predecessors_ended", {"step_keys": ["each.5.do"], "ended": [0], "unmet": [0]}),
        ("skip", {"step_keys": ["each.5.do"], "reasons": ["x"], "facts": ["{}"], "from_states": ["blocked"]}),
        ("take", {"step_key": "each.5.do"}),
        ("reset_blocked", {"step_keys": ["each.5.do"], "open": [0], "unmet": [0]}),
        ("outputs", {"step_keys": ["each.5.do"]}),
        ("steps", {"step_keys": ["each.5.do"]}),
        ("waiting_children", {"start": 5, "count": 1}),
        ("end_step", {"step_key": "each.1.do", "from_states": ["ready"]}),
    ],
)
def test_what_concerns_a_child_reads_no_sibling(
    short_runs: Lab, runs: dict[int, UUID], name: str, changes: dict[str, Any]
) -> None:
    spent = {width: cost(short_runs, name, run_id, **changes) for width, run_id in runs.items()}
    assert spent[WIDE] <= spent[10] * 1.5 + 20, spent


@pytest.mark.parametrize("name", ["collect", "count_children", "children_with", "first_failure", "failed_children"])
def test_what_concerns_a_loop_reads_each_child_once(short_runs: Lab, runs: dict[int, UUID], name: str) -> None:
    for run_id in runs.values():
        short_runs.execute(
            "UPDATE flow_steps SET status = 'failed', queued = FALSE WHERE run_id = %s AND type IS NOT NULL", run_id
        )
        short_runs.execute(
            "INSERT INTO flow_step_attempts (run_id, step_key, attempt, version, owner, status)"
            " SELECT run_id, step_key, attempts, 1, 'w', 'failed' FROM flow_steps WHERE run_id = %s",
            run_id,
        )
    spent = {
        width: cost(short_runs, name, run_id, loop_keys=["each"], statuses=["failed"], start=0)
        for width, run_id in runs.items()
    }
    assert spent[WIDE] <= 25 * WIDE, spent
