"""A worker dies while it puts a long result into the payload store: the result is there once, and is the right one."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.core.states import RunStatus
from orchestrator.ledger import reads
from tests.faults.arena import Arena
from tests.faults.conftest import Make
from tests.support.cases import thinned
from tests.support.payloads import SMALL


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("store")
    return folder


@pytest.fixture(scope="module")
def field(make_arena: Make, store: Path) -> Iterator[Arena]:
    changes = {"payload_store": f"file://{store}", "payload_threshold": SMALL}
    with make_arena(lease=timedelta(seconds=2), heartbeat=timedelta(seconds=0.5), **changes) as made:
        yield made
        made.judge_all_again()


POINTS = [("payload.owned", 1), ("payload.written", 1), ("finish.before", 1), ("finish.committed", 0)]


@pytest.mark.parametrize(("point", "crashed"), thinned(POINTS, POINTS[1]))
def test_killed_beside_the_store(field: Arena, store: Path, point: str, crashed: int) -> None:
    field.keep(2)
    run_id = field.start("offloading", plan={"long": f"{point}=killpg"})
    assert field.ended(run_id) is RunStatus.SUCCEEDED, field.log()
    field.struck(point)
    assert reads.runs.result(field.ledger, run_id) == 5000
    statuses = Counter(one.status for one in reads.steps.attempts(field.ledger, run_id, "long"))
    assert statuses == Counter(succeeded=1, crashed=crashed)
    with field.ledger.auto() as tx:
        (row,) = tx.exec_driver_sql(
            "SELECT reference FROM flow_outputs WHERE run_id = %(id)s AND step_key = 'long'", {"id": run_id}
        )
    written = {str(one.relative_to(store)) for one in store.glob(f"{run_id}/**/*.json")}
    assert row.reference in written
    assert len(written) == 1 + (point in {"payload.written", "finish.before"}), "each attempt has a name of its own"
    assert list(store.rglob("*.partial")) == []
