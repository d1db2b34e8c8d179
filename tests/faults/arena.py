"""Where faults meet flows: starts runs, orders faults, and holds what happened against what may happen."""

import json
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError

from orchestrator.core.facts import StartRequest
from orchestrator.core.states import FINAL_RUN, RunStatus
from orchestrator.delivery.publisher import Publisher
from orchestrator.engine.flows import register
from orchestrator.engine.runs import start_run
from orchestrator.ledger import reads
from orchestrator.ledger.tx import Ledger, is_disconnect
from orchestrator.settings import Settings
from tests.faults import flows
from tests.support import databases, nemesis
from tests.support.eventually import eventually
from tests.support.factories import RECORDER, Lab
from tests.support.lines import whole_lines
from tests.support.nursery import Forked, Nursery
from tests.support.servers import Server

T = TypeVar("T")
FLOWS = str(Path(flows.__file__))
WIDTH = 5
RESULT = sum(n * n for n in range(WIDTH)) + WIDTH + 1
"""What `mix` gives, whatever happens."""
STEPS = {"first", "second", "flaky", "part", "total", "pay", "last", *(f"part.{n}.part" for n in range(WIDTH))}
AUDITED = 1000
"""With more runs than this the last audit is left out."""
PAUSE_S = 60.0
"""How long anything may take before a test fails: the machine may be busy."""


class Line(NamedTuple):
    """One line of the effects log."""

    kind: str
    host: str
    pid: int
    at: int
    run_id: UUID
    step_key: str
    attempt: int
    key: str


