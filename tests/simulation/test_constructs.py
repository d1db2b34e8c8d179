"""Worlds with more than steps and edges, in seeded histories: sleeps, polls, people who are waited for; with crashes,
cancels, retries, reruns, late starts and clocks that jump."""

from collections.abc import Callable, Iterator

import pytest

from orchestrator.core.plan import Node
from orchestrator.ledger import statements
from tests.simulation import judge, worlds
from tests.simulation.arena import Arena, arena
from tests.simulation.play import Played, play
from tests.simulation.world import NARROW, World
from tests.support import factories
from tests.support.servers import Server

CONSTRUCTS = worlds.KINDS[1:]
DAILY = (("naps", 0), ("waits", 1), ("polls", 0), ("calls", 0), ("items", 0))
FOUND = (("waits", 1041), ("waits", 1042), ("waits", 1046), ("waits", 1200))
"""A late start that was opened twice (1041); the others were faults of the checker."""


@pytest.fixture(scope="module")
def made(pg_server: Server, template_db: str) -> Iterator[Arena]:
    with arena(pg_server, template_db) as found:
        yield found


def played(made: Arena, kind: str, seed: int, steps: int) -> Played:
    return play(made, seed, steps, worlds.flows_of(kind, seed))


@pytest.mark.parametrize(("kind", "seed"), DAILY)
def test_a_seed_finds_nothing(made: Arena, kind: str, seed: int) -> None:
    found = played(made, kind, seed, 100)
    assert not found.wrong, str(found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONSTRUCTS)
def test_ten_seeds_find_nothing(made: Arena, kind: str) -> None:
    for seed in range(2, 12):
        found = played(made, kind, seed, 150)
        assert not found.wrong, str(found)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), FOUND)
def test_what_was_found_once(made: Arena, kind: str, seed: int) -> None:
    found = played(made, kind, seed, 300)
    assert not found.wrong, str(found)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", CONSTRUCTS)
def test_three_hundred_seeds_find_nothing(made: Arena, kind: str) -> None:
    """Longer than those of the default run, and others."""
    for seed in range(1000, 1300):
        found = played(made, kind, seed, 300)
        assert not found.wrong, str(found)


@pytest.mark.slow
def test_of_many_polls_the_last_ones_are_kept(made: Arena) -> None:
    """Their clock goes on through a crash."""
    asked = {"type": "work", "inputs": {"fate": "@triggerBody().fates.a"}, "retry": {"max_attempts": 1}}
    poll = {"every": "PT1S", "timeout": "PT1H"}
    world = World(made, 0, 2, [{"name": "flow0", "steps": {"a": {**asked, "poll": poll}}}])
    try:
        world.people.start(0, None, {"fates": {"a": {"says": "not yet", "asks": 30}}, "lists": {}})
        world.finish(world.people.actors[0])
        world.deliver(0, world.processes[0])
        while world.processes[0].children[0].at != "handler":
            world.go(world.processes[0].children[0])
        world.crash(world.processes[0])
        world.drain()
        assert judge.wrong(world) == []
        (row,) = world.lab.rows("SELECT polls, status FROM flow_steps WHERE polls > 0")
        kept = world.lab.rows("SELECT FROM flow_step_attempts WHERE status = 'polled'")
    finally:
        world.close()
    assert (row["status"], row["polls"], len(kept)) == ("succeeded", 29, 20)


def test_a_loop_stops_while_items_of_it_wait(made: Arena) -> None:
    """Nobody comes, no time passes: the run ends with the failure."""
    do = {"type": "work", "inputs": {"fate": "@item().do"}, "retry": {"max_attempts": 1}}
    nap = {"sleep": "P1D", "run_after": {"do": ["succeeded"]}}
    asked = {"signal": {"name": "go", "key": "@index()"}, "run_after": {"do": ["succeeded"]}}
    each = {"for_each": "@triggerBody().lists.each", "steps": {"do": do, "nap": nap, "asked": asked}}
    world = World(
        made, 0, 2, [{"name": "flow0", "steps": {"each": {**each, "stop_on_failure": True, "concurrency": 3}}}]
    )
    try:
        world.people.start(0, None, {"fates": {}, "lists": {"each": [{"do": {}}, {"do": {}}, {"do": {"x": True}}]}})
        world.drain()
        assert judge.wrong(world) == []
        found = {row["step_key"]: row for row in world.lab.rows("SELECT step_key, status, reason FROM flow_steps")}
    finally:
        world.close()
    assert found["each"]["status"] == found["each.2"]["status"] == "failed"
    for n in (0, 1):
        for key in (f"each.{n}", f"each.{n}.nap", f"each.{n}.asked"):
            assert (found[key]["status"], found[key]["reason"]) == ("skipped", "the loop stopped: each.2 failed")


# ---- that it can fail ----


@pytest.mark.slow
def test_polls_whose_time_begins_with_each_of_them_are_caught(made: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    text = statements.sql("poll_again").replace("s.started_at +", "now +")
    factories.mutate(monkeypatch, poll_again=text)
    wrong = [one for seed in range(4) for one in played(made, "polls", seed, 100).wrong]
    assert any("after its time is over" in one for one in wrong), wrong


def _one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop lets in one item more than it says."""
    monkeypatch.setattr(Node, "window", property(lambda loop: (loop.definition.concurrency or NARROW) + 1))


def _counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """An item is over before its last step."""
    text = statements.sql("count_item").replace("children_open - %(sinks)s", "children_open - 2 * %(sinks)s")
    factories.mutate(monkeypatch, count_item=text)


@pytest.mark.slow
@pytest.mark.parametrize(("breaks", "said"), [(_one_more, "and its window has"), (_counts_twice, "s9.")])
def test_what_goes_wrong_around_items_is_caught(
    made: Arena, monkeypatch: pytest.MonkeyPatch, breaks: Callable[[pytest.MonkeyPatch], None], said: str
) -> None:
    breaks(monkeypatch)
    for seed in range(8):
        wrong = played(made, "items", seed, 100).wrong
        if any(said in one for one in wrong):
            return
    pytest.fail(f"nobody says {said!r}: {wrong}")
