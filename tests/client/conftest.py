"""A client on the test's own database and broker."""

from collections.abc import Iterator

import pytest

from orchestrator.client import Client
from orchestrator.settings import Settings
from tests.support.row_counts import counted

__all__ = ["counted"]


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as made:
        yield made