@dataclass
class Arena:
    """One ledger, one key prefix in Redis, and the workers of one module of tests."""

    settings: Settings
    folder: Path
    nursery: Nursery
    stack: ExitStack
    workers: list[Forked] = field(default_factory=list)
    seen: list[tuple[UUID, dict[str, Any]]] = field(default_factory=list)
    """Runs that were checked, to be checked again at the end."""

    def __post_init__(self) -> None:
        self.ledger = Ledger.connect(self.settings.require_database_url(), name="test")
        self.publisher = Publisher(None, self.settings, self.ledger)
        self.faults = self.folder / "faults"
        self.target = self.folder / "target"
        self.effects_file = self.folder / "effects.log"
        for folder in (self.faults, self.target):
            folder.mkdir()
        for value in vars(flows).values():
            if type(value).__name__ == "Flow":
                register.register(self.ledger, value.manifest)

    # ---- workers ----

    @property
    def env(self) -> dict[str, str]:
        """What the flows of a worker need."""
        return {
            nemesis.VARIABLE: str(self.faults),
            "TEST_EFFECTS": str(self.effects_file),
            "TEST_TARGET": str(self.target),
        }

    def worker(
        self,
        *,
        ready: bool = True,
        settings: Settings | None = None,
        flows: str = FLOWS,
        env: dict[str, str] | None = None,
        **options: Any,
    ) -> Forked:
        """A new worker; one step at a time unless told otherwise."""
        name = f"w{len(self.workers)}"
        options = {"concurrency": 1, "name": name, **options}
        made = Forked(
            self.nursery, settings or self.settings, flows, self.folder, env={**self.env, **(env or {})}, **options
        )
        self.workers.append(made)
        self.stack.callback(made.kill)
        return made.start(ready=ready)

    def keep(self, count: int, **options: Any) -> None:
        """Start as many workers as are missing."""
        living = sum(worker.alive for worker in self.workers)
        for _ in range(count - living):
            self.worker(ready=living == 0, **options)

    def log(self) -> str:
        """What all workers wrote."""
        return "\n".join(f"---- {worker.pid}\n{worker.tail()}" for worker in self.workers[-3:])

    # ---- runs ----

    def start(self, flow: str = "mix", *, publish: bool = True, **body: Any) -> UUID:
        return self.start_many(flow, 1, publish=publish, **body)[0]

    def start_many(self, flow: str, count: int, *, publish: bool = True, **body: Any) -> list[UUID]:
        if body.get("plan"):
            nemesis.forget(self.faults)
        defaults = {"mix": {"plan": {}, "width": WIDTH}, "release": {}}.get(flow, {"plan": {}})
        body = {**defaults, **body}
        started = start_run.start(self.ledger, [StartRequest(flow, json.dumps(body))] * count)
        if publish:
            self.publisher.publish([one for run in started for one in run.dispatches])
        return [run.run_id for run in started]

    def order(self, point: str, do: str, who: nemesis.Who = "child") -> None:
        """The next process that passes the point gets it."""
        nemesis.clear(self.faults)
        nemesis.order(self.faults, point, do, who)

    def struck(self, point: str, timeout: float = PAUSE_S) -> int:
        """The pid of the process that was struck."""
        try:
            return eventually(lambda: nemesis.struck(self.faults, point), timeout=timeout, message=f"{point} strikes")
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.log()}") from None

    def ended(self, run_id: UUID, timeout: float = PAUSE_S) -> RunStatus:
        def check() -> RunStatus | None:
            status = self.patient(lambda: reads.runs.status(self.ledger, run_id))
            return status if status in FINAL_RUN else None

        try:
            return eventually(check, timeout=timeout, message=f"run {run_id} ends") or RunStatus.PENDING
        except AssertionError as exc:
            rows = reads.steps.page(self.ledger, run_id, fold=10_000)
            steps = [(row.key, str(row.status), row.owner) for row in rows]
            raise AssertionError(f"{exc}\n{steps}\n{self.log()}") from None

    def patient(self, read: Callable[[], T]) -> T | None:
        """What was read; None while the database is away."""
        try:
            return read()
        except DBAPIError as exc:
            if not is_disconnect(exc):
                raise
            return None

    @property
    def plain_url(self) -> str:
        """As psycopg reads it."""
        return self.settings.require_database_url().replace("+psycopg", "")

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.plain_url, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(query, values or None).fetchall()  # type: ignore[call-overload,no-any-return]

    def lines(self, *run_ids: UUID) -> list[Line]:
        """The effects log, of these runs."""
        found = []
        for text in whole_lines(self.effects_file):
            kind, host, pid, at, run_id, step_key, attempt, key = text.split(" ")
            found.append(Line(kind, host, int(pid), int(at), UUID(run_id), step_key, int(attempt), key))
        return [line for line in found if not run_ids or line.run_id in run_ids]

    def pid_of(self, run_id: UUID, step_key: str) -> int:
        """The process that began the step's first attempt."""
        first = next(line for line in self.lines(run_id) if (line.step_key, line.attempt) == (step_key, 1))
        return first.pid

    # ---- the judgement ----

    def check(self, run_id: UUID, **expected: Any) -> None:
        """The run ended as it would have without the fault. See `judge` for what may be expected."""
        assert self.ended(run_id) is RunStatus.SUCCEEDED, (reads.runs.get(self.ledger, run_id), self.log())
        self.judge(run_id, **expected)
        self.seen.append((run_id, expected))

    def judge(self, run_id: UUID, *, crashed: int | range = 0, stopped: bool = False, paused: bool = False) -> None:
        """Hold the ledger and the effects log of a `mix` against what they must say.

        `crashed`: attempts that were lost with their process; with `stopped` it may have been told to stop before, and
        they are released then. `paused`: executions of a step may overlap.
        """
        assert reads.runs.result(self.ledger, run_id) == RESULT
        steps = reads.steps.page(self.ledger, run_id, fold=10_000)
        assert {step.key: str(step.status) for step in steps} == dict.fromkeys(STEPS, "succeeded")
        handled = {step.key for step in steps if step.type is not None}
        lost = 0
        for key in handled:
            outcomes = Counter(one.status for one in reads.steps.attempts(self.ledger, run_id, key))
            lost += outcomes["crashed"] + outcomes["released"]
            assert outcomes["succeeded"] == 1, (key, outcomes)
            may = {"succeeded", "crashed", *(["released"] if stopped else []), *(["failed"] if key == "flaky" else [])}
            assert set(outcomes) <= may, (key, outcomes)
            assert outcomes["failed"] <= 1, (key, outcomes)
        assert lost in (crashed if isinstance(crashed, range) else (crashed,)), f"{lost} crashed\n{self.log()}"
        self._judge_events(run_id)
        self._judge_effects(run_id, handled, paused)

    def _judge_events(self, run_id: UUID) -> None:
        """Each step was completed once, the loop opened once, the run ended once."""
        events = Counter((event.type, event.step_key) for event in reads.events.of_run(self.ledger, run_id))
        for key in STEPS:
            assert events["step.succeeded", key] == 1, (key, events)
        for once in (("run.accepted", None), ("run.started", None), ("run.succeeded", None), ("step.expanded", "part")):
            assert events[once] == 1, (once, events)

    def _judge_effects(self, run_id: UUID, handled: set[str], paused: bool) -> None:
        lines = self.lines(run_id)
        attempts = {
            (key, one.attempt): one.status for key in handled for one in reads.steps.attempts(self.ledger, run_id, key)
        }
        starts = Counter((line.step_key, line.attempt) for line in lines if line.kind == "start")
        ends = Counter((line.step_key, line.attempt) for line in lines if line.kind == "end")
        assert set(starts) <= set(attempts), "every execution is an attempt"
        assert max(starts.values()) == 1, f"an attempt is executed once: {starts}"
        for place, status in attempts.items():
            if status in {"succeeded", "failed"}:
                assert (starts[place], ends[place]) == (1, 1), (place, status)
        if not paused:
            assert not overlaps(lines), "executions of one step follow one another"
        children = [line for line in lines if line.step_key.startswith("part.")]
        assert most_at_once(children) <= 2, "the loop's window holds"
        keys = {f"{run_id}:{key}" for key in handled}
        sent = {path.name for path in self.target.iterdir() if path.name.startswith(str(run_id))}
        assert {name.removesuffix(":failed") for name in sent} == keys, "one key per step, whatever the attempt"
        payments = self.rows("SELECT attempt FROM test_payments WHERE key = %s", f"{run_id}:pay")
        assert [row["attempt"] for row in payments] == [
            attempt for (key, attempt), status in attempts.items() if key == "pay" and status == "succeeded"
        ], "the transactional effect is there once, from the attempt that was recorded"

    def judge_all_again(self) -> None:
        """Nothing that happened later touched a run that was over."""
        for worker in self.workers:
            worker.kill()
        for run_id, expected in self.seen:
            self.judge(run_id, **expected)
        (runs,) = self.rows("SELECT count(*) AS n FROM flow_runs")
        if runs["n"] > AUDITED:
            return
        lab = Lab(self.plain_url, self.ledger)
        try:
            lab.audit()
        finally:
            lab.connection.close()


