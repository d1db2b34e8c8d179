"""The pure rules of the engine against the tests' interpreter, over all small graphs: joins, skips, how a run ends."""

from collections.abc import Iterator
from itertools import combinations, product
from typing import Any

import pytest

from orchestrator.core import checks_joins
from orchestrator.core.gates import Decision, Edges, Join, decide
from orchestrator.core.manifest import Manifest, StepDef, with_predecessors
from orchestrator.core.plan import Plan
from orchestrator.core.states import StepStatus
from tests.proof import joins
from tests.proof.interpreter import FAILED, SUCCEEDED, interpret

Steps = dict[str, dict[str, Any]]
OK = ("succeeded",)
ANY_END = ("cancelled", "failed", "skipped", "succeeded")
EDGES = (OK, ("failed",), ("skipped",), ("failed", "succeeded"), ("failed", "skipped"))


def decision(step: dict[str, Any], statuses: dict[str, str]) -> Decision:
    """What the engine decides of a step, given how those before it stand; who is not there is open."""
    before = step["run_after"]
    ended = {key: statuses[key] for key in before if key in statuses}
    unmet = {key: status for key, status in ended.items() if status not in before[key]}
    skipped = sum(status == "skipped" for status in unmet.values())
    return decide(Join(step["join"]), Edges(len(before) - len(ended), len(ended) - len(unmet), len(unmet), skipped))


def played(steps: Steps, keys: list[str], statuses: dict[str, str]) -> Iterator[dict[str, str]]:
    """Every way in which the engine's rules can play a graph whose steps succeed or fail."""
    if not keys:
        yield dict(statuses)
        return
    key, *rest = keys
    goes = decision(steps[key], statuses) is Decision.GO
    for status in ("succeeded", "failed") if goes else ("skipped",):
        yield from played(steps, rest, {**statuses, key: status})


def graphs(size: int, edges: tuple[tuple[str, ...], ...] = (OK,), *, every_join: bool = False) -> Iterator[Steps]:
    """Every graph of so many steps. With one predecessor, the joins but `all_done` say the same, and are left out."""

    def choices(place: int) -> Iterator[dict[str, Any]]:
        yield {"type": "t", "run_after": {}, "join": "all"}
        for count in range(1, place + 1):
            known = list(Join) if every_join or count > 1 else [Join.ALL, Join.ALL_DONE]
            for before, join in product(combinations(range(place), count), known):
                for asked in [(ANY_END,) * count] if join is Join.ALL_DONE else product(edges, repeat=count):
                    after = {f"s{one}": list(accepted) for one, accepted in zip(before, asked, strict=True)}
                    yield {"type": "t", "run_after": after, "join": join.value}

    for steps in product(*(list(choices(place)) for place in range(size))):
        yield {f"s{place}": step for place, step in enumerate(steps)}


def agree(steps: Steps) -> None:
    """The interpreter says of every way of the engine's that it is the only one, given how the handlers end."""
    left_alone = {key: {**step, "rest": "leave"} for key, step in steps.items()}
    for statuses in played(steps, list(steps), {}):
        ends = {key: FAILED if status == "failed" else SUCCEEDED for key, status in statuses.items()}
        found = interpret(left_alone, ends, {}, format=2)
        assert {key: set(one) for key, one in found.legal.items()} == {k: {s} for k, s in statuses.items()}, steps
        assert found.must == {key for key, status in statuses.items() if status != "skipped"}


@pytest.mark.parametrize("join", list(Join))
def test_a_decision_is_that_of_the_table(join: Join) -> None:
    """For all that up to four predecessors may do."""
    for count in range(1, 5):
        for ended in product(product((None, *ANY_END), (OK, ("failed",), ("skipped", "succeeded"))), repeat=count):
            step = {"join": join, "run_after": {f"p{n}": accepted for n, (_, accepted) in enumerate(ended)}}
            statuses = {f"p{n}": status for n, (status, _) in enumerate(ended) if status is not None}
            asked = [(status, status in accepted) for status, accepted in ended if status is not None]
            if join is Join.ANY and any(met for _, met in asked):
                expected = Decision.GO
            elif len(statuses) < count:
                expected = Decision.WAIT
            else:
                expected = Decision.GO if joins.goes(join.value, asked) else Decision.SKIP
            assert decision(step, statuses) is expected, (step, statuses)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_engine_and_the_interpreter_play_every_small_graph_alike(size: int) -> None:
    for steps in graphs(size):
        agree(steps)


def test_they_agree_whatever_the_edges_ask_for() -> None:
    for steps in graphs(3, EDGES, every_join=True):
        agree(steps)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_engine_and_the_interpreter_play_every_graph_of_five_steps_alike() -> None:
    for steps in graphs(5):
        agree(steps)


def manifest(steps: Steps) -> Manifest:
    """Unchecked, because a check is what is tested."""
    made = {key: StepDef.model_construct(**{**step, "join": Join(step["join"])}) for key, step in steps.items()}
    return Manifest.model_construct(name="f", steps=made)


def test_a_run_ends_as_the_interpreter_says() -> None:
    """Whatever failed, is handled or not, and may fail."""
    for steps in graphs(3, EDGES):
        for may_fail in (False, True):
            one = {**steps, "s0": {**steps["s0"], "may_fail": may_fail}}
            plan = Plan.of(manifest(one))
            assert plan.nodes["s0"].format == plan.manifest.format
            for statuses in played(one, list(one), {}):
                ends = {key: FAILED if status == "failed" else SUCCEEDED for key, status in statuses.items()}
                found = interpret(one, ends, {}, known=statuses, format=plan.manifest.format)
                states = {key: StepStatus(status) for key, status in statuses.items()}
                failed = any(plan.unhandled(key, states) for key in plan.nodes)
                assert found.run == (FAILED if failed else SUCCEEDED), (one, statuses)


def test_a_step_is_called_unreachable_only_when_it_never_runs() -> None:
    """And every step that never runs is called so, or comes after one that is."""
    for steps in graphs(3, EDGES):
        named = {problem.place.split(".")[1] for problem in checks_joins.unreachable("steps", manifest(steps).steps)}
        ran = {key for way in played(steps, list(steps), {}) for key, status in way.items() if status != "skipped"}
        assert not named & ran, steps
        if not named:
            assert ran == steps.keys() or _only_together(steps, ran), steps


def _only_together(steps: Steps, ran: set[str]) -> bool:
    """Whether what never runs waits for several steps that can each end as asked, but never together."""
    return all(len(steps[key]["run_after"]) > 1 for key in steps.keys() - ran)


def test_all_done_takes_any_end() -> None:
    step = with_predecessors(StepDef(type="t", join=Join.ALL_DONE, run_after={"a": []}))
    assert step.run_after == {"a": tuple(StepStatus(one) for one in ANY_END)}
