"""A seeded scheduler: one seed, one history."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from orchestrator.core.signals import Signal
from tests.simulation import flows, judge
from tests.simulation.arena import Arena
from tests.simulation.stage import Actor
from tests.simulation.world import MOST_RUNS, SEATS, World

_APPROVALS = """
SELECT step_key FROM flow_signal_waiters WHERE run_id = %s AND kind = 'approval' AND closed_at IS NULL ORDER BY step_key
"""
_KEYS = "SELECT step_key FROM flow_steps WHERE run_id = %s ORDER BY step_key"
_FAILED_LOOPS = """
SELECT step_key FROM flow_steps
 WHERE run_id = %s AND kind = 'loop' AND status = 'failed' AND strpos(step_key, '.') > 0 ORDER BY step_key
"""
_UNDONE = """
SELECT step_key FROM flow_steps
 WHERE run_id = %s AND kind <> 'item' AND status IN ('failed', 'cancelled') ORDER BY step_key
"""
_LEFT_OUT = """
SELECT s.step_key
  FROM flow_steps l JOIN flow_steps s ON s.run_id = l.run_id AND starts_with(s.step_key, l.step_key || '.')
 WHERE l.run_id = %s AND l.kind = 'loop' AND l.status = 'skipped' ORDER BY s.step_key
