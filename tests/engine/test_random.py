"""Random graphs under a random scheduler end as a small interpreter of the rules says.

The interpreter knows nothing of counters, claims or SQL: it walks the graph once and asks what becomes of each step.
"""

import contextlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import pytest

from orchestrator.core.facts import Claimant, Finished, Lease
from orchestrator.core.manifest import Manifest
from orchestrator.core.states import FINAL_RUN
from orchestrator.engine.runs import cancel_run
from orchestrator.engine.steps import claim_step, release, retry_step
from orchestrator.engine.sweeps import sweep
from orchestrator.errors import Conflict, LeaseLost, ManifestInvalid
from tests.support.factories import LEASE, Lab, call, loop, retry

CRASH_LIMIT: Final = 2
ACCEPTED: Final = (
    ["succeeded"],
    ["succeeded"],
    ["succeeded"],
    ["failed"],
    ["succeeded", "failed"],
    ["succeeded", "skipped"],
)


@dataclass
class Fate:
    """What the handler does, attempt by attempt; then it succeeds."""

    plan: list[str] = field(default_factory=list)

    @property
    def end(self) -> str:
        """With two attempts, and `CRASH_LIMIT` crashes to spare."""
        failures = crashes = 0
        for what in self.plan:
            failures += what == "fail"
            crashes += what == "crash"
            if what == "fatal" or failures == 2 or crashes > CRASH_LIMIT:
                return "failed"
        return "succeeded"


def graph(rng: random.Random) -> dict[str, Any]:
    """A few steps and loops, each after some of those before it."""
    steps: dict[str, Any] = {}
    for n in range(rng.randint(1, 7)):
        before = rng.sample(list(steps), k=min(len(steps), rng.choice((0, 1, 1, 2, 3))))
        run_after = {key: rng.choice(ACCEPTED) for key in before}
        body = {"retry": retry(2, 1)}
        if rng.random() < 0.3:
            items = list(range(rng.choice((0, 1, 2, 3, 5))))
            steps[f"s{n}"] = loop(items, concurrency=rng.choice((None, 1, 2)), body=body, run_after=run_after)
        else:
            steps[f"s{n}"] = call(run_after=run_after, **body)
    return steps


def valid_graph(rng: random.Random) -> dict[str, Any]:
    """One without a step that could never run."""
    while True:
        steps = graph(rng)
        with contextlib.suppress(ManifestInvalid):
            Manifest(name="demo", steps=steps)
            return steps


def step_keys(steps: Mapping[str, Any]) -> list[str]:
    """Everything a handler runs for."""
    plain = [key for key, step in steps.items() if "for_each" not in step]
    return plain + [f"{key}.{n}.do" for key, step in steps.items() for n in range(len(step.get("for_each", ())))]


def expected(steps: Mapping[str, Any], fates: Mapping[str, Fate]) -> tuple[dict[str, str], str]:
    """Final status of each step, and of the run."""
    found: dict[str, str] = {}
    for key, step in steps.items():
        if any(found[name] not in accepted for name, accepted in step["run_after"].items()):
            found[key] = "skipped"
        elif "for_each" in step:
            children = {f"{key}.{n}.do": fates[f"{key}.{n}.do"].end for n in range(len(step["for_each"]))}
            found |= children
            found[key] = "failed" if "failed" in children.values() else "succeeded"
        else:
            found[key] = fates[key].end
    handled = {
        name
        for key, step in steps.items()
        if found[key] != "skipped"
        for name, accepted in step["run_after"].items()
        if "failed" in accepted
    }
    failed = any(found[key] == "failed" and key not in handled for key in steps)
    return found, "failed" if failed else "succeeded"


