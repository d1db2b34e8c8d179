"""Waits on the clock of a world."""

from datetime import UTC, datetime, timedelta

from orchestrator import after, flow, sleep, step, until, wait_for_signal
from orchestrator.testing import World

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@step
def remind(name: str) -> str:
    return f"remember, {name}"


@flow
def reminders(name: str, at: datetime) -> list[str]:
    first = remind(name)
    with after(sleep("3d", after=[first])):
        second = remind(name)
    with after(until(at)):
        third = remind(name)
    return [first, second, third]


@flow
def confirmed() -> int:
    return wait_for_signal(int, name="go")


def test_days_pass_when_they_are_told_to(world: World) -> None:
    run = world.start(reminders, name="ada", at=BEGIN + timedelta(days=1))
    assert run.status == "waiting"
    assert run.waiting == {
        "sleep": "Step sleep sleeps until 2026-01-04 00:00:00 UTC, for 72 h more.",
        "until": "Step until waits until 2026-01-02 00:00:00 UTC, for 24 h more.",
    }
    world.advance(days=1)
    assert run.steps["remind_3"] == "succeeded"
    assert set(run.waiting) == {"sleep"}
    world.finish(run)
    assert run.result() == ["remember, ada"] * 3
    assert timedelta(days=3) <= world.now - BEGIN < timedelta(days=3, seconds=1)


def test_a_time_that_is_past_is_no_wait(world: World) -> None:
    world.advance(days=2)
    run = world.start(reminders, name="ada", at=BEGIN)
    assert run.steps["remind_3"] == "succeeded"
    assert set(run.waiting) == {"sleep"}


def test_a_run_may_begin_later(world: World) -> None:
    """It is there at once; the clock opens it."""
    run = world.start(reminders, name="ada", at=BEGIN, start_after="2d")
    assert run.status == "pending"
    assert "begins at 2026-01-03 00:00:00 UTC, in 48 h." in run.explain().sentence
    world.advance(days=1)
    assert run.steps["remind"] == "blocked"
    world.advance(days=1, seconds=1)
    assert run.steps["remind"] == "succeeded"
    world.finish(run)
    assert world.now - BEGIN > timedelta(days=5)


def test_a_run_that_never_began_can_be_cancelled(world: World) -> None:
    run = world.start(reminders, name="ada", at=BEGIN, start_after=BEGIN + timedelta(days=9))
    assert run.cancel() == "cancelled"
    assert run.attempts("remind") == []


def test_a_run_that_is_retried_before_it_was_to_begin_begins_once(world: World) -> None:
    """Its time is over with the retry; it was opened again when it came, and steps without a handler ended twice."""
    run = world.start(confirmed, start_after="2d")
    run.cancel()
    run.handle.retry(by="the test")
    world.work()
    assert world.signal(run, "go", 1).delivered
    assert run.result() == 1
    again = world.start(reminders, name="ada", at=BEGIN, start_after="2d")
    again.cancel()
    again.handle.retry(by="the test")
    world.work()
    assert again.handle.row().start_at is None
    world.advance(days=2, seconds=1)
    assert "run.opened" not in {event.type for event in again.events}
    world.finish(again)
    assert [event.step_key for event in again.events if event.type == "step.succeeded"].count("remind") == 1
