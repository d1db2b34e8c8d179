"""Clients: seeded starts, cancels and operators' retries, and the log of what they asked for and were told."""

import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from time import monotonic_ns
from typing import Any, Final, Literal

from orchestrator.client import Client
from orchestrator.core.states import RunStatus
from orchestrator.errors import (
    Conflict,
    DatabaseFailed,
    IdempotencyConflict,
    OrchestratorError,
    TookTooLong,
    Unavailable,
)
from orchestrator.settings import Settings
from tests.proof.history import Call, History
from tests.proof.verdict import Violation
from tests.soak.plans import Plan
from tests.soak.releases import flow_of

UNKNOWN: Final = (Unavailable, TookTooLong, DatabaseFailed)
"""Errors after which nobody knows whether it was done."""
_REMEMBERED: Final = 50
HEADERS: Final = {"X-Big": "yes", "Authorization": "Bearer of nothing"}
"""Of the requests for which runs are started; the second one is not kept."""
OPTIONS: Final = {"anew": {"fresh": True}, "forced": {"force": True}}
"""Of the retries of runs of some flows; others have them by chance."""
LATE: Final = 0.12
"""The share of runs that begin later."""


def headers_kept(history: History) -> Iterator[Violation]:
    """Of what clients send with their starts, runs have what they may keep, and nothing else. By HTTP much comes with a
    request that nobody asked for."""
    for run_id, run in history.runs.items():
        kept = run.get("trigger_headers") or {}
        plain = {name for name in kept if "signature" not in name and name != "authorization"}
        by_http = "host" in kept and kept.keys() == plain
        if not by_http and kept not in ({}, {"x-big": "yes"}):
            yield Violation("headers", f"it has {sorted(kept)}", run_id)


