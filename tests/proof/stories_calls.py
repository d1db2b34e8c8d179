"""Histories of a step that calls a flow, right and wrong: each wrong sentence is the only one of its story."""

from typing import Any

from tests.proof.history import History
from tests.proof.stories import right, wrong
from tests.proof.story import HASH, RUN, Story

CHILD = "run-2"
BELOW: dict[str, Any] = {"name": "below", "steps": {}}


def _calling(flow: str = "below") -> Story:
    """The run that a step called goes on."""
    story = Story({"c": {"flow": "below"}}).start()
    _call(story, CHILD, flow)
    return story


def _call(story: Story, child: str, flow: str = "below") -> None:
    story.commit()
    facts = {"flow": flow, "manifest_hash": "h2", "status": "running", "epoch": 1, "sinks_open": 0}
    story.put(
        "flow_runs",
        (child,),
        id=child,
        created_at=story.now,
        parent_run_id=RUN,
        parent_step_key="c",
        parent_told=False,
        **facts,
    )
    story.set_step("c", status="running", child_run_id=child)


def _end(story: Story, key: str = CHILD, status: str = "succeeded", **changes: Any) -> None:
    """Of a run."""
    story.commit()
    story.put("flow_runs", (key,), status=status, **changes)


def _tell(story: Story, status: str = "succeeded") -> None:
    story.commit()
    story.put("flow_runs", (CHILD,), parent_told=True)
    story.set_step("c", status=status)


def _history(story: Story) -> History:
    return story.history(manifests={HASH: story.manifest, "h2": BELOW})


@right
def a_step_ends_with_the_run_that_it_called() -> History:
    story = _calling()
    _end(story)
    _tell(story)
    return _history(story.end_run())


@right
def a_run_is_stopped_with_the_one_that_called_it() -> History:
    story = _calling()
    story.asked("cancel")
    _end(story, RUN, "running", halt="cancelled")
    _end(story, status="cancelled", halt="cancelled")
    _tell(story, "cancelled")
    return _history(story.end_run("cancelled"))


@right
def a_step_that_called_a_run_is_kept() -> History:
    story = _calling()
    _end(story)
    _tell(story)
    story.end_run().commit()
    again = {"flow": "demo", "manifest_hash": HASH, "status": "succeeded", "epoch": 1, "sinks_open": 0}
    story.put("flow_runs", ("run-3",), id="run-3", created_at=story.now, source_run_id=RUN, **again)
    story.put(
        "flow_steps", ("run-3", "c"), run_id="run-3", step_key="c", status="succeeded", reason=f"kept from run {RUN}"
    )
    story.asked("start", run_id="run-3")
    return _history(story)


@wrong("I7")
def a_run_that_was_called_is_cancelled_by_nobody() -> History:
    story = _calling()
    _end(story, status="cancelled", halt="cancelled")
    _tell(story, "failed")
    return _history(story.end_run("failed"))


@wrong("I12")
def a_step_ends_before_the_run_that_it_called() -> History:
    story = _calling()
    _tell(story)
    _end(story)
    return _history(story.end_run())


@wrong("I12")
def a_step_has_two_runs() -> History:
    story = _calling()
    _end(story)
    _call(story, "run-3")
    _end(story, "run-3")
    _tell(story)
    return _history(story.end_run())


@wrong("I12")
def a_step_calls_another_flow() -> History:
    story = _calling("other")
    _end(story)
    _tell(story)
    return _history(story.end_run())


@wrong("I5")
def a_step_succeeds_although_its_run_failed() -> History:
    story = _calling()
    _end(story, RUN, "running")
    _end(story, status="cancelled", halt="cancelled")
    story.asked("cancel", run_id=CHILD)
    _tell(story)
    return _history(story.end_run())
