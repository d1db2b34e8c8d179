"""Half a minute of it, in every run of CI; a minute with `make edge-load`."""

import os
from pathlib import Path

import pytest

from tests.edge_load import report
from tests.edge_load.run import load

SEED = int(os.environ.get("EDGE_SEED", "1"))
SECONDS = float(os.environ.get("EDGE_SECONDS", "30"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 600)
def test_what_was_acknowledged_is_there_once_and_nothing_that_is_sent_again_is_lost(tmp_path: Path) -> None:
    """Two processes of the API, killed; PostgreSQL, crashed; Valkey, emptied; clients and publishers that go on."""
    outcome = load(SEED, SECONDS, keep=tmp_path)
    print(report.render(outcome))
    assert [str(violation) for violation in outcome.verdict.violations] == []
    found = report.figures_of(outcome)
    assert found["acknowledged starts"] >= SECONDS / 3, "clients were at work"
    assert found["acknowledged deliveries"] >= SECONDS / 3, "and so were publishers"
    assert found["duplicates sent"] > 0
    assert found["replayed"] > 0
    assert found["unavailable (503)"] + found["cut"] + found["unreachable"] > 0, "the faults were felt"
    assert found["events told"] > found["runs"], "somebody listened"
