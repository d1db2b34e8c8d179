"""Random graphs are run again, skipped and marked: with the same ends of handlers, what comes of them is the same."""

import contextlib
import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.manifest import Manifest
from orchestrator.core.settling import Settle
from orchestrator.core.states import FINAL_RUN
from orchestrator.engine.runs import cancel_run, rerun
from orchestrator.engine.runs.rerun import Again
from orchestrator.engine.steps import settle_step
from orchestrator.errors import Conflict, ManifestInvalid
from tests.support.factories import Lab, call, loop

ACCEPTED = (["succeeded"], ["succeeded"], ["succeeded"], ["failed"], ["succeeded", "failed"], ["succeeded", "skipped"])
JOINS = ("all", "all", "all", "some", "none_failed", "all_done")
RACES = (*JOINS, "any", "any")
"""Which one is first is chance: a rerun may end otherwise than its source."""


def graph(rng: random.Random, joins: tuple[str, ...]) -> dict[str, Any]:
    """A few steps, each after some of those before it, joined and asked in every way."""
    steps: dict[str, Any] = {}
    for n in range(rng.randint(2, 7)):
        before = rng.sample(list(steps), k=min(len(steps), rng.choice((0, 1, 1, 2, 3))))
        if before and rng.random() < 0.2:
            steps[f"s{n}"] = {"value": " ?? ".join(f"@steps('{key}').output" for key in before), "join": "none_failed"}
            continue
        fields: dict[str, Any] = {"run_after": {key: rng.choice(ACCEPTED) for key in before}}
        if before:
            fields["join"] = rng.choice(joins)
        if rng.random() < 0.2:
            fields["when"] = f"@triggerBody().x {rng.choice('<>')} {rng.randint(0, 4)}"
        if rng.random() < 0.2:
            fields["may_fail"] = True
        steps[f"s{n}"] = loop([1, 2][: rng.randint(0, 2)], **fields) if rng.random() < 0.2 else call(**fields)
    return steps


def valid_graph(rng: random.Random, joins: tuple[str, ...] = JOINS) -> dict[str, Any]:
    """One without a step that could never run."""
    while True:
        steps = graph(rng, joins)
        with contextlib.suppress(ManifestInvalid):
            Manifest(name="demo", steps=steps)
            return steps


class Play:
    """A worker whose steps end as their keys say."""

    def __init__(self, lab: Lab, rng: random.Random) -> None:
        self.lab, self.rng = lab, rng
        self.fails: dict[str, bool] = {}

    def drain(self, run_id: UUID) -> set[str]:
        """Until nothing is ready; what ran."""
        ran = set()
        while ready := self.lab.ready(run_id):
            key = self.rng.choice(ready)
            ran.add(key)
            if self.fails.setdefault(key, self.rng.random() < 0.25):
                self.lab.do_fail(run_id, key)
            else:
                self.lab.do(run_id, key)
            self.lab.audit()
        assert self.lab.status(run_id) in FINAL_RUN
        return ran

    def settle(self, run_id: UUID) -> None:
        """Any step, if it may be."""
        key = self.rng.choice(list(self.lab.statuses(run_id)))
        output = self.rng.choice((None, "[]"))
        with contextlib.suppress(Conflict):
            settle_step.settle(self.lab.ledger, Settle(run_id, key, "op", "chance", output))
        self.lab.audit()


@pytest.mark.parametrize("seed", range(16))
def test_a_rerun_ends_as_its_source(lab: Lab, seed: int) -> None:
    """From every step on: what is kept does not run, what runs is the step and what is after it or was not kept."""
    rng = random.Random(seed)
    play = Play(lab, rng)
    steps = valid_graph(rng)
    run_id = lab.run(steps, body={"x": 2})
    play.drain(run_id)
    before = {key: status for key, status in lab.statuses(run_id).items() if key in steps}
    for step in steps:
        made = rerun.start(lab.ledger, Again(run_id, step), by="op").run_id
        lab.audit()
        kept = {key for key in steps if (lab.step(made, key)["reason"] or "").startswith("kept from run")}
        ran = play.drain(made)
        after = {key: status for key, status in lab.statuses(made).items() if key in steps}
        assert after == before, (seed, step, kept)
        assert lab.status(made) == lab.status(run_id)
        assert step not in kept
        assert not {key.partition(".")[0] for key in ran} & kept
        lab.execute("DELETE FROM flow_runs WHERE id = %s", made)


@pytest.mark.parametrize("seed", range(16))
def test_whatever_is_settled_the_run_ends(lab: Lab, seed: int) -> None:
    """Counters and states hold after each, and nothing is left open."""
    rng = random.Random(1000 + seed)
    play = Play(lab, rng)
    run_id = lab.run(valid_graph(rng, RACES), body={"x": 2})
    for _ in range(6):
        play.settle(run_id)
        if ready := lab.ready(run_id):
            lab.do(run_id, rng.choice(ready))
            lab.audit()
    if rng.random() < 0.5:
        with contextlib.suppress(Conflict):
            cancel_run.cancel(lab.ledger, run_id, by="op", reason="enough", grace=timedelta(seconds=10))
    play.drain(run_id)
    for _ in range(3):
        play.settle(run_id)
        play.drain(run_id)
