"""A worker as the first process of a container: the system delivers no signal to it that it does not handle."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from pydantic import SecretStr

from orchestrator.engine.flows import register
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess, running
from tests.workers import flows_stopping
from tests.workers.conftest import Bench

FLOWS: Final = str(Path(flows_stopping.__file__))
ALONE: Final = ("unshare", "--pid", "--fork", "--mount-proc")
GRACE_S: Final = 4.0

pytestmark = pytest.mark.slow


class FirstProcess(WorkerProcess):
    """A worker with a process namespace of its own. `unshare` ignores SIGTERM, and ends as it does."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._argv = [*ALONE, *self._argv]

    @property
    def inner(self) -> psutil.Process:
        (first,) = psutil.Process(self.pid).children()
        return first

    def tell(self, number: signal.Signals) -> None:
        self.inner.send_signal(number)


Start = Callable[..., FirstProcess]


@pytest.fixture
def first(bench: Bench) -> Iterator[Start]:
    try:
        can = subprocess.run([*ALONE, "true"], capture_output=True, timeout=20).returncode == 0
    except FileNotFoundError:
        can = False
    if not can:
        pytest.skip("this machine gives no process namespaces")
    register.register(bench.ledger, flows_stopping.long_flow.manifest)
    with ExitStack() as stack:

        def start(*, ready: bool = True, **options: Any) -> FirstProcess:
            more = {"stop_grace": timedelta(seconds=GRACE_S), **options.pop("settings", {})}
            settings = bench.settings.model_copy(update=more)
            env = {"TEST_EFFECTS": str(bench.effects_file)}
            made = FirstProcess(settings, FLOWS, bench.folder, env=env, **options)
            stack.enter_context(running(made, ready=ready))
            return made

        yield start


@pytest.mark.parametrize(("pool", "processes"), [("threads", 1), ("prefork", 2)])
def test_it_stops_at_sigterm_and_ends_with_0(bench: Bench, first: Start, pool: str, processes: int) -> None:
    run_id = bench.start("long", gate=str(bench.folder / "gate"))
    made = first(pool=pool, concurrency=1, processes=processes)
    eventually(lambda: bench.effects("start"), message="the step runs")
    began = time.monotonic()
    made.tell(signal.SIGTERM)
    assert made.wait(60) == 0
    assert time.monotonic() - began < GRACE_S + 10
    assert [one.status for one in bench.attempts(run_id, "long")] == ["released"]


def test_it_hears_sigterm_while_it_waits_for_its_ledger(first: Start) -> None:
    """Without a handler of its own it would wait for a minute, and not hear."""
    nobody = SecretStr("postgresql+psycopg://u:p@127.0.0.1:9/none")
    made = first(ready=False, settings={"database_url": nobody})
    made.says("database.away")
    made.tell(signal.SIGTERM)
    assert made.wait(30) == 0
