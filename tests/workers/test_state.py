"""What a process of a worker makes for itself."""

from celery import Celery

from orchestrator.settings import Settings
from orchestrator.workers.state import WorkerState


def test_the_settings_reach_its_ledger(settings: Settings) -> None:
    given = {"loop_limit": 2000, "payload_store": "file:///nowhere", "payload_threshold": 5000, "events": "essential"}
    state = WorkerState(Celery(), Settings.model_validate({**settings.model_dump(exclude_unset=True), **given}))
    try:
        ledger = state.runtime().ledger
        assert (ledger.loop_limit, ledger.essential) == (2000, True)
        assert (bool(ledger.payloads), ledger.payloads.threshold) == (True, 5000)
    finally:
        state.close()
