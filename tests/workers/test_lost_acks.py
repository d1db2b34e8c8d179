"""With acknowledgements emulated, one that is lost with its connection costs the worker no place for messages."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from orchestrator.core.states import RunStatus
from orchestrator.settings import Settings
from tests.soak.wire import Wire
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess
from tests.workers.conftest import Bench


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_goes_on_after_its_acknowledgements_were_lost(
    bench: Bench, worker_of: Callable[..., WorkerProcess], settings: Settings, tmp_path: Path, pool: str
) -> None:
    """A full worker asks Redis for nothing, so it does not notice the loss by itself, and looks busy from outside."""
    gate = tmp_path / "gate"
    wire = Wire(settings.require_broker_url())
    behind = settings.model_copy(
        update={"broker_url": SecretStr(wire.url), "ack_emulation": True, "prefetch_multiplier": 1}
    )
    try:
        worker = worker_of(bench, settings=behind, pool=pool, concurrency=1)
        first = bench.start("gated", gate=str(gate))
        eventually(lambda: bench.effects("start"), message="the worker is full")
        wire.reset()
        gate.touch()
        assert bench.ended(first) is RunStatus.SUCCEEDED
        eventually(lambda: "Couldn't ack" in worker.log(), message="the acknowledgement is lost")
        wire.free()
        again = bench.start_many("naps", [{"count": [0], "seconds": 0}] * 4)
        assert [bench.ended(run_id) for run_id in again] == [RunStatus.SUCCEEDED] * 4
    finally:
        wire.close()
