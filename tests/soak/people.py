"""Those whom runs wait for, and operators who settle steps and run again what was: in a thread of their own, at seeded
moments. What was sent is there early, late, twice, unfit, or not at all; what nothing limits comes in the end."""

import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from time import monotonic_ns
from typing import Any, Final, Literal
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from orchestrator.client import Client
from orchestrator.client.run_handle import RunHandle
from orchestrator.core.signals import Delivery
from orchestrator.errors import OrchestratorError
from orchestrator.settings import Settings
from tests.proof import fates
from tests.proof.fates import Part
from tests.proof.history import Call, Sent
from tests.soak.certain import NOT_BY_HAND
from tests.soak.load import UNKNOWN
from tests.soak.plans import Plan
from tests.soak.waits import SIGNALS

PAUSE_S: Final = (0.1, 0.4)
"""Between two looks."""
_ME: Final = "soak"

_RUNS: Final = """
SELECT id::text, flow, trigger_body::text AS body FROM flow_runs
 WHERE flow = ANY (%(flows)s) AND (ended_at IS NOT NULL) = %(ended)s
 ORDER BY id DESC LIMIT 40
"""
_ASKED: Final = """
SELECT w.run_id::text, w.step_key, w.signal, w.key, w.kind, s.wake_at IS NOT NULL AS limited
  FROM flow_signal_waiters w JOIN flow_steps s USING (run_id, step_key)
 WHERE w.closed_at IS NULL AND s.status = 'waiting' AND w.signal <> ALL (%(others)s) ORDER BY w.created_at
"""
_CLOSED: Final = """
SELECT r.id::text, r.flow, r.trigger_body::text AS body, s.step_key
  FROM flow_steps s JOIN flow_runs r ON r.id = s.run_id
 WHERE r.ended_at IS NULL AND r.flow = ANY (%(flows)s) AND s.status = 'blocked' AND s.type IS NULL
   AND regexp_replace(s.step_key, '^.*[.]', '') = ANY (%(keys)s)
"""
_STEPS: Final = """
SELECT s.run_id::text, s.step_key, s.status FROM flow_steps s JOIN flow_runs r ON r.id = s.run_id
 WHERE r.flow = ANY (%(flows)s) AND s.status IN ('blocked', 'ready', 'waiting', 'failed', 'cancelled')
 ORDER BY r.id DESC, s.position, s.step_key LIMIT 120
"""


@dataclass(frozen=True)
class _Signal:
    """What is sent, to whom."""

    run_id: str
    name: str
    key: str
    payload: Any
    answers: bool = False
    ttl: timedelta | None = None


