"""Thousands of ticks under faults: two beats and three workers, and everything that can be done to them."""

import os
from pathlib import Path

import pytest

from tests.soak import report
from tests.soak.faults import KINDS
from tests.soak.run import soak

SEED = int(os.environ.get("PROOF_SEED", "1"))
MINUTES = float(os.environ.get("PROOF_MINUTES", "5"))
TICKS = 400
"""Each minute, at least."""
STRUCK = ("beat", "kill", "pause", "broker", "postgres", "messages", "link-broker")


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + 600)
def test_two_thousand_ticks_with_faults(tmp_path: Path) -> None:
    """None is lost, none starts two runs; how late they were, and how long until another beat announced, is printed."""
    kinds = [kind for kind in KINDS if kind.name.startswith(STRUCK)]
    outcome = soak(SEED, MINUTES, keep=tmp_path, steady=6, clients=0, kinds=kinds)
    print(report.render(outcome))
    print(report.nemesis_log(outcome.history))
    assert [str(violation) for violation in outcome.verdict.violations] == []
    figures = outcome.verdict.figures
    assert (figures["tick doubles"], figures["ticks lost"], figures["stuck"]) == (0, 0, 0)
    assert figures["ticks decided by a watchdog"] > 0, "they fired when no beat did"
    assert figures["ticks"] >= TICKS * MINUTES
    assert figures["faults"] >= 2 * MINUTES
