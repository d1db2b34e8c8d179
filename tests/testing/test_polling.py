"""Steps that poll, with the worker around them."""

import pickle
from datetime import datetime, timedelta

import pytest

from orchestrator import NotYet, RunFailed
from orchestrator.testing import World
from tests.testing import polling_flows as flows
from tests.testing.polling_flows import Delivery, carelessly, counted, delivery, many, parcel, watched, watching

BEGIN = datetime.fromisoformat("2026-01-01T00:00:00+00:00")


def on_the_way(monkeypatch: pytest.MonkeyPatch, *seen: Delivery | Exception) -> list[str]:
    """The carrier says these, one after the other, and the last for ever."""
    asked: list[str] = []

    def track(number: str) -> Delivery:
        asked.append(number)
        said = seen[min(len(asked), len(seen)) - 1]
        if isinstance(said, Exception):
            raise said
        return said

    monkeypatch.setattr(flows, "track", track)
    return asked


SEA, HOME = Delivery(place="Le Havre"), Delivery(place="home", done=True)


def test_a_step_that_is_not_ready_is_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = on_the_way(monkeypatch, SEA, SEA, HOME)
    run = world.start(delivery, number="n1")
    assert run.status == "waiting"
    said = "Step parcel was asked once and is not ready (is in Le Havre); it is asked again in 10 s"
    assert run.waiting["parcel"] == f"{said}, and for the last time in 2 min."
    world.advance("15s")
    assert len(asked) == 2
    world.finish(run)
    assert run.result() == "home"
    assert [one.status for one in run.attempts(parcel)] == ["polled", "polled", "succeeded"]
    assert timedelta(seconds=20) <= world.now - BEGIN < timedelta(seconds=21)


def test_until_looks_at_what_was_returned(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_way(monkeypatch, SEA, HOME)
    run = world.finish(world.start(watching, number="n1"))
    assert run.result() == "home"
    first, last = run.attempts("watched")
    assert (first.status, first.error_message, last.status) == ("polled", "`@output().done` is false", "succeeded")


def test_it_ends_when_the_time_is_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = on_the_way(monkeypatch, SEA)
    run = world.finish(world.start(delivery, number="n1"))
    with pytest.raises(RunFailed, match="not ready after 2m, 13 polls; last: is in Le Havre"):
        run.result()
    assert len(asked) == 13
    assert run.steps == {"parcel": "failed", "note": "skipped"}


def test_a_step_is_asked_as_often_as_it_wants_to_be(world: World) -> None:
    run = world.finish(world.start(counted))
    number, started, deadline = run.result()
    assert number == 3
    assert started == BEGIN
    assert deadline == BEGIN + timedelta(minutes=2)
    assert [one.error_message for one in run.attempts("thrice")] == [
        "ready at poll 1 of 3 at least",
        "ready at poll 2 of 3 at least",
        None,
    ]


def test_errors_are_retried_and_a_poll_forgives_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_way(monkeypatch, OSError("away"), SEA, OSError("away"), HOME)
    run = world.finish(world.start(delivery, number="n1"))
    assert [one.status for one in run.attempts(parcel)] == ["failed", "polled", "failed", "succeeded"]


@pytest.mark.parametrize("after", [False, True])
def test_a_lost_worker_moves_neither_clock_nor_count(
    world: World, monkeypatch: pytest.MonkeyPatch, *, after: bool
) -> None:
    """Before it called the handler, and after that, before it could record the poll."""
    on_the_way(monkeypatch, SEA)
    run = world.start(watching, number="n1")
    world.kill(watched, after=after)
    world.finish(run)
    assert run.status == "failed"
    *polls, last = run.attempts(watched)
    assert [one.status for one in polls].count("crashed") == 1
    assert world.now - BEGIN < timedelta(minutes=2, seconds=1)
    assert last.error_message is not None
    assert f"not ready after 2m, {len(polls)} polls" in last.error_message


def test_a_step_without_poll_cannot_be_asked_again(world: World) -> None:
    run = world.start(carelessly, number="n1")
    with pytest.raises(RunFailed, match=r"does not poll\. Fix: declare it with `@step\(poll=Poll\("):
        run.result()


def test_items_of_a_loop_poll(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_way(monkeypatch, SEA, SEA, SEA, HOME)
    run = world.finish(world.start(many, numbers=["a", "b", "c"]))
    assert [one.place for one in run.result()] == ["home"] * 3


def test_what_a_step_says_can_be_pickled() -> None:
    """A prefork pool's child sends exceptions to its parent."""
    copy = pickle.loads(pickle.dumps(NotYet("is at sea", after="1m")))
    assert (copy.why, copy.after, str(copy)) == ("is at sea", timedelta(minutes=1), "is at sea")