class People(threading.Thread):
    """`url` is where they look; what they do goes through a client. `plans`: of the flows that they know."""

    def __init__(self, settings: Settings, url: str, plans: Sequence[Plan], seed: str) -> None:
        super().__init__(name="people", daemon=True)
        self._client = Client(settings)
        self._url = url
        self._flows = [plan.name for plan in plans]
        self._signals = {plan.name: plan for plan in plans if any(True for _ in _waits(plan.manifest["steps"]))}
        self._waits = sorted({key for plan in plans for key in _waits(plan.manifest["steps"])})
        self._rng = random.Random(f"people {seed}")
        self._connection: psycopg.Connection[dict[str, Any]] | None = None
        self._quiet = threading.Event()
        self._gone = threading.Event()
        self._sent = 0
        self.calls: list[Call] = []
        self.sent: list[Sent] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        acts: list[Callable[[], None]] = [self._early] * 4 + [self._odd, self._again, self._settle, self._settle]
        acts += [self._run_again]
        try:
            while not self._gone.wait(self._rng.uniform(*PAUSE_S)):
                with suppress(psycopg.OperationalError):  # the ledger is away
                    self._answer()
                    if not self._quiet.is_set() and self._rng.random() < 0.6:
                        self._rng.choice(acts)()
        except BaseException as exc:  # shown by the field
            self.error = exc
        finally:
            self._client.close()
            if self._connection is not None:
                self._connection.close()

    def calm(self) -> None:
        """From now on they only answer."""
        self._quiet.set()

    def stop(self) -> None:
        self._gone.set()
        self.join(60)
        if self.error is not None:
            raise self.error

    def _rows(self, query: str, **given: Any) -> list[dict[str, Any]]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=5, row_factory=dict_row)
        return self._connection.execute(query, given).fetchall()  # type: ignore[call-overload]  # a constant text

    def _run(self, *, ended: bool = False, asking: bool = True) -> dict[str, Any] | None:
        """One of the last; with `asking`, of a flow that waits for signals."""
        rows = self._rows(_RUNS, flows=[*self._signals] if asking else self._flows, ended=ended)
        return self._rng.choice(rows) if rows else None

    # ---- what is sent ----

    def _answer(self) -> None:
        """Some of those who wait; all whose wait nothing limits, when the end has come."""
        for row in self._rows(_ASKED, others=[*NOT_BY_HAND]):
            if self._rng.random() < (0.1 if row["limited"] else 0.9 if self._quiet.is_set() else 0.3):
                payload = self._payload()
                answers = row["kind"] == "approval"
                self._send(_Signal(row["run_id"], row["signal"], row["key"], payload, answers))

    def _payload(self) -> dict[str, Any]:
        """With a token, by which whoever reads it can be told."""
        return {"n": self._rng.randint(1, 3), "token": f"s{self._rng.randrange(2**48):012x}"}

    def _early(self) -> None:
        """Before anything waits for it, mostly; or after."""
        closed = self._rows(_CLOSED, flows=[*self._signals], keys=self._waits)
        in_items = [row for row in closed if "." in row["step_key"]]
        closed = in_items if in_items and self._rng.random() < 0.5 else closed
        run = self._rng.choice(closed) if closed and self._rng.random() < 0.7 else self._run()
        if run is None:
            return
        asked = _asked(self._signals[run["flow"]], json.loads(run["body"]))
        if not asked:
            return
        name, key = asked.get(run.get("step_key", "")) or self._rng.choice([*asked.values()])
        if self._rng.random() < 0.2:
            key = "wrong"
        ttl = timedelta(seconds=self._rng.uniform(0.5, 3)) if self._rng.random() < 0.2 else None
        self._send(_Signal(run["id"], name, key, self._payload(), ttl=ttl))

    def _odd(self) -> None:
        """Unfit, of a name that nothing waits for, or the answer to what was not asked."""
        if (run := self._run()) is not None:
            odd = (
                _Signal(run["id"], "go", "", "unfit"),
                _Signal(run["id"], "nobody", "", self._payload()),
                _Signal(run["id"], "approval0", "", self._payload(), answers=True),
            )
            self._send(self._rng.choice(odd))

    def _again(self) -> None:
        """An id that was used: for the same, or for something else."""
        if self.sent:
            old = self._rng.choice(self.sent[-60:])
            payload = old.payload if self._rng.random() < 0.7 else {"n": 7}
            answers = old.name not in SIGNALS and old.name != "nobody"
            self._send(_Signal(old.run_id, old.name, old.key, payload, answers), old.id)

    def _send(self, signal: _Signal, id: str | None = None) -> None:
        """Once more, if there was no answer."""
        self._sent += 1
        id = id or f"id{self._sent}"
        for _ in range(2):
            sent = self._deliver(signal, id)
            self.sent.append(sent)
            if sent.reply != "unknown":
                return

    def _deliver(self, signal: _Signal, id: str) -> Sent:
        run: RunHandle[Any] = RunHandle(self._client, UUID(signal.run_id))
        sent = Sent(signal.run_id, signal.name, id, signal.payload, "unknown", signal.key, begun_ns=monotonic_ns())
        try:
            if signal.answers:
                said = run.answer(signal.name, signal.payload, id=id, by="ada")
            else:
                said = run.signal(signal.name, signal.payload, key=signal.key, id=id, by="bob", ttl=signal.ttl)
            sent = _told(sent, said)
        except UNKNOWN:
            pass
        except OrchestratorError:
            sent = replace(sent, reply="refused")
        return replace(sent, ended_ns=monotonic_ns())

    # ---- what operators do ----

    def _settle(self) -> None:
        """Leave a step out, or say what came of it."""
        rows = self._rows(_STEPS, flows=self._flows)
        if not rows:
            return
        in_items = [row for row in rows if row["step_key"].count(".") > 1]
        row = self._rng.choice(in_items if in_items and self._rng.random() < 0.4 else rows)
        run: RunHandle[Any] = RunHandle(self._client, UUID(row["run_id"]))
        output = self._rng.choice(({"n": 5, "items": []}, {"n": 5, "items": []}, []))

        def ask() -> None:
            if self._rng.random() < 0.5:
                run.skip(row["step_key"], "not needed", by=_ME)
            else:
                run.mark(row["step_key"], output, "done by hand", by=_ME)

        self._ask(Call("settle", "", 0, 0, "unknown", run_id=row["run_id"], step_key=row["step_key"]), ask)

    def _run_again(self) -> None:
        """Whole, or from a step on."""
        row = self._run(ended=True, asking=False)
        if row is None:
            return
        old: RunHandle[Any] = RunHandle(self._client, UUID(row["id"]))

        def ask() -> str:
            keys = [] if self._rng.random() < 0.3 else [step.key for step in old.steps(fold=0)]
            return str(old.rerun(self._rng.choice(keys) if keys else None, by=_ME).id)

        self._ask(Call("start", row["flow"], 0, 0, "unknown", body=json.dumps(json.loads(row["body"]))), ask)

    def _ask(self, call: Call, ask: Callable[[], str | None]) -> None:
        begun = monotonic_ns()
        run_id, reply = call.run_id, _OK
        try:
            run_id = ask() or run_id
        except UNKNOWN:
            reply = "unknown"
        except OrchestratorError:
            reply = "refused"
        self.calls.append(replace(call, begun_ns=begun, ended_ns=monotonic_ns(), reply=reply, run_id=run_id))


_OK: Final[Literal["ok", "refused", "unknown"]] = "ok"


def _waits(steps: Mapping[str, Any]) -> Iterator[str]:
    """The keys of steps that wait for a signal that somebody sends, also inside of loops."""
    for key, step in steps.items():
        if "signal" in step and step["signal"]["name"] not in NOT_BY_HAND:
            yield key
        yield from _waits(step.get("steps", {}))


def _asked(plan: Plan, body: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Name and key of each signal that a run waits for, by step."""
    found = {}
    for place, step, part in fates.steps_of(plan.manifest["steps"], Part.of_run(body)):
        if (asked := step.get("signal")) and asked["name"] not in NOT_BY_HAND:
            key = asked.get("key", "")
            found[place] = (asked["name"], part.keys.get(key.rpartition(".")[2], "") if key.startswith("@") else key)
    return found


def _told(sent: Sent, said: Delivery) -> Sent:
    return replace(sent, reply="kept" if said.kept else "delivered", step=said.step)
