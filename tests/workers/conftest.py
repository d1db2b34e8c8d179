"""A client, a place for the effects log, and real workers."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.facts import StartRequest
from orchestrator.core.states import FINAL_RUN, RunStatus
from orchestrator.delivery.publisher import Publisher
from orchestrator.engine.flows import register
from orchestrator.engine.runs import start_run
from orchestrator.ledger import reads
from orchestrator.ledger.tx import Ledger
from orchestrator.settings import Settings
from tests.support.eventually import eventually
from tests.support.lines import whole_lines
from tests.support.nursery import Forked, Nursery
from tests.support.worker_process import WorkerProcess, running
from tests.workers import flows

FLOWS = str(Path(flows.__file__))


@dataclass
class Bench:
    """Starts runs as a client does, and reads what became of them."""

    settings: Settings
    ledger: Ledger
    publisher: Publisher
    folder: Path
    effects_file: Path
    workers: list[WorkerProcess] = field(default_factory=list)

    def start(self, name: str, publish: bool = True, **body: Any) -> UUID:
        return self.start_many(name, [body], publish=publish)[0]

    def start_many(self, name: str, bodies: list[dict[str, Any]], publish: bool = True) -> list[UUID]:
        started = start_run.start(self.ledger, [StartRequest(name, json.dumps(body)) for body in bodies])
        if publish:
            self.publisher.publish([one for run in started for one in run.dispatches])
        return [run.run_id for run in started]

    def status(self, run_id: UUID) -> RunStatus:
        return reads.runs.status(self.ledger, run_id)

    def ended(self, run_id: UUID, timeout: float = 60.0) -> RunStatus:
        def check() -> RunStatus | None:
            status = self.status(run_id)
            return status if status in FINAL_RUN else None

        try:
            return eventually(check, timeout=timeout, message=f"run {run_id} ends") or RunStatus.PENDING
        except AssertionError as exc:
            tails = "\n".join(worker.tail() for worker in self.workers)
            raise AssertionError(f"{exc}\n{reads.steps.page(self.ledger, run_id)}\n{tails}") from None

    def result(self, run_id: UUID) -> Any:
        assert self.ended(run_id) is RunStatus.SUCCEEDED, reads.runs.get(self.ledger, run_id)
        return reads.runs.result(self.ledger, run_id)

    def attempts(self, run_id: UUID, step_key: str) -> list[Any]:
        return list(reads.steps.attempts(self.ledger, run_id, step_key))

    def ran_once_per_attempt(self, run_ids: Sequence[UUID], lost: int = 0) -> None:
        """The runs succeed, and each attempt began its handler once: at most once if it was lost with its worker, which
        may die between the claim and the handler's first line. At most `lost` were."""
        ended: dict[tuple[str, str, int], str] = {}
        for run_id in run_ids:
            assert self.ended(run_id) is RunStatus.SUCCEEDED
            for step in reads.steps.page(self.ledger, run_id, fold=10_000):
                ended |= {(str(run_id), step.key, one.attempt): one.status for one in self.attempts(run_id, step.key)}
        assert set(ended.values()) <= {"succeeded", "crashed"}
        assert list(ended.values()).count("crashed") <= lost
        began = Counter((line[1], line[2], int(line[3])) for line in self.effects("start") if UUID(line[1]) in run_ids)
        assert set(began) <= set(ended), "whatever began was an attempt"
        assert {began[one] for one, status in ended.items() if status == "succeeded"} == {1}
        assert {began[one] for one, status in ended.items() if status == "crashed"} <= {0, 1}

    def effects(self, kind: str | None = None, run_id: UUID | None = None) -> list[list[str]]:
        lines = [line.split() for line in whole_lines(self.effects_file)]
        return [one for one in lines if kind in (None, one[0]) and (run_id is None or one[1] == str(run_id))]


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    ledger = Ledger.connect(settings.require_database_url(), name="test")
    for value in vars(flows).values():
        if type(value).__name__ == "Flow":
            register.register(ledger, value.manifest)
    publisher = Publisher(None, settings, ledger)
    yield Bench(settings, ledger, publisher, tmp_path, tmp_path / "effects.log")
    publisher.close()
    ledger.close()


@pytest.fixture
def worker_of(the_nursery: Nursery) -> Iterator[Callable[..., WorkerProcess]]:
    """`worker_of(bench, pool=…, concurrency=…)` starts one and waits until it is ready."""
    with ExitStack() as stack:

        def start(
            bench: Bench, *, ready: bool = True, flows: str = FLOWS, settings: Settings | None = None, **options: Any
        ) -> WorkerProcess:
            env = {"TEST_EFFECTS": str(bench.effects_file), **options.pop("env", {})}
            options.setdefault("name", f"w{len(bench.workers)}")
            made = Forked(the_nursery, settings or bench.settings, flows, bench.folder, env=env, **options)
            bench.workers.append(made)
            return stack.enter_context(running(made, ready=ready))

        yield start


@pytest.fixture
def worker(bench: Bench, worker_of: Callable[..., WorkerProcess]) -> Callable[..., WorkerProcess]:
    """`worker(pool=…, concurrency=…)` starts one beside `bench`."""
    return partial(worker_of, bench)
