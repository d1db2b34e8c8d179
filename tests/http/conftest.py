"""The API on the test's own database and broker, in the test process."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from orchestrator.client import Client
from orchestrator.engine.flows import register
from orchestrator.http.app import create_app
from orchestrator.settings import Settings
from tests.support.small_flows import fan, hello


@pytest.fixture
def stack(settings: Settings) -> Iterator[Client]:
    """A client of the ledger, which knows two flows."""
    with Client(settings) as client:
        for flow in (hello, fan):
            register.register(client.ledger, flow.manifest)
        yield client


@pytest.fixture
def api(settings: Settings, stack: Client) -> Iterator[TestClient]:
    """As on a machine that is open to itself."""
    opened = settings.model_copy(update={"auth": "open"})
    with TestClient(create_app(opened), "http://127.0.0.1", client=("127.0.0.1", 50000)) as made:
        yield made
