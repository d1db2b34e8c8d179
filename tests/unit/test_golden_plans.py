"""What plain flows cost stays as it is: their paths, their first rows, and the length of the statements they take."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.manifest import Manifest
from orchestrator.core.plan import Plan
from orchestrator.ledger.statements import sql

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "plans.json").read_text())
"""Plans of flows without conditions, waits or calls, as they were compiled before there were any."""
LONGEST = 4096
"""Bytes of a statement from which the driver reads where its parameters stand each time anew."""


@pytest.mark.parametrize("name", GOLDEN)
def test_plain_flows_are_compiled_as_ever(name: str) -> None:
    """The same paths, rows and hash; a run of a release before goes on with the same plan."""
    before = GOLDEN[name]
    plan = Plan.of(Manifest(name="demo", steps=before["steps"]))
    assert {key: node.path.value for key, node in plan.nodes.items()} == before["paths"]
    assert json.loads(plan.rows) == before["rows"]
    assert (plan.sinks, plan.goes_on_at_start) == (before["sinks"], before["goes_on_at_start"])
    assert (plan.manifest.hash, plan.manifest.format) == (before["hash"], 1)


@pytest.mark.parametrize("name", ["claim", "finish_mid", "finish_sink", "finish_child", "start"])
@pytest.mark.parametrize("essential", [False, True])
def test_statements_of_the_hot_path_are_short_enough_to_be_remembered(name: str, essential: bool) -> None:
    """A longer one costs a tenth of a millisecond more, each time."""
    assert len(sql(name, essential=essential).encode()) < LONGEST
