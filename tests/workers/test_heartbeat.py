"""What a process thinks of its leases, with a real ledger and no worker."""

import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest

from orchestrator.core.facts import Claimant, Lease, Success
from orchestrator.engine.steps import claim_step, finish_step
from orchestrator.workers.run.heartbeat import Heartbeat
from orchestrator.workers.run.held_lease import HeldLease
from tests.workers.conftest import Bench


@pytest.fixture
def heartbeat(bench: Bench) -> Iterator[Heartbeat]:
    made = Heartbeat(
        bench.settings.model_copy(update={"heartbeat": timedelta(seconds=1), "lease": timedelta(seconds=3)})
    )
    yield made
    made.close()


def taken(bench: Bench) -> Lease:
    run_id = bench.start("slow", publish=False, seconds=0)
    lease = claim_step.claim(bench.ledger, run_id, "slow", 1, Claimant("w", timedelta(seconds=30)))
    assert lease is not None
    return lease


def test_a_renewal_that_comes_after_the_recorded_end_is_no_lost_lease(
    bench: Bench, heartbeat: Heartbeat, caplog: pytest.LogCaptureFixture
) -> None:
    """The claim ended with the outcome: the answer `not alive` is what was asked for."""
    held = HeldLease(taken(bench), 0.0)
    heartbeat._held[id(held)] = held
    held.recording = True
    finish_step.finish(bench.ledger, held.lease, Success("1"))
    with caplog.at_level(logging.WARNING):
        assert heartbeat.confirm(held)
    assert caplog.messages == []
    assert not held.signals.cancel.is_set()


def test_a_claim_that_ended_while_its_handler_runs_is_a_lost_lease(
    bench: Bench, heartbeat: Heartbeat, caplog: pytest.LogCaptureFixture
) -> None:
    held = HeldLease(taken(bench), 0.0)
    heartbeat._held[id(held)] = held
    finish_step.finish(bench.ledger, held.lease, Success("1"))
    with caplog.at_level(logging.WARNING):
        assert not heartbeat.confirm(held)
    assert caplog.messages == ["lease.lost"]
    assert held.signals.cancel.is_set()
