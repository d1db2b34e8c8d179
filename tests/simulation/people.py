"""Clients and operators: what they ask for, and what they are told."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.exc import OperationalError

from orchestrator.core.facts import StartRequest
from orchestrator.core.settling import Settle
from orchestrator.core.signals import Delivery, Signal
from orchestrator.engine.runs import cancel_run, rerun, start_run
from orchestrator.engine.runs.rerun import Again
from orchestrator.engine.signals import deliver
from orchestrator.engine.steps import retry_step, settle_step
from orchestrator.engine.subflows import stopping
from orchestrator.errors import OrchestratorError
from orchestrator.ledger.tx import is_disconnect
from tests.proof.history import Call, Sent
from tests.simulation import flows
from tests.simulation.arena import Arena
from tests.simulation.processes import Sender
from tests.simulation.stage import Actor, Died


class Asking:
    """A request, from its begin to what the client knows in the end."""

    def __init__(
        self,
        arena: Arena,
        calls: list[Call],
        kind: Any,
        flow: str = "",
        key: str | None = None,
        body: str = "",
        run_id: str | None = None,
        step_key: str = "",
    ) -> None:
        self._arena = arena
        self._step_key = step_key
        self._calls = calls
        self._facts = (kind, flow, key, body)
        self.run_id = run_id
        self.reply: Any = "ok"

    def __enter__(self) -> "Asking":
        self._begun = self._arena.now_ns()
        return self

    def __exit__(self, _kind: Any, exc: BaseException | None, _trace: Any) -> bool:
        if isinstance(exc, OrchestratorError):
            self.reply = "refused"
        elif isinstance(exc, Died) or (exc is not None and is_disconnect(exc)):
            self.reply = "unknown"
        elif exc is not None:
            return False
        what, flow, key, body = self._facts
        call = Call(what, flow, self._begun, self._arena.now_ns(), self.reply, key, body, self.run_id, self._step_key)
        self._calls.append(call)
        return not isinstance(exc, Died)


class People:
    """Everybody who is not a worker. Each request is an actor. `pins`: by flow, the version that older clients ask
    for."""

    def __init__(
        self,
        arena: Arena,
        rng: random.Random,
        manifests: Sequence[dict[str, Any]],
        pins: Mapping[str, str],
        sender: Sender,
        actor: Callable[[str, Callable[[], None]], Actor],
    ) -> None:
        self._arena, self._rng, self._manifests, self._sender, self._actor = arena, rng, manifests, sender, actor
        self._pins = pins
        self._by_name = {one["name"]: one for one in manifests}
        self.calling = any("flow" in step for one in manifests for step in flows.steps_of(one))
        """Whether runs call others: then who cancels one cancels those, too."""
        self.calls: list[Call] = []
        self.sent: list[Sent] = []
        self.actors: list[Actor] = []

    @property
    def runs(self) -> list[str]:
        """Those that clients know of."""
        told = [call.run_id for call in self.calls if call.kind == "start" and call.reply == "ok" and call.run_id]
        return list(dict.fromkeys(told))

    @property
    def keyed(self) -> list[Call]:
        """Starts with a key."""
        return [call for call in self.calls if call.kind == "start" and call.key is not None]

    def short(self, run_id: str) -> str:
        """A name that is the same in every repetition."""
        runs = self.runs
        return f"r{runs.index(run_id)}" if run_id in runs else "r?"

    def start(
        self, flow: int, key: str | None, body: dict[str, Any] | None = None, begins: timedelta | None = None
    ) -> None:
        """A client asks for a run; it asks again after a lost reply, if it has a key. `begins`: so much later."""
        manifest = self._manifests[flow % len(self._manifests)]
        text = json.dumps(flows.body(self._rng, manifest["steps"], self._by_name) if body is None else body)
        name = manifest["name"]
        version = self._rng.choice((None, self._pins.get(name)))
        request = StartRequest(name, text, key, version=version, begins=begins)

        def ask() -> str:
            with Asking(self._arena, self.calls, "start", name, key, text) as call:
                (started,) = start_run.start(self._arena.ledger, [request])
                call.run_id = str(started.run_id)
            if call.reply == "ok":
                self._sender.publish(started.dispatches)
            return str(call.reply)

        def act() -> None:
            for _ in range(1 if key is None else 3):
                if ask() != "unknown":
                    return

        self.actors.append(self._actor(f"start {name} {key}", act))

    def again(self, call: Call, *, same: bool) -> None:
        """A start with a key that was used."""
        flow = next(n for n, manifest in enumerate(self._manifests) if manifest["name"] == call.flow)
        self.start(flow, call.key, json.loads(call.body) if same else None)

    def cancel(self, run_id: str) -> None:
        def act() -> None:
            with Asking(self._arena, self.calls, "cancel", run_id=run_id):
                grace = self._arena.settings.cancel_grace
                cancel = stopping.cancel if self.calling else cancel_run.cancel
                cancel(self._arena.ledger, UUID(run_id), by="op", reason="why not", grace=grace)

        self.actors.append(self._actor(f"cancel {self.short(run_id)}", act))

    def rerun(self, run_id: str, step_key: str | None) -> None:
        """An operator's, from a step on or whole: a run as any other, with the body of the one before."""
        source = next(call for call in self.calls if call.kind == "start" and call.run_id == run_id)

        def act() -> None:
            asked = ("start", source.flow, None, source.body, None, step_key or "")
            with Asking(self._arena, self.calls, *asked) as call:
                started = rerun.start(self._arena.ledger, Again(UUID(run_id), step_key), by="op")
                call.run_id = str(started.run_id)
            if call.reply == "ok":
                self._sender.publish(started.dispatches)

        self.actors.append(self._actor(f"rerun {self.short(run_id)} {step_key}", act))

    def retry(self, run_id: str, step_key: str | None) -> None:
        """An operator's, who insists on it where something made up for the failure."""

        def act() -> None:
            with Asking(self._arena, self.calls, "retry", run_id=run_id) as call:
                dispatches = retry_step.retry(self._arena.ledger, UUID(run_id), step_key, by="op", force=True)
            if call.reply == "ok":
                self._sender.publish(dispatches)

        self.actors.append(self._actor(f"retry {self.short(run_id)} {step_key}", act))

    def settle(self, run_id: str, step_key: str, output: str | None) -> None:
        """An operator leaves a step out, or says what came of it."""

        def act() -> None:
            with Asking(self._arena, self.calls, "settle", run_id=run_id, step_key=step_key) as call:
                asked = Settle(UUID(run_id), step_key, "op", "by hand", output)
                dispatches = settle_step.settle(self._arena.ledger, asked)
            if call.reply == "ok":
                self._sender.publish(dispatches)

        self.actors.append(self._actor(f"settle {self.short(run_id)} {step_key} {output}", act))

    def signal(self, run_id: str, id: str, signal: Signal) -> None:
        """Somebody sends it, and once more after a lost reply."""
        sent = Sent(run_id, signal.name, id, json.loads(signal.payload), "unknown", signal.key)

        def act() -> None:
            for _ in range(2):
                if self._send(sent, signal):
                    return

        self.actors.append(self._actor(f"signal {self.short(run_id)} {signal.name} {signal.key} {id}", act))

    def _send(self, sent: Sent, signal: Signal) -> bool:
        """Whether there was an answer."""
        begun, answer = self._arena.now_ns(), sent
        try:
            outcome = deliver.deliver(self._arena.ledger, UUID(sent.run_id), sent.id, signal)
            answer = _answered(sent, outcome.answer)
        except OperationalError as exc:
            if not is_disconnect(exc):
                raise
            return False
        finally:
            self.sent.append(replace(answer, begun_ns=begun, ended_ns=self._arena.now_ns()))
        self._sender.publish(outcome.dispatches)
        return True


def _answered(sent: Sent, answer: Delivery | OrchestratorError) -> Sent:
    if isinstance(answer, OrchestratorError):
        return replace(sent, reply="refused")
    return replace(sent, reply="kept" if answer.kept else "delivered", step=answer.step)
