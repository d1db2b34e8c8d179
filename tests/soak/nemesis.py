"""Picks faults at seeded moments, heals them, and leaves quiet windows in which everything must go on."""

import random
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import monotonic, monotonic_ns

import psycopg

from tests.proof.history import Fault
from tests.soak import faults
from tests.soak.faults import Kind, Struck
from tests.soak.field import Field
from tests.soak.posts import Post

ROUNDS = (1, 3)
"""Rounds of faults in a cycle."""
GAP_S = (2.0, 8.0)
"""Before each round."""

_TROUBLE = """
SELECT (SELECT count(*) FROM flow_steps
         WHERE queued AND ready_at < to_timestamp(%(since)s) AND NOT run_id = ANY (%(strangers)s::uuid[]))
     + (SELECT count(*) FROM flow_step_claims
         WHERE expires_at < clock_timestamp() AND NOT run_id = ANY (%(strangers)s::uuid[]))
     + (SELECT count(*) FROM flow_steps WHERE due_at < clock_timestamp() - interval '1 s')
     + (SELECT count(*) FROM flow_steps WHERE wake_at < clock_timestamp() - interval '1 s')
     + (SELECT count(*) FROM flow_run_controls WHERE NOT closed AND start_at < clock_timestamp() - interval '1 s')
     + (SELECT count(*) FROM flow_runs WHERE NOT parent_told AND ended_at < clock_timestamp() - interval '1 s')
     + (SELECT count(*) FROM flow_schedule_states
         WHERE active AND paused_at IS NULL AND due_at < clock_timestamp() - interval '3 s')
"""


@dataclass
class _Under:
    """A fault that is under way."""

    kind: Kind
    struck: Struck
    block: AbstractContextManager[Struck]
    from_ns: int
    until: float


class Nemesis:
    """Runs in the main thread, because servers it starts are tied to it."""

    def __init__(self, field: Field, liveness_s: float, kinds: Sequence[Kind] = faults.KINDS) -> None:
        self._field = field
        self._kinds = kinds
        self._liveness_s = liveness_s
        self._rng = random.Random(f"nemesis {field.seed}")
        self._under: list[_Under] = []

    def torment(self, until: float) -> None:
        """Cycles of faults and quiet windows until this moment of the monotonic clock; all is healed at the end."""
        began = monotonic()
        while (now := monotonic()) < until:
            self._roll_out((now - began) / (until - began))
            for _ in range(self._rng.randint(*ROUNDS)):
                self._rest(self._rng.uniform(*GAP_S))
                if monotonic() < until:
                    self._round()
            self._heal_all()
            self._quiet()

    def play(self, kinds: Sequence[Kind], seconds: float) -> None:
        """These, one after the other, spread over this time; all is healed at the end."""
        began = monotonic()
        for n, kind in enumerate(kinds):
            self._rest(began + (n + 0.5) * seconds / len(kinds) - monotonic())
            post = faults.free_post(self._field, self._rng, set())
            if post is not None:
                self._begin(kind, post)
        self._rest(began + seconds - monotonic())
        self._heal_all()

    def _roll_out(self, share: float) -> None:
        """Each release comes in its share of the time, whether or not chance strikes the place that gets it."""
        late = self._field.shipped < int(share * len(self._field.releases))
        post = next((post for post in self._field.posts if post.leads), None)
        if late and post is not None and post.worker is not None and post.worker.alive:
            self._begin(faults.DEPLOY, post)

    def _rest(self, seconds: float) -> None:
        """Time passes; what is due heals."""
        ends = monotonic() + seconds
        while (now := monotonic()) < ends:
            for under in [one for one in self._under if one.until <= now]:
                self._heal(under)
            time.sleep(min(0.05, max(0.0, ends - monotonic())))

    def _round(self) -> None:
        for kind in faults.choose(self._rng, self._kinds, self._rng.choice((0, 1, 1, 2, 2, 3))):
            if any(one.kind.name == kind.name for one in self._under):
                continue
            post = faults.free_post(self._field, self._rng, {one.struck.target for one in self._under})
            if post is not None:
                self._begin(kind, post)
            self._rest(self._rng.uniform(0, 1))

    def _begin(self, kind: Kind, post: Post) -> None:
        from_ns, until = monotonic_ns(), monotonic() + self._rng.uniform(*kind.seconds)
        block = kind.strike(self._field, post, self._rng)
        struck = block.__enter__()
        self._under.append(_Under(kind, struck, block, from_ns, until))

    def _heal(self, under: _Under) -> None:
        self._under.remove(under)
        under.block.__exit__(None, None, None)
        struck = under.struck
        self._field.faults.append(
            Fault(under.kind.name, struck.target, under.from_ns, monotonic_ns(), struck.pids, struck.detail)
        )

    def _heal_all(self) -> None:
        self._rest(max((one.until - monotonic() for one in self._under), default=0.0) + 0.01)
        for under in list(self._under):
            self._heal(under)
        self._field.keep_up()

    def _quiet(self) -> None:
        """Until what was waiting when the last fault was healed has moved; as long as the limit if it does not."""
        begun, since, ends = monotonic_ns(), time.time(), monotonic() + self._liveness_s + 2.0
        strangers = list(self._field.strangers)
        with psycopg.connect(self._field.url, autocommit=True) as connection:
            while monotonic() < ends:
                row = connection.execute(_TROUBLE, {"since": since, "strangers": strangers}).fetchone()
                if row == (0,):
                    break
                time.sleep(0.1)
        self._field.quiet.append((begun, monotonic_ns()))