"""
SHOWN = 60
"""Lines of a trace that are printed."""


@dataclass(frozen=True)
class Played:
    """A history that is over, and what was wrong with it."""

    seed: int
    steps: int
    wrong: tuple[str, ...]
    trace: tuple[str, ...] = field(repr=False)
    commits: int = 0

    def __str__(self) -> str:
        last = "\n".join(f"  {line}" for line in self.trace[-SHOWN:])
        return f"seed {self.seed}, {self.steps} steps, the last lines of {len(self.trace)}:\n{last}\n" + "\n".join(
            self.wrong
        )


def play(
    arena: Arena,
    seed: int,
    steps: int,
    manifests: Sequence[dict[str, Any]] | None = None,
    often: Sequence[str] = (),
) -> Played:
    """So many decisions of the scheduler, then the drain and the checker; of these flows, or of seeded ones. Where
    items are small flows, operators then mend what failed, and it is drained and checked again. `often`: what is rare
    otherwise."""
    world = World(arena, seed, size=2 + seed % 2, manifests=manifests)
    before = arena.stage.commits
    wrong: list[str] = []
    try:
        player = _Player(world, seed, often)
        player.run(steps)
        world.drain()
        wrong += judge.wrong(world)
        if world.deep and not wrong:
            player.mend()
            world.drain()
            wrong += judge.wrong(world)
    except Exception as exc:  # whatever it is, it is reported with the trace that led to it
        wrong.append(f"{type(exc).__name__}: {exc}")
    finally:
        world.close()
    return Played(seed, steps, tuple(wrong), tuple(world.trace), arena.stage.commits - before)


class _Player:
    def __init__(self, world: World, seed: int, more: Sequence[str] = ()) -> None:
        self._world = world
        self._rng = random.Random(f"play {seed}")
        rare, often = self._rng.uniform(0.2, 1.5), self._rng.uniform(0.5, 2)
        self._acts: list[tuple[float, Callable[[], None]]] = [
            (30, self._go),
            (8 * often, self._deliver),
            (4, self._start),
            (3 * often, self._take_over),
            (1, self._again),
            (rare, self._duplicate),
            (rare, self._drop),
            (0.3 * rare, self._world.wipe),
            (rare, self._crash_child),
            (0.7 * rare, self._crash),
            (0.7 * rare, self._pause),
            (1.5 * rare, self._resume),
            (0.5 * rare, self._shut_down),
            (4 * often, self._advance),
            (0.5 * rare, self._jump),
            (7 * often, self._duty),
            (0.6 * rare, self._cancel),
            (1.5 * rare, self._retry),
        ]

        if world.deep:
            self._acts += [(2 * rare, self._settle)]
        if world.asking:
            self._acts += [
                (4 * often, self._signal),
                (0.7 * rare, self._settle),
                (0.7 * rare, self._rerun),
                (1, self._start_late),
            ]
        self._acts += [(8.0, getattr(self, f"_{name}")) for name in more]

    def run(self, steps: int) -> None:
        acts, weights = [act for _, act in self._acts], [weight for weight, _ in self._acts]
        for act in self._rng.choices(acts, weights, k=steps):
            act()
            self._world.audit()

    def mend(self) -> None:
        """Operators settle and retry, and workers go on meanwhile. Few runs fail deep inside of items before."""
        for act in self._rng.choices((self._settle, self._retry, self._deliver, self._go), (4, 1, 3, 12), k=60):
            act()
            self._world.audit()

    def _any(self) -> int:
        return self._rng.randrange(1_000_000)

    def _go(self) -> None:
        actors = self._world.actors
        if actors:
            self._further(self._rng.choice(actors), self._rng.choice((1, 1, 2, 4)))

    def _further(self, actor: Actor, boundaries: int, *, until: str = "over") -> None:
        for _ in range(boundaries):
            if actor.at in ("over", until):
                return
            orders = self._world.orders(actor)
            lose = "lose" in orders and self._rng.random() < 0.04
            kept = [order for order in orders if order != "lose"]
            self._world.go(actor, "lose" if lose else self._rng.choice(kept))

    def _take_over(self) -> None:
        """What is rare by itself, and what leases are for: a worker loses its steps, others have them, it goes on."""
        busy = [one for one in self._world.processes if one.healthy and one.children]
        if not busy:
            return
        world, victim = self._world, self._rng.choice(busy)
        others = [one for one in world.processes if one.healthy and one is not victim]
        if world.queued and self._rng.random() < 0.5:
            world.deliver(self._any(), victim)
            self._further(victim.children[-1], 2)  # its claim is committed, and it does not know yet
        if self._rng.random() < 0.3:
            world.crash_child(victim, self._rng.choice(victim.children))
            self._further(victim.keepers[-1], 3)
        if others and self._rng.random() < 0.5:
            world.pause(victim)
            world.advance(31)
        else:
            world.jump(31)
        if self._rng.random() < 0.4:
            world.shut_down(victim)
        helper = self._rng.choice(others or [victim])
        world.duty(helper, "expired")
        self._further(helper.keepers[-1], 9)
        world.audit()
        while world.queued and len(helper.children) < SEATS:
            world.deliver(self._any(), helper)
            self._further(helper.children[-1], 4, until="handler")
        if not victim.healthy:
            world.resume(victim)
        for actor in [*victim.children, *victim.keepers]:
            if self._rng.random() < 0.5:
                self._further(actor, 3)

    def _deliver(self) -> None:
        free = [one for one in self._world.processes if one.healthy and len(one.children) < SEATS]
        if free and self._world.queued:
            self._world.deliver(self._any(), self._rng.choice(free))

    def _start(self) -> None:
        if len(self._world.people.runs) + len(self._world.people.actors) < MOST_RUNS:
            key = f"k{self._rng.randrange(6)}" if self._rng.random() < 0.5 else None
            known = [call for call in self._world.people.calls if key is not None and call.key == key]
            if not known:
                self._world.people.start(self._any(), key)

    def _again(self) -> None:
        known = self._world.people.keyed
        if known and len(self._world.people.runs) < MOST_RUNS:
            self._world.people.again(self._rng.choice(known), same=self._rng.random() < 0.6)

    def _duplicate(self) -> None:
        if self._world.queued or self._world.taken:
            self._world.duplicate(self._any())

    def _drop(self) -> None:
        if self._world.queued:
            self._world.drop(self._any())

    def _crash_child(self) -> None:
        pairs = [(process, one) for process in self._world.processes for one in process.children]
        if pairs:
            self._world.crash_child(*self._rng.choice(pairs))

    def _crash(self) -> None:
        self._world.crash(self._rng.choice(self._world.processes))

    def _pause(self) -> None:
        awake = [one for one in self._world.processes if one.healthy]
        if awake:
            self._world.pause(self._rng.choice(awake))

    def _resume(self) -> None:
        asleep = [one for one in self._world.processes if not one.healthy]
        if asleep:
            self._world.resume(self._rng.choice(asleep))

    def _shut_down(self) -> None:
        self._world.shut_down(self._rng.choice(self._world.processes))

    def _advance(self) -> None:
        self._world.advance(self._rng.choice((0.5, 1, 2, 4, 8, 20)))
        for process in list(self._world.processes):
            self._world.restart(process)

    def _jump(self) -> None:
        self._world.jump(self._rng.choice((5, 29, 31, 60)))

    def _duty(self) -> None:
        awake = [one for one in self._world.processes if one.healthy and len(one.keepers) < 3]
        if awake:
            self._world.duty(self._rng.choice(awake), self._rng.choice(self._world.duties))

    def _cancel(self) -> None:
        if runs := self._world.runs:
            self._world.people.cancel(self._rng.choice(runs))

    def _signal(self) -> None:
        """Early or late, of a name that is awaited or not, with an id that was used or not, fit or not."""
        people, rng = self._world.people, self._rng
        if not people.runs:
            return
        if people.sent and rng.random() < 0.2:
            old = rng.choice(people.sent)
            payload = json.dumps(old.payload if rng.random() < 0.7 else {"n": 7})
            people.signal(old.run_id, old.id, Signal(old.name, payload, old.key))
            return
        run_id, id_ = rng.choice(people.runs), f"id{self._any()}"
        if rng.random() < 0.3:
            signal = Signal(rng.choice(self._asked(run_id) or ["nobody"]), '{"n": 1}', by="ada", answers=True)
        else:
            payload = rng.choice(('{"n": 1}', '{"n": 2}', '{"n": 2}', '"unfit"'))
            name = rng.choice((*flows.NAMES, *flows.NAMES, "nobody"))
            ttl = timedelta(seconds=5) if rng.random() < 0.2 else None
            signal = Signal(name, payload, rng.choice(flows.KEYS), by="bob", ttl=ttl)
        people.signal(run_id, id_, signal)

    def _asked(self, run_id: str) -> list[str]:
        """The approvals of flows; where items have some, those of this run that wait."""
        if self._world.deep:
            return [row["step_key"] for row in self._world.lab.rows(_APPROVALS, run_id)]
        return [key for one in self._world.manifests for key, step in one["steps"].items() if "approval" in step]

    def _settle(self) -> None:
        """Any step of a run, whatever it is in; where loops stand in items, often one that may be settled."""
        people, rng = self._world.people, self._rng
        if people.runs:
            run_id = rng.choice(people.runs)
            keys = [row["step_key"] for row in self._world.lab.rows(_KEYS, run_id)]
            if self._world.deep:
                keys = self._undone(run_id) or keys
            output = rng.choice((None, '{"n": 5, "items": []}', "[]"))
            people.settle(run_id, rng.choice(keys), output)

    def _undone(self, run_id: str) -> list[str]:
        """What operators mend: what is inside of loops that somebody left out, loops of items that failed, whatever
        failed or was cancelled. Each of these by turns, if there is such a step."""
        found = (self._world.lab.rows(query, run_id) for query in (_LEFT_OUT, _FAILED_LOOPS, _UNDONE))
        return next(([row["step_key"] for row in rows] for rows in found if rows and self._rng.random() < 0.7), [])

    def _rerun(self) -> None:
        people, rng = self._world.people, self._rng
        if people.runs and len(people.runs) + len(people.actors) < MOST_RUNS:
            run_id = rng.choice(people.runs)
            keys = [row["step_key"] for row in self._world.lab.rows(_KEYS, run_id) if "." not in row["step_key"]]
            people.rerun(run_id, rng.choice([None, *keys]))

    def _start_late(self) -> None:
        people = self._world.people
        if len(people.runs) + len(people.actors) < MOST_RUNS:
            people.start(self._any(), None, begins=timedelta(seconds=self._rng.choice((1, 5, 30))))

    def _retry(self) -> None:
        if runs := self._world.runs:
            run_id = self._rng.choice(runs)
            keys = sorted({one.step_key for one in self._world.invocations.values() if one.run_id == run_id})
            if self._world.deep:
                keys = sorted({*keys, *(around for key in keys for around in _around(key)), *self._undone(run_id)})
            self._world.people.retry(run_id, self._rng.choice([None, None, *keys]))


def _around(key: str) -> list[str]:
    """The loops and items that a step stands in."""
    parts = key.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]
