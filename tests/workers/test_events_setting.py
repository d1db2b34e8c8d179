"""Where the setting of how many events are kept is obeyed."""

from contextlib import closing

import pytest

from orchestrator.client.access import Access
from orchestrator.settings import Settings
from orchestrator.workers.app.celery_app import make_app
from orchestrator.workers.state import state_of
from tests.workers.conftest import Bench


@pytest.mark.parametrize(("kept", "essential"), [("all", False), ("essential", True)])
def test_clients_and_workers_keep_the_events_that_the_setting_says(bench: Bench, kept: str, essential: bool) -> None:
    settings = Settings.model_validate({**dict(bench.settings), "events": kept})
    with Access(settings) as client:
        assert client.ledger.essential is essential
    with closing(state_of(make_app(settings, {}))) as state:
        assert state.runtime().ledger.essential is essential
