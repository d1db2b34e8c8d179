"""How many workers a group needs: the formula, and what an end opens."""

from collections import Counter
from datetime import timedelta
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.manifest import Manifest
from orchestrator.core.opened import opened
from orchestrator.core.plan import Plan
from orchestrator.core.scaling import Group, Load, Scaling, needed
from orchestrator.errors import SettingsInvalid
from orchestrator.settings import Settings
from tests.support.factories import after, call, loop

FOUR = Group(queues=("default",), slots=4, max=20)


def of(group: Group = FOUR, **load: Any) -> Scaling:
    return needed("default", group, Load(**{"running": 0, "ready": 0, "due": 0, "mean_s": 6.0, **load}))


@pytest.mark.parametrize(
    ("load", "replicas", "slots_needed"),
    [
        ({}, 0, 0),
        ({"running": 4}, 1, 4),
        ({"running": 5}, 2, 5),
        # Steps of 6 s: each of 100 slots would run one of 100 at once, ten of them do within a minute.
        ({"ready": 100}, 3, 10),
        ({"running": 4, "ready": 100}, 4, 14),
        ({"ready": 100, "mean_s": 0.01}, 1, 100 / 6000),
        ({"ready": 8, "mean_s": 600}, 2, 8),
        ({"ready": 8, "mean_s": None}, 2, 8),
        ({"ready": 1, "mean_s": 0}, 1, 0.001 / 60),
        ({"due": 1, "mean_s": 0.001}, 1, 0.001 / 60),
        ({"ready": 50, "due": 50}, 3, 10),
        ({"ready": 1000, "mean_s": 60}, 20, 1000),
        ({"running": 100, "ready": 1000, "mean_s": 60}, 25, 1100),
    ],
)
def test_the_formula(load: dict[str, Any], replicas: int, slots_needed: float) -> None:
    found = of(**load)
    assert (found.replicas, found.slots_needed) == (replicas, pytest.approx(slots_needed))


def test_what_falls_due_changes_nothing_when_it_does() -> None:
    """A thousand short ticks at midnight do not ask for a thousand slots half a minute before, and for one then."""
    soon, now = of(due=1000, mean_s=0.05), of(ready=1000, mean_s=0.05)
    assert soon.replicas == now.replicas == 1


def test_it_is_said_why() -> None:
    kept = of(Group(queues=("a",), slots=4, min=3, max=5))
    assert kept.reason == (
        "0 running, 0 ready, 0 due within 30s, of 6 s each, to begin within 1m, take 0 slots: 0 workers with 4 slots; "
        "at least 3 are kept"
    )
    assert of(ready=1000, mean_s=60.0).reason.endswith("slots: 250 workers with 4 slots; at most 20 are allowed")
    assert of(running=100).reason.endswith("at most 20 are allowed, but what runs needs 25")
    assert "of unknown length" in of(ready=1, mean_s=None).reason
    assert "more than 9 ready" in of(ready=9, all_counted=False).reason


counts = st.integers(0, 10_000)


@given(counts, counts, counts, st.none() | st.floats(0, 10_000), st.integers(1, 64), st.integers(0, 50), counts)
def test_never_below_what_runs_nor_above_what_is_allowed(
    running: int, ready: int, due: int, mean_s: float | None, slots: int, least: int, more: int
) -> None:
    group = Group(queues=("a",), slots=slots, min=least, max=least + more + 1 if least + more < 10_000 else 10_000)
    found = needed("a", group, Load(running, ready, due, mean_s))
    busy = ceil(running / slots)
    assert max(busy, group.min) <= found.replicas <= max(busy, group.max)
    assert bool(found.replicas) == bool(running or ready or due or least)
    more_ready = needed("a", group, Load(running, ready + 1, due, mean_s))
    assert found.replicas <= more_ready.replicas


SLEEP = {"sleep": "1d"}


def then(*keys: str, **fields: Any) -> dict[str, Any]:
    return {"run_after": {key: ["succeeded"] for key in keys}, **fields}


def plan(steps: dict[str, Any]) -> Plan:
    return Plan.of(Manifest(name="demo", steps=steps))


def test_what_a_run_or_a_wait_opens_is_counted_by_queue() -> None:
    found = plan(
        {
            "a": call(queue="slow"),
            "b": call(),
            "nap": then("a", **SLEEP),
            "c": after("nap", queue="gpu"),
            "d": after("nap"),
            "items": loop("@triggerBody().items", body={"queue": "wide"}, run_after={"nap": ["succeeded"]}),
            "again": then("nap", **SLEEP),
            "e": after("again"),
        }
    )
    assert opened(found, None) == Counter(slow=1, default=1)
    assert opened(found, "nap") == Counter(gpu=1, default=1, wide=1)
    assert opened(found, "again") == Counter(default=1)


def test_a_wait_inside_of_a_loop_opens_what_is_behind_it() -> None:
    body = {"nap": SLEEP, "work": after("nap", queue="gpu")}
    found = plan({"items": {"for_each": "@triggerBody().items", "steps": body, "output": "@steps('work').output"}})
    assert opened(found, "items.0.nap") == Counter(gpu=1)
    assert opened(found, None) == Counter()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('{"a": {"queues": ["a"], "slots": 0}}', r"`a\.slots`: it should be greater than or equal to 1"),
        ('{"a": {"queues": ["a"], "slots": 4, "min": 9, "max": 2}}', r"`a`: min is 9, more than max \(2\)\. Fix"),
        ('{"a": {"queue": ["a"], "slots": 4}}', r"`a\.queues`: it is missing\. Fix"),
        ('{"a": {"queue": ["a"], "slots": 4}}', r"`a\.queue`: it is not known\. Fix"),
        ('{"a": {"queues": ["a"], "slots": 4, "startup": "0s"}}', r"`a\.startup`: it must be more than zero\. Fix"),
        ('{"a": {"queues": [], "slots": 4}}', r"`a\.queues`"),
        ("[]", "ORCHESTRATOR_SCALING_GROUPS"),
    ],
)
def test_groups_that_do_not_read_are_refused_where_they_are_wrong(given: str, said: str) -> None:
    with pytest.raises(SettingsInvalid, match=said):
        Settings.from_env({"ORCHESTRATOR_SCALING_GROUPS": given})


def test_groups_are_read_from_the_environment() -> None:
    given = '{"gpu": {"queues": ["gpu", "big"], "slots": 1, "min": 0, "max": 8, "target_wait": "5m", "startup": "90s"}}'
    (group,) = Settings.from_env({"ORCHESTRATOR_SCALING_GROUPS": given}).scaling_groups.values()
    assert (group.queues, group.target_wait, group.startup) == (
        ("gpu", "big"),
        timedelta(minutes=5),
        timedelta(seconds=90),
    )