def overlaps(lines: Sequence[Line]) -> list[tuple[str, int]]:
    """Executions that began before an earlier one of the same step had written its end."""
    open_: dict[str, set[int]] = defaultdict(set)
    ended = {(line.step_key, line.attempt) for line in lines if line.kind == "end"}
    found = []
    for line in sorted(lines, key=lambda line: line.at):
        running = open_[line.step_key]
        if line.kind == "end":
            running.discard(line.attempt)
            continue
        if any((line.step_key, attempt) in ended for attempt in running):
            found.append((line.step_key, line.attempt))
        running.add(line.attempt)
    return found


def most_at_once(lines: Sequence[Line]) -> int:
    """Executions that were under way at the same time, of those that came to their end."""
    ended = {(line.step_key, line.attempt) for line in lines if line.kind == "end"}
    now = most = 0
    for line in sorted(lines, key=lambda line: line.at):
        if (line.step_key, line.attempt) in ended:
            now += 1 if line.kind == "start" else -1
            most = max(most, now)
    return most


@contextmanager
def arena(
    server: Server, template: str, broker_url: str, folder: Path, nursery: Nursery, **changes: Any
) -> Iterator[Arena]:
    """A new arena on its own database; `changes` are settings."""
    with databases.created(server, template=template) as name, ExitStack() as stack:
        url = server.url_of(name)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(RECORDER)
            connection.execute("CREATE TABLE test_payments (key text, attempt int)")
            connection.execute("CREATE TABLE test_unique_payments (key text PRIMARY KEY, attempt int)")
        made = Arena(settings_for(url, broker_url, folder.name, **changes), folder, nursery, stack)
        stack.callback(made.ledger.close)
        stack.callback(made.publisher.close)
        yield made


def settings_for(database_url: str, broker_url: str, prefix: str, **changes: Any) -> Settings:
    """Short times, so that every recovery happens within seconds."""
    values: dict[str, Any] = {
        "database_url": SecretStr(database_url),
        "broker_url": SecretStr(broker_url),
        "key_prefix": f"{prefix}:",
        "migrate": False,
        "lease": timedelta(seconds=3),
        "heartbeat": timedelta(seconds=1),
        "sweep_interval": timedelta(seconds=0.3),
        "redispatch_after": timedelta(seconds=1),
        "prefetch_multiplier": 1,
        "cancel_grace": timedelta(seconds=2),
        "worker_ttl": timedelta(seconds=6),
    }
    return Settings(**{**values, **changes})


def go_on(pid: int) -> None:
    """SIGCONT."""
    os.kill(pid, signal.SIGCONT)
