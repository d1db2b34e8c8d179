"""One history: workers, keepers, clients, a broker that forgets, and everything that may happen to them.

Whoever calls these methods is the scheduler: each does one small thing, and nothing happens in between.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Final

import pytest
from sqlalchemy.exc import DBAPIError

from orchestrator import Context, Manifest, NotYet
from orchestrator.core.facts import Dispatch
from orchestrator.core.plan import node
from orchestrator.core.signals import Signal
from orchestrator.core.states import FINAL_RUN, RunStatus
from orchestrator.engine import workers
from orchestrator.engine.flows import register
from orchestrator.engine.steps import release, reopening, retrying
from orchestrator.engine.subflows import report, stopping
from orchestrator.engine.sweeps import redispatch, sweep
from orchestrator.engine.sweeps.wake import wake
from orchestrator.ledger.dispatches import Patience, Search
from orchestrator.ledger.tx import Ledger, is_disconnect
from orchestrator.workers.run import deliver
from orchestrator.workers.state import AnyStep, task_name
from tests.proof.history import Fault, Invocation, Message
from tests.proof.interpreter import runs_a_graph
from tests.simulation import flows
from tests.simulation.arena import Arena
from tests.simulation.flows import Fate
from tests.simulation.people import People
from tests.simulation.processes import Broker, Code, Process, Sender, repeated
from tests.simulation.stage import Actor, Order
from tests.soak import strangers
from tests.support.foreign import not_yet
from tests.support.releases import newer

DUTIES: Final = ("expired", "due", "wake", "deadlines", "queue_timeouts", "overruns", "redispatch", "refused")
OF_CALLS: Final = ("untold", "stopped")
"""Duties for runs that called others."""
OWN: Final = frozenset({"overruns", "refused"})
"""Duties that each worker has for itself."""
SEATS: Final = 3
"""Pool children of a worker."""
MOST_RUNS: Final = 5
_ROUNDS: Final = 300
NARROW: Final = 2
_STRANGERS: Final = 5


class World:
    """Seeded flows and inputs on an empty ledger. `trace` holds what was done, in words."""

    def __init__(
        self, arena: Arena, seed: int, size: int = 2, manifests: Sequence[dict[str, Any]] | None = None
    ) -> None:
        arena.reset()
        self.arena, self.stage, self.ledger, self.lab = arena, arena.stage, arena.ledger, arena.lab
        self.rng = random.Random(f"world {seed}")
        self.trace: list[str] = []
        self.broker: Broker = {}
        self.taken: list[Dispatch] = []
        more = seed % 2 == 0  # half of the worlds have flows with nothing but edges and loops
        self.manifests = list(manifests or (flows.manifest(self.rng, f"flow{n}", more=more) for n in range(2)))
        every = [one for each in self.manifests for one in flows.steps_of(each)]
        self.asking = any(not {"signal", "approval"}.isdisjoint(one) for one in every)
        """Whether its runs wait for people."""
        self.deep = any(runs_a_graph(one) for one in every if "steps" in one)
        """Whether items of its loops are small flows. Then its windows are narrow, though nothing is said: few items
        fill them, and give their places up while they wait for a poll or a back-off."""
        self._patch = pytest.MonkeyPatch()
        if self.deep:
            for module in (node, reopening, retrying):
                self._patch.setattr(module, "WINDOW", NARROW)
        first = [Manifest(**one) for one in self.manifests]
        self.codes = [Code("older", arena.older, first, _by_task(first, flows.handlers(self._handle)))]
        """Of the releases, the newest last. A worker has any of them, as long as there is trouble."""
        if manifests is None:
            second = [newer(one, readable=n > 0) for n, one in enumerate(self.manifests)]
            handlers = _by_task(second, flows.newer_handlers(self._handle))
            self.codes.append(Code("newer", arena.ledger, second, handlers))
        self._shipped = self.codes
        """What a new worker may have."""
        for manifest in first:
            register.register(self.ledger, manifest)
        self.strangers = strangers.settle(arena.url, _STRANGERS)
        self.lab.execute("TRUNCATE proof_history, test_moves")
        self.running: dict[int, tuple[Context, Fate]] = {}
        """By pid, what its handler is at."""
        self.invocations: dict[str, Invocation] = {}
        self.messages: list[Message] = []
        self.faults: list[Fault] = []
        self.codes_of: dict[str, Code] = {}
        """By worker, those that are gone too."""
        self._pids = 100_000
        sender = Sender(self.stage, self.ledger, self.broker)
        pins = {manifest.name: manifest.hash for manifest in first}
        self.people = People(arena, self.rng, self.manifests, pins, sender, self._client)
        self._seen_commits = self.stage.commits
        self.processes = [self._born(n, 0) for n in range(size)]

    # ---- the parts ----

    def _born(self, number: int, life: int) -> Process:
        code = self.rng.choice(self._shipped)
        process = Process(number, life, self.arena.settings, self.stage, code, self.broker)
        self.codes_of[process.state.worker_id] = code
        for manifest in code.manifests:
            register.register(code.ledger, manifest, process.name)
        workers.hello(code.ledger, process.info())
        return process

    def _actor(self, name: str, body: Callable[[], Any], pid: int | None = None) -> Actor:
        self._pids += 1
        return Actor(self.stage, name, pid or self._pids, body)

    def _say(self, text: str) -> None:
        self.trace.append(text)

    def _ns(self) -> int:
        return self.arena.now_ns()

    @property
    def duties(self) -> tuple[str, ...]:
        """Of keepers."""
        return (*DUTIES, *OF_CALLS) if self.people.calling else DUTIES

    @property
    def runs(self) -> list[str]:
        """Those that clients know of, or can see."""
        called = self.lab.rows(_CALLED) if self.people.calling else ()
        return [*self.people.runs, *(str(row["id"]) for row in called)]

    @property
    def actors(self) -> list[Actor]:
        """Everybody who could go on now."""
        found = list(self.people.actors)
        for process in self.processes:
            found += [*process.children, *process.keepers] if process.healthy else []
        return found

    def process_of(self, actor: Actor) -> Process | None:
        return next((one for one in self.processes if actor in one.children or actor in one.keepers), None)

    def names(self, actor: Actor) -> str:
        process = self.process_of(actor)
        return f"{process.name if process else 'client'} {actor.name}"

    def _client(self, name: str, act: Callable[[], None]) -> Actor:
        self._say(name)
        return self._actor(name, act)

    # ---- handlers ----

    def _handle(self, ctx: Context, fate: Fate, seen: Any) -> dict[str, Any]:
        actor = self.stage.acting
        assert actor is not None
        token = f"t{len(self.invocations)}"
        parts = ctx.step_key.split(".")
        self.invocations[token] = Invocation(
            run_id=ctx.run_id,
            step_key=ctx.step_key,
            attempt=ctx.attempt,
            pid=actor.pid,
            key=ctx.idempotency_key,
            started_ns=self._ns(),
            token=token,
            seen=tuple(sorted(set(flows.tokens(seen)))),
            loop_index=int(parts[1]) if len(parts) == 3 else None,
        )
        self.running[actor.pid] = (ctx, fate)
        order: Order = "go"
        while order not in ("finish", "poll", "fail", "heed"):
            order = self.stage.boundary("handler")
        del self.running[actor.pid]
        returns = order == "finish" or (order == "poll" and fate["says"] == "not ready")
        self._ended(token, "end" if returns else "error")
        if not returns:
            raise self._excuse(order, fate)
        return {"token": token, "items": fate.get("items", []), "ready": order == "finish"}

    def _excuse(self, order: Order, fate: Fate) -> BaseException:
        number = len(self.invocations)
        if order == "heed":
            return CancelledError()
        if order == "poll":
            return NotYet("it is on its way", after=None if number % 3 else "7s")
        return flows.Hopeless("nothing helps") if fate.get("x") else not_yet(number)

    def _ended(self, token: str, outcome: Any) -> None:
        facts = self.invocations[token].__dict__
        self.invocations[token] = Invocation(**{**facts, "ended_ns": self._ns(), "outcome": outcome})

    def orders(self, actor: Actor) -> list[Order]:
        """How this actor may go on."""
        if actor.at == "handler":
            ctx, fate = self.running[actor.pid]
            hows: tuple[Order, ...] = ("finish", "poll", "fail")
            found = [how for how in hows if flows.may(fate, ctx.attempt, how)]
            return [*found, "heed"] if ctx.cancelled else found
        return ["go", "lose"] if actor.at in ("request", "reply") else ["go"]

    # ---- what actors do ----

    def go(self, actor: Actor, order: Order = "go") -> None:
        """To its next boundary."""
        self._say(f"{self.names(actor)}: {order} at {actor.at}")
        if order == "lose":
            self._fault("link-db", frozenset({actor.pid}), actor.name)
        actor.resume(order)
        self._forget()

    def _forget(self) -> None:
        self.people.actors = [one for one in self.people.actors if not one.over]
        for process in self.processes:
            process.forget()

    def finish(self, actor: Actor) -> None:
        """To its end, handlers as their fates say."""
        while not actor.over:
            self.go(actor, self.orders(actor)[0])

    # ---- messages ----

    @property
    def queued(self) -> list[tuple[list[Dispatch], int]]:
        """Every message, by its list and place."""
        return [(self.broker[name], place) for name in sorted(self.broker) for place in range(len(self.broker[name]))]

    def deliver(self, number: int, process: Process) -> None:
        """Any message to any worker: lists have no order here."""
        messages, place = self.queued[number % len(self.queued)]
        one = messages.pop(place)
        self.taken = [*self.taken[-20:], one]

        def act() -> None:
            at = self._ns()
            self.messages.append(Message(str(one.run_id), one.step_key, one.number, actor.pid, at))
            deliver.deliver(process.state, one)

        actor = self._actor(f"{self.people.short(str(one.run_id))} {one.step_key} #{one.number}", act)
        self._say(f"{process.name} takes {actor.name}")
        process.children.append(actor)

    def duplicate(self, number: int) -> None:
        """A message that is there, or one that was taken before, comes once more."""
        known = [*(messages[place] for messages, place in self.queued), *self.taken]
        one = known[number % len(known)]
        self._say(f"duplicate {one.step_key} #{one.number}")
        self.broker.setdefault((one.queue, one.priority), []).append(one)

    def drop(self, number: int) -> None:
        messages, place = self.queued[number % len(self.queued)]
        self._say(f"drop {messages[place].step_key}")
        messages.pop(place)

    def wipe(self) -> None:
        """All of Redis."""
        self._say("wipe")
        self._fault("broker wiped", frozenset(), "broker")
        for messages in self.broker.values():
            messages.clear()

    # ---- what befalls a worker ----

    def _fault(self, kind: str, pids: frozenset[int], target: str, since: int | None = None) -> None:
        now = self._ns()
        self.faults.append(Fault(kind, target, now if since is None else since, now, pids))

    def crash_child(self, process: Process, actor: Actor) -> None:
        """Its parent notices and puts its steps back."""
        self._say(f"{self.names(actor)}: dies at {actor.at}")
        self._fault("kill child", frozenset({actor.pid}), process.name)
        self._die(actor)
        self._bury(process, actor.pid)

    def _bury(self, process: Process, pid: int) -> None:
        owner, limit = f"{process.state.worker_id}/{pid}", self.arena.settings.crash_limit

        def act() -> None:
            repeated(lambda: given.extend(release.end_owned(process.code.ledger, owner, crash_limit=limit)), _lost)
            process.state.runtime().publisher.publish(given)

        given: list[Dispatch] = []
        process.keepers.append(self._actor(f"bury {pid}", act, process.pid))

    def _die(self, actor: Actor) -> None:
        self.running.pop(actor.pid, None)
        actor.resume("die")
        assert actor.over
        self._forget()

    def crash(self, process: Process) -> None:
        """The whole process; another one takes its place."""
        self._say(f"{process.name} dies")
        self._fault("kill", process.pids(), process.name)
        for actor in [*process.children, *process.keepers]:
            self._die(actor)
        self._replace(process)

    def _replace(self, process: Process) -> None:
        self.processes[process.number] = self._born(process.number, process.life + 1)

    def pause(self, process: Process) -> None:
        self._say(f"{process.name} sleeps")
        process.paused_ns = self._ns()

    def resume(self, process: Process) -> None:
        self._say(f"{process.name} wakes")
        self._fault("pause", process.pids(), process.name, process.paused_ns)
        process.paused_ns = None

    def shut_down(self, process: Process) -> None:
        """SIGTERM: what is not started is given back."""
        self._say(f"{process.name} stops")
        self._fault("deploy", process.pids(), process.name)
        process.state.shared.stop()

    def restart(self, process: Process) -> None:
        """After a shutdown, when nothing runs in it any more."""
        if process.state.stopping and process.healthy and not process.children and not process.keepers:
            self._say(f"{process.name} is over")
            self._replace(process)

    # ---- time ----

    def advance(self, seconds: float) -> None:
        """Time passes for everybody, and the heartbeats of those who are awake go on."""
        self._say(f"{seconds:g} s pass")
        while seconds > 0:
            part, begun = min(seconds, 7.0), self._ns()
            seconds -= part
            self.arena.forward(part)
            self.arena.monotonic_s += part
            # A handler may take its time; whoever stands elsewhere for so long is a process that was not scheduled.
            idle = frozenset(
                one.pid for process in self.processes for one in process.children if one.at not in ("handler", "begin")
            )
            if idle:
                self._fault("pause child", idle, "machine", begun)
            for process in self.processes:
                if process.healthy:
                    self._through(self._actor("beat", lambda process=process: self._beat(process), process.pid))  # type: ignore[misc]

    def _beat(self, process: Process) -> None:
        process.pulse.beat()
        ledger = process.code.ledger
        if not workers.seen(ledger, process.state.worker_id, consuming=True, stopping=process.state.stopping):
            workers.hello(ledger, process.info())

    @staticmethod
    def _through(actor: Actor) -> None:
        while not actor.over:
            actor.resume()

    def jump(self, seconds: float) -> None:
        """The database's clock alone: for everybody else it is as if they had slept."""
        self._say(f"the clock jumps by {seconds:g} s")
        begun = self._ns()
        self.arena.forward(seconds)
        pids = frozenset(pid for process in self.processes for pid in process.pids())
        self._fault("pause-clock", pids, "database", begun)

    # ---- keepers ----

    def duty(self, process: Process, name: str) -> None:
        """One page of it."""

        def act() -> None:
            try:
                process.state.runtime().publisher.publish(self._duty(process, name))
            except DBAPIError as exc:  # the product's loops go on with the next sweep
                if not is_disconnect(exc):
                    raise

        process.keepers.append(self._actor(name, act, process.pid))
        self._say(f"{process.name} looks for {name}")

    def _duty(self, process: Process, name: str) -> tuple[Dispatch, ...]:
        settings, ledger, walk = self.arena.settings, process.code.ledger, process.walks[name]
        if name == "expired":
            return sweep.expired(ledger, crash_limit=settings.crash_limit, walk=walk).dispatches
        if name == "due":
            return sweep.due(ledger).dispatches
        if name == "wake":
            return wake(ledger, walk).dispatches
        if name == "deadlines":
            return sweep.deadlines(ledger, settings.cancel_grace, walk).dispatches
        if name == "queue_timeouts":
            return sweep.queue_timeouts(ledger, walk).dispatches
        if name == "untold":
            return report.untold(ledger, walk).dispatches
        if name == "stopped":
            return stopping.stop_children(ledger, None, settings.cancel_grace).dispatches
        if name == "refused":
            process.refusals.hand_on()
            return ()
        return self._overruns(process) if name == "overruns" else self._send_again(ledger)

    def _overruns(self, process: Process) -> tuple[Dispatch, ...]:
        found = sweep.overruns(process.code.ledger, process.state.worker_id, process.walks["overruns"])
        for overrun in found:
            for actor in list(process.children):
                at = self.running.get(actor.pid)
                here = at is not None and (at[0].run_id, at[0].step_key) == (str(overrun.run_id), overrun.step_key)
                if here and overrun.owner.endswith(f"/{actor.pid}"):
                    self.crash_child(process, actor)
        return tuple(dispatch for overrun in found for dispatch in overrun.dispatches)

    def _send_again(self, ledger: Ledger) -> tuple[Dispatch, ...]:
        """First the lengths, then what the ledger expects."""
        settings = self.arena.settings
        found: list[Dispatch] = []
        depths = {name: len(messages) for name, messages in self.broker.items()}
        for (queue, priority), expected in sorted(redispatch.outstanding(ledger).items()):
            search = Search(queue, [priority], expected - depths.get((queue, priority), 0))
            patience = Patience(settings.redispatch_after, settings.redispatch_after, settings.worker_ttl)
            found += redispatch.lost(ledger, search, patience).dispatches
        return tuple(found)

    # ---- what must hold ----

    def audit(self) -> None:
        """After every commit."""
        assert not self.arena.swallowed, self.arena.swallowed
        if self._seen_commits != self.stage.commits:
            self._seen_commits = self.stage.commits
            self.lab.audit()

    def drain(self) -> None:
        """Everything heals, and a worker of the newest release is there; whatever is open comes to its end."""
        self._say("---- heal and drain")
        self._shipped = self.codes[-1:]
        if not any(process.code is self.codes[-1] for process in self.processes):
            self.processes.append(self._born(len(self.processes), 0))
        for process in self.processes:
            if not process.healthy:
                self.resume(process)
        for turn in range(_ROUNDS):
            while self.actors or self.queued:
                for actor in self.actors:
                    self.finish(actor)
                for process in self.processes:
                    self.restart(process)
                if self.queued:
                    self.deliver(0, self.processes[turn % len(self.processes)])
            self.audit()
            if not self.lab.rows(_UNDONE, _OPEN, strangers.FLOW) and not self.lab.rows(_UNTOLD):
                return
            self._answer_all()
            for name in self.duties:
                if name in OWN:
                    for process in self.processes:
                        self.duty(process, name)
                else:
                    self.duty(self.processes[turn % len(self.processes)], name)
            self.advance(2 if turn < 60 else 60)

    def _answer_all(self) -> None:
        """What runs wait for without an end comes after all."""
        for n, row in enumerate(self.lab.rows(_ASKED) if self.asking else ()):
            signal = Signal(row["signal"], '{"n": 9}', row["key"], by="ada", answers=row["kind"] == "approval")
            self.people.signal(str(row["run_id"]), f"last{n} {self._ns()}", signal)

    def close(self) -> None:
        """Nobody acts any more."""
        self._patch.undo()
        for actor in [*self.people.actors, *(one for p in self.processes for one in (*p.children, *p.keepers))]:
            with suppress(Exception):
                if not actor.over:
                    actor.resume("die")


_UNDONE: Final = "SELECT FROM flow_runs WHERE status = ANY (%s) AND flow <> %s LIMIT 1"
_UNTOLD: Final = "SELECT FROM flow_runs WHERE ended_at IS NOT NULL AND NOT parent_told LIMIT 1"
_CALLED: Final = "SELECT id FROM flow_runs WHERE parent_run_id IS NOT NULL ORDER BY created_at"
_ASKED: Final = """
SELECT w.run_id, w.signal, w.key, w.kind FROM flow_signal_waiters w JOIN flow_steps s USING (run_id, step_key)
 WHERE s.status = 'waiting' AND w.closed_at IS NULL AND s.wake_at IS NULL ORDER BY w.created_at
"""
_OPEN: Final = [status.value for status in RunStatus if status not in FINAL_RUN]


def _by_task(manifests: Sequence[Manifest], by_type: Mapping[str, AnyStep]) -> dict[str, AnyStep]:
    return {task_name(one.name, type_): step for one in manifests for type_, step in by_type.items()}


def _lost(exc: BaseException) -> bool:
    return is_disconnect(exc)
