"""Histories of runs that wait for signals, right and wrong: each wrong sentence is the only one of its story."""

from typing import Any

from tests.proof.history import SECOND, History, Sent
from tests.proof.stories import right, wrong
from tests.proof.story import RUN, Story, call

WAIT: dict[str, Any] = {"signal": {"name": "go", "timeout": "PT5S"}}


def _send(story: Story, id: str = "1", reply: Any = "delivered", step: str | None = "w", **changes: Any) -> None:
    story.sent.append(
        Sent(RUN, **{"name": "go", "id": id, "payload": {"n": 1}, "reply": reply, "step": step, **changes})
    )


def _row(story: Story, id: str = "1", **facts: Any) -> None:
    story.put("flow_signals", (RUN, "go", id), **{"run_id": RUN, "name": "go", "id": id, "payload": {"n": 1}, **facts})


def _parked() -> Story:
    story = Story({"w": WAIT}).start()
    story.rows["flow_steps", RUN, "w"].update(status="blocked")
    story.park("w", 5)
    return story


def _take(story: Story, key: str = "w", id: str = "1", output: Any = None, **facts: Any) -> None:
    """In one transaction: the signal is consumed, the step succeeds with it."""
    story.commit()
    _row(story, id, consumed_by=key, consumed_at=story.now, **facts)
    story.set_step(key, status="succeeded", wake_at=None)
    story.put("flow_outputs", (RUN, key), run_id=RUN, step_key=key, output=output or {"n": 1})


@right
def a_signal_is_taken_before_its_time_is_over() -> History:
    story = _parked()
    _take(story)
    _send(story)
    _send(story)
    return story.end_run().history()


@right
def a_wait_fails_when_its_time_is_over() -> History:
    story = _parked()
    _send(story, reply="refused", step=None)
    story.tick(5)
    story.commit()
    story.set_step("w", status="failed", wake_at=None)
    return story.end_run("failed").history()


@right
def an_operator_leaves_a_wait_out() -> History:
    story = _parked()
    story.asked("settle", step_key="w")
    story.skip("w", "skipped by op: by hand")
    return story.end_run().history()


def _accepted(seconds: float) -> History:
    """A run that begins three seconds later, as if that was when it had to."""
    story = Story({"w": WAIT}).start()
    story.commit()
    story.put("flow_run_controls", (RUN,), run_id=RUN, start_at=story.now + int(seconds * SECOND))
    story.tick(3)
    story.park("w", 5)
    _take(story)
    _send(story)
    return story.end_run().history()


@right
def a_run_begins_in_its_time() -> History:
    return _accepted(3)


@wrong("I11")
def a_run_begins_early() -> History:
    return _accepted(4)


@wrong("I8")
def a_step_is_settled_by_nobody() -> History:
    story = _parked()
    story.skip("w", "skipped by op: by hand")
    return story.end_run().history()


@wrong("I11")
def a_wait_fails_before_its_time_is_over() -> History:
    story = _parked()
    story.commit()
    story.set_step("w", status="failed", wake_at=None)
    return story.end_run("failed").history()


@wrong("I14")
def an_acknowledged_signal_is_lost() -> History:
    story = _parked()
    _take(story)
    _send(story)
    _send(story, id="2", reply="kept", step=None)
    return story.end_run().history()


@wrong("I14")
def a_signal_is_taken_twice() -> History:
    story = Story({"w": WAIT, "v": WAIT}).start()
    for key in ("w", "v"):
        story.set_step(key, status="waiting")
    _take(story)
    _take(story, "v")
    _send(story)
    return story.end_run().history()


@wrong("I14")
def a_wait_takes_two_signals() -> History:
    story = _parked()
    _take(story)
    _row(story, "2", consumed_by="w", consumed_at=story.now)
    _send(story)
    _send(story, "2")
    return story.end_run().history()


@wrong("I14")
def a_wait_gives_what_nobody_sent() -> History:
    story = _parked()
    _take(story, output={"n": 2})
    _send(story)
    return story.end_run().history()


@wrong("I14")
def a_wait_takes_a_signal_of_another_key() -> History:
    story = _parked()
    _take(story, key="w")
    story.rows["flow_signals", RUN, "go", "1"].update(key="a")
    story.changes = [
        type(one)(**{**one.__dict__, "new": {**one.new, "key": "a"}}) if one.table == "flow_signals" else one
        for one in story.changes
    ]
    _send(story, key="a")
    return story.end_run().history()


@wrong("I14")
def a_wait_succeeds_without_a_signal() -> History:
    story = _parked()
    story.tick(5)
    story.wake("w")
    return story.end_run().history()


@wrong("I14")
def a_refused_signal_is_stored() -> History:
    story = _parked()
    _take(story)
    _send(story, reply="refused", step=None)
    return story.end_run().history()


@wrong("I14")
def what_nobody_took_is_not_told() -> History:
    story = _parked()
    _take(story)
    _send(story)
    _row(story, "2")
    _send(story, "2", reply="kept", step=None)
    return story.end_run().history()


@wrong("I14")
def a_wait_outlives_its_cancel() -> History:
    story = Story({"w": WAIT, "a": call()}).start()
    story.set_step("w", status="waiting")
    story.commit()
    story.set_run(halt="cancelled")
    story.asked("cancel")
    _take(story)
    _send(story)
    return story.end_run("cancelled").history()
