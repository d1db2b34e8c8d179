"""The simulation as a state machine: Hypothesis is the scheduler, and shrinks what it finds."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.simulation import judge
from tests.simulation.arena import Arena
from tests.simulation.processes import Process
from tests.simulation.stage import Actor, Order
from tests.simulation.world import DUTIES, MOST_RUNS, SEATS, World

F = TypeVar("F", bound=Callable[..., Any])
NUMBERS = st.integers(0, 11)
"""Which one of those that there are."""
KEYS = st.sampled_from([None, "k1", "k2"])


def when(test: Callable[["Machine"], Any]) -> Callable[[F], F]:
    """A rule that is there only while something can be done."""
    return precondition(lambda self: bool(test(self)))


class Machine(RuleBasedStateMachine):
    """Each rule is one small thing that happens. The ledger is audited after each, and the record of it all judged at
    the end, when everything has healed."""

    arena: ClassVar[Arena]
    world: World | None = None

    @initialize(seed=st.integers(0, 2**16), size=st.integers(2, 3))
    def begin(self, seed: int, size: int) -> None:
        self.world = World(self.arena, seed, size)
        self.world.people.start(0, None)
        self.world.people.start(1, "k0")

    @property
    def now(self) -> World:
        assert self.world is not None
        return self.world

    def _awake(self) -> list[Process]:
        return [one for one in self.now.processes if one.healthy]

    def _asleep(self) -> list[Process]:
        return [one for one in self.now.processes if not one.healthy]

    def _free(self) -> list[Process]:
        return [one for one in self._awake() if len(one.children) < SEATS]

    def _standing(self) -> list[Actor]:
        return [one for one in self.now.actors if one.at != "handler"]

    def _at(self, order: Order) -> list[Actor]:
        return [one for one in self.now.actors if order in self.now.orders(one)]

    def _children(self) -> list[tuple[Process, Actor]]:
        return [(process, one) for process in self.now.processes for one in process.children]

    def _room(self) -> bool:
        return len(self.now.people.runs) + len(self.now.people.actors) < MOST_RUNS

    # ---- clients ----

    @when(_room)
    @rule(flow=NUMBERS, key=KEYS)
    def start(self, flow: int, key: str | None) -> None:
        self.now.people.start(flow, key)

    @when(lambda self: self._room() and self.now.people.keyed)
    @rule(n=NUMBERS, same=st.booleans())
    def start_with_a_used_key(self, n: int, same: bool) -> None:
        known = self.now.people.keyed
        self.now.people.again(known[n % len(known)], same=same)

    @when(lambda self: self.now.people.runs)
    @rule(n=NUMBERS)
    def cancel(self, n: int) -> None:
        runs = self.now.people.runs
        self.now.people.cancel(runs[n % len(runs)])

    @when(lambda self: self.now.people.runs)
    @rule(n=NUMBERS, step=st.one_of(st.none(), NUMBERS))
    def operator_retry(self, n: int, step: int | None) -> None:
        runs = self.now.people.runs
        run_id = runs[n % len(runs)]
        keys = sorted({one.step_key for one in self.now.invocations.values() if one.run_id == run_id})
        self.now.people.retry(run_id, keys[step % len(keys)] if keys and step is not None else None)

    @when(lambda self: self._room() and self.now.people.runs)
    @rule(n=NUMBERS, step=NUMBERS)
    def operator_rerun(self, n: int, step: int) -> None:
        """From any step on; most runs have not ended, and it is refused."""
        runs = self.now.people.runs
        run_id = runs[n % len(runs)]
        keys = sorted({one.step_key for one in self.now.invocations.values() if one.run_id == run_id})
        if keys:
            self.now.people.rerun(run_id, keys[step % len(keys)].partition(".")[0])

    # ---- those who act ----

    @when(_standing)
    @rule(n=NUMBERS, times=st.integers(1, 6))
    def go(self, n: int, times: int) -> None:
        """To its next boundary, or some further."""
        actors = self._standing()
        actor = actors[n % len(actors)]
        for _ in range(times):
            if not actor.over and actor.at != "handler":
                self.now.go(actor)

    @when(lambda self: self._at("lose"))
    @rule(n=NUMBERS)
    def lose_the_connection(self, n: int) -> None:
        """Before the statement, or after its commit."""
        self._order("lose", n)

    @when(lambda self: self._at("finish"))
    @rule(n=NUMBERS)
    def finish(self, n: int) -> None:
        self._order("finish", n)

    @when(lambda self: self._at("fail"))
    @rule(n=NUMBERS)
    def fail(self, n: int) -> None:
        self._order("fail", n)

    @when(lambda self: self._at("heed"))
    @rule(n=NUMBERS)
    def heed_the_cancel(self, n: int) -> None:
        self._order("heed", n)

    def _order(self, order: Order, n: int) -> None:
        actors = self._at(order)
        self.now.go(actors[n % len(actors)], order)

    @when(_awake)
    @rule(n=NUMBERS, name=st.sampled_from(DUTIES))
    def sweep(self, n: int, name: str) -> None:
        """Expired leases, timers, deadlines, queue timeouts, overruns, lost messages."""
        self.now.duty(self._awake()[n % len(self._awake())], name)

    # ---- messages ----

    @when(lambda self: self._free() and self.now.queued)
    @rule(message=NUMBERS, n=NUMBERS)
    def deliver(self, message: int, n: int) -> None:
        self.now.deliver(message, self._free()[n % len(self._free())])

    @when(lambda self: self.now.queued or self.now.taken)
    @rule(n=NUMBERS)
    def duplicate(self, n: int) -> None:
        self.now.duplicate(n)

    @when(lambda self: self.now.queued)
    @rule(n=NUMBERS)
    def drop(self, n: int) -> None:
        self.now.drop(n)

    @when(lambda self: self.now.queued)
    @rule()
    def wipe(self) -> None:
        self.now.wipe()

    # ---- what befalls workers, and time ----

    @when(_children)
    @rule(n=NUMBERS)
    def crash_child(self, n: int) -> None:
        self.now.crash_child(*self._children()[n % len(self._children())])

    @rule(n=NUMBERS)
    def crash(self, n: int) -> None:
        self.now.crash(self.now.processes[n % len(self.now.processes)])

    @when(_awake)
    @rule(n=NUMBERS)
    def pause(self, n: int) -> None:
        self.now.pause(self._awake()[n % len(self._awake())])

    @when(_asleep)
    @rule(n=NUMBERS)
    def resume(self, n: int) -> None:
        self.now.resume(self._asleep()[n % len(self._asleep())])

    @rule(n=NUMBERS)
    def shut_down(self, n: int) -> None:
        self.now.shut_down(self.now.processes[n % len(self.now.processes)])

    @rule(seconds=st.sampled_from([1, 5, 20, 40]))
    def advance(self, seconds: int) -> None:
        self.now.advance(seconds)
        for process in list(self.now.processes):
            self.now.restart(process)

    @rule(seconds=st.sampled_from([5, 29, 31, 60]))
    def jump(self, seconds: int) -> None:
        """The database's clock alone."""
        self.now.jump(seconds)

    # ---- what must hold ----

    @invariant()
    def audited(self) -> None:
        if self.world is not None:
            self.world.audit()

    def teardown(self) -> None:
        if self.world is None:
            return
        try:
            self.world.drain()
            assert judge.wrong(self.world) == []
        finally:
            self.world.close()
