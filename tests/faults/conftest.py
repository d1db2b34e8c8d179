"""An arena per module: its own ledger, its own keys in Redis, workers that outlive a single test."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.arena import Arena, arena
from tests.support.nursery import Nursery
from tests.support.servers import Broker, Server

Make = Callable[..., AbstractContextManager[Arena]]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture
def short_folder(stack: ExitStack) -> Path:
    """Sockets have little room for their paths."""
    return Path(stack.enter_context(TemporaryDirectory(prefix="flow-", ignore_cleanup_errors=True)))


@pytest.fixture(scope="module")
def make_arena(
    pg_server: Server,
    template_db: str,
    broker_server: Broker,
    the_nursery: Nursery,
    tmp_path_factory: pytest.TempPathFactory,
) -> Make:
    """`make_arena(lease=…)`: a context manager."""

    def make(**changes: object) -> AbstractContextManager[Arena]:
        folder: Path = tmp_path_factory.mktemp("arena")
        return partial(arena, pg_server, template_db, broker_server.url, folder, the_nursery)(**changes)

    return make