@dataclass
class Scheduler:
    """Workers that do one random thing at a time."""

    lab: Lab
    run_id: UUID
    rng: random.Random
    fates: Mapping[str, Fate]
    held: list[Lease] = field(default_factory=list)
    stale: list[Lease] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)
    workers: int = 0

    def play(self) -> None:
        for turn in range(600):
            if self.lab.status(self.run_id) in FINAL_RUN:
                return
            self.rng.choice((self.claim, self.claim, self.work, self.work, self.tick, self.disturb))()
            if turn % 5 == 0:
                self.lab.audit()
        raise AssertionError(f"the run does not end: {self.lab.statuses(self.run_id)}")

    def claim(self) -> None:
        ready = self.lab.ready(self.run_id)
        if ready:
            self.workers += 1
            self.held.append(self.lab.take(self.run_id, self.rng.choice(ready), owner=f"w{self.workers}"))

    def work(self) -> None:
        if not self.held:
            return
        lease = self.held.pop(self.rng.randrange(len(self.held)))
        plan, turn = self.fates[lease.step_key].plan, self.done.get(lease.step_key, 0)
        what = plan[turn] if turn < len(plan) else "succeed"
        self.done[lease.step_key] = turn + 1
        if what == "crash":
            # Only this lease's owner may die: a chained claim has the owner of the claim before it, which is done.
            release.end_owned(self.lab.ledger, lease.owner, crash_limit=CRASH_LIMIT)
            self.stale.append(lease)
        elif what == "succeed":
            finished: Finished = self.lab.done(lease, lease.step_key, chain=self.rng.random() < 0.5)
            self.held += [finished.next] if finished.next else []
        else:
            self.lab.fail(lease, retryable=what == "fail")

    def tick(self) -> None:
        self.lab.forward(2)
        sweep.due(self.lab.ledger)

    def disturb(self) -> None:
        """What must change nothing: late results, duplicate messages, a worker that gives back."""
        if self.stale:
            with pytest.raises(LeaseLost):
                self.lab.done(self.rng.choice(self.stale))
        if self.held:
            lease = self.rng.choice(self.held)
            number = self.lab.number(self.run_id, lease.step_key)
            thief = Claimant("thief", LEASE)
            assert claim_step.claim(self.lab.ledger, self.run_id, lease.step_key, number, thief) is None
            if self.rng.random() < 0.3:
                self.held.remove(lease)
                assert len(release.release(self.lab.ledger, lease)) == 1


@pytest.mark.parametrize("seed", range(40))
def test_random_runs_end_as_the_interpreter_says(lab: Lab, seed: int) -> None:
    """Whatever the order, the crashes, the retries and the duplicates."""
    rng = random.Random(seed)
    steps = valid_graph(rng)
    plans: list[list[str]] = [
        [],
        [],
        [],
        ["fail"],
        ["fail", "fail"],
        ["fatal"],
        ["crash"],
        ["crash", "fail", "crash"],
        ["crash"] * 3,
    ]
    fates = {key: Fate(rng.choice(plans)) for key in step_keys(steps)}
    run_id = lab.run(steps)
    Scheduler(lab, run_id, rng, fates).play()
    statuses, status = expected(steps, fates)
    assert lab.statuses(run_id) == statuses, f"seed {seed}: {steps} {fates}"
    assert lab.status(run_id) == status, f"seed {seed}"


@dataclass
class Operated(Scheduler):
    """The same, with an operator who cancels runs and retries what failed, at any moment."""

    epochs: int = 0

    def play(self) -> None:
        for turn in range(900):
            over = self.lab.status(self.run_id) in FINAL_RUN
            if over and not self.again(None):
                return
            self.rng.choice((self.claim, self.claim, self.work, self.work, self.tick, self.operate))()
            if turn % 3 == 0:
                self.lab.audit()
        raise AssertionError(f"the run does not end: {self.lab.statuses(self.run_id)}")

    def operate(self) -> None:
        if self.rng.random() < 0.3:
            with contextlib.suppress(Conflict):
                cancel_run.cancel(self.lab.ledger, self.run_id, by="op", reason="why not", grace=LEASE)
        else:
            self.again(self.rng.choice(list(self.lab.statuses(self.run_id))))

    def again(self, key: str | None) -> bool:
        if self.epochs >= 6:
            return False
        try:
            retry_step.retry(self.lab.ledger, self.run_id, key, by="op")
        except Conflict:
            return False
        self.epochs += 1
        self.lab.audit()
        return True


@pytest.mark.parametrize("seed", range(40))
def test_operators_never_strand_a_run(lab: Lab, seed: int) -> None:
    """Whatever is cancelled and retried when: the counters stay right, every move is declared, and the run ends."""
    rng = random.Random(1000 + seed)
    steps = valid_graph(rng)
    plans: list[list[str]] = [[], [], ["fatal"], ["fatal", "fatal"], ["fail", "fail"], ["crash"] * 3]
    fates = {key: Fate(rng.choice(plans)) for key in step_keys(steps)}
    Operated(lab, lab.run(steps), rng, fates).play()
