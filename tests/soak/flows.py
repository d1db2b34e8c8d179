"""What the workers of a soak load: the seeded flows, as the release that they are of has them."""

import os
from typing import Any

import pytest
from celery.signals import task_prerun

from tests.proof.recorder import write_line
from tests.soak import mutants, releases
from tests.soak.plans import plans, timed
from tests.support import nemesis

if mutants.VARIABLE in os.environ:
    mutants.apply(os.environ[mutants.VARIABLE])
if nemesis.VARIABLE in os.environ:
    nemesis.arm(["claim.committed"])
if releases.here() == "newer":
    releases.read_newer(pytest.MonkeyPatch())


@task_prerun.connect  # type: ignore[untyped-decorator]
def _arrived(args: Any = (), **_: object) -> None:
    """A message was taken and is about to be acted on."""
    if len(args) == 3:
        run_id, step_key, number = args
        write_line(os.environ["TEST_EFFECTS"], kind="message", run=run_id, step=step_key, number=number)


FLOWS = {
    plan.name: releases.flow_of(plan, releases.here())
    for plan in [*plans(int(os.environ.get("SOAK_SEED", "0"))), *timed(int(os.environ.get("SOAK_STEADY", "1")))]
}
globals().update(FLOWS)