class Load(threading.Thread):
    """One client in a thread of its own. It keeps about `wanted` runs open."""

    def __init__(
        self, settings: Settings, plans: Sequence[Plan], seed: str, wanted: int, *, pinned: bool = False
    ) -> None:
        """`pinned`: it has the older release's flows, and goes by them."""
        super().__init__(name=f"load {seed}", daemon=True)
        self._client = Client(settings)
        self._plans = plans
        self._flows = {plan.name: flow_of(plan, "older") if pinned else plan.name for plan in plans}
        self._rng = random.Random(f"load {seed}")
        self._seed = seed
        self._wanted = wanted
        self._over = threading.Event()
        self._open: set[str] = set()
        self._flow_of: dict[str, str] = {}
        """By run."""
        self._ended: deque[str] = deque(maxlen=_REMEMBERED)
        """Those that a retry may do something for, but for some."""
        self._due: deque[str] = deque()
        """Those whose retry has options, and was not asked for yet."""
        self._retried: set[str] = set()
        self._given: deque[tuple[Plan, str, dict[str, Any]]] = deque(maxlen=_REMEMBERED)
        self._keys = 0
        self._deck: list[Plan] = []
        self.calls: list[Call] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._forget_ended()
                if len(self._open) < self._wanted:
                    self._act()
                else:
                    self._over.wait(0.05)
        except BaseException as exc:  # shown by the field
            self.error = exc
        finally:
            self._client.close()

    def stop(self) -> list[Call]:
        """What was asked for."""
        self._over.set()
        self.join(60)
        if self.error is not None:
            raise self.error
        return self.calls

    def _act(self) -> None:
        luck = self._rng.random()
        if self._due:
            self._retry(self._due.popleft())
        elif luck < 0.70:
            self._start()
        elif luck < 0.78:
            self._start_many()
        elif luck < 0.86:
            self._again()
        elif luck < 0.93:
            self._cancel()
        elif self._ended:
            self._retry(self._rng.choice(self._ended))

    def _start(self) -> None:
        plan = self._next_plan()
        key = self._new_key() if self._rng.random() < 0.4 else None
        self._ask_start(plan, plan.body(self._rng), key)

    def _next_plan(self) -> Plan:
        """From a deck that is dealt over and over: each gets its turn."""
        if not self._deck:
            self._deck = self._rng.sample(self._plans, k=len(self._plans))
        return self._deck.pop()

    def _new_key(self) -> str:
        self._keys += 1
        return f"{self._seed}-{self._keys}"

    def _start_many(self) -> None:
        plan = self._rng.choice(self._plans)
        bodies = [plan.body(self._rng) for _ in range(self._rng.randint(2, 6))]
        keys = [self._new_key() for _ in bodies] if self._rng.random() < 0.5 else None
        begun = monotonic_ns()
        try:
            handles = self._client.start_many(self._flows[plan.name], bodies, keys, headers=HEADERS)
            told: list[str | None] = [str(handle.id) for handle in handles]
            reply: Literal["ok", "unknown"] = "ok"
        except UNKNOWN:
            told, reply = [None] * len(bodies), "unknown"
        for n, body in enumerate(bodies):
            key = keys[n] if keys else None
            self._note(plan.name, begun, reply, key, json.dumps(body), told[n])
            if key is not None:
                self._given.append((plan, key, body))

    def _again(self) -> None:
        """A key that was used before: with the same body, or with another."""
        if not self._given:
            return
        plan, key, body = self._rng.choice(self._given)
        self._ask_start(plan, plan.body(self._rng) if self._rng.random() < 0.4 else body, key)

    def _ask_start(self, plan: Plan, body: dict[str, Any], key: str | None) -> None:
        begun = monotonic_ns()
        run_id = None
        reply: Literal["ok", "refused", "unknown"] = "unknown"
        try:
            later = timedelta(seconds=self._rng.uniform(0.3, 4)) if self._rng.random() < LATE else None
            flow = self._flows[plan.name]
            run_id = str(self._client.start(flow, body, idempotency_key=key, start_after=later, headers=HEADERS).id)
            reply = "ok"
        except IdempotencyConflict:
            reply = "refused"
        except UNKNOWN:
            time.sleep(0.1)
        self._note(plan.name, begun, reply, key, json.dumps(body), run_id)
        if key is not None:
            self._given.append((plan, key, body))

    def _cancel(self) -> None:
        if self._open:
            run_id = self._rng.choice(sorted(self._open))
            self._operate("cancel", run_id, lambda: self._client.run(run_id).cancel("the soak says so", by="soak"))

    def _retry(self, run_id: str) -> None:
        chance = {name: True for name in ("force", "fresh") if self._rng.random() < 0.2}
        options = OPTIONS.get(self._flow_of[run_id], chance)
        self._operate("retry", run_id, lambda: self._client.run(run_id).retry(by="soak", **options), frozenset(options))
        self._open.add(run_id)
        self._retried.add(run_id)

    def _operate(
        self,
        kind: Literal["cancel", "retry"],
        run_id: str,
        ask: Callable[[], object],
        options: frozenset[str] = frozenset(),
    ) -> None:
        begun = monotonic_ns()
        try:
            ask()
            reply: Literal["ok", "refused", "unknown"] = "ok"
        except Conflict:
            reply = "refused"
        except UNKNOWN:
            reply = "unknown"
        self.calls.append(Call(kind, "", begun, monotonic_ns(), reply, run_id=run_id, options=options))

    def _note(
        self,
        flow: str,
        begun: int,
        reply: Literal["ok", "refused", "unknown"],
        key: str | None = None,
        body: str = "",
        run_id: str | None = None,
    ) -> None:
        self.calls.append(Call("start", flow, begun, monotonic_ns(), reply, key, body, run_id))
        if run_id is not None:
            self._open.add(run_id)
            self._flow_of[run_id] = flow

    def _forget_ended(self) -> None:
        """Runs that ended make room."""
        for run_id in sorted(self._open)[:20]:
            try:
                status = self._client.run(run_id).final_status()
            except OrchestratorError:
                return
            if status is not None:
                self._open.discard(run_id)
                if status is not RunStatus.SUCCEEDED or self._rng.random() < 0.2:
                    self._ended.append(run_id)
                if self._flow_of[run_id] in OPTIONS and run_id not in self._retried:
                    self._due.append(run_id)
