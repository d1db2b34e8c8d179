"""Histories of steps that call flows."""

from typing import Any

from tests.proof.history import SECOND, History
from tests.proof.stories import right, wrong
from tests.proof.story import HASH, RUN, Story, call

CHILD, OTHER = "run-2", "run-3"
_FLOWS = {
    "nap": {"name": "nap", "steps": {"nap": {"sleep": "PT1S"}}, "output": "@steps('nap').output ?? null"},
    "bad": {"name": "bad", "steps": {"bad": {"flow": "gone"}}},
}
"""Flows that are called: one that succeeds, one that fails."""


class Caller(Story):
    """`sub` calls a flow, `b` comes after it."""

    def __init__(self, **fields: Any) -> None:
        super().__init__({"sub": {"flow": "nap", **fields}, "b": call({"sub": ["succeeded"]})})
        self.start()

    def delegate(self, child: str = CHILD, flow: str = "nap", *, told: bool = False) -> None:
        self.commit()
        self.set_step("sub", status="running", wake_at=None)
        about = {"flow": "nap", "manifest_hash": flow, "parent_run_id": RUN, "parent_step_key": "sub", "epoch": 1}
        self.child(child, status="running", parent_told=told, sinks_open=0, created_at=self.now, **about)
        self.child_step(child, flow, "waiting")
        self.set_step("sub", child_run_id=child)

    def child(self, child: str, **new: Any) -> None:
        self.put("flow_runs", (child,), id=child, **new)

    def child_step(self, child: str, flow: str, status: str) -> None:
        self.put("flow_steps", (child, flow), run_id=child, step_key=flow, status=status, attempts=0)

    def ends(self, status: str = "succeeded", child: str = CHILD) -> None:
        self.commit()
        flow = self.rows["flow_runs", child]["manifest_hash"]
        if status == "succeeded":
            self.put("flow_outputs", (child, flow), run_id=child, step_key=flow, output=7)
        elif flow == "bad":
            self.child_step(child, flow, "running")
        self.child_step(child, flow, status)
        self.child(child, status=status)

    def told(self, status: str = "succeeded", child: str = CHILD, output: Any = 7, **fields: Any) -> None:
        self.commit()
        self.child(child, parent_told=True)
        self.set_step("sub", status=status, **fields)
        if status == "succeeded":
            self.put("flow_outputs", (RUN, "sub"), run_id=RUN, step_key="sub", output=output)

    def goes_on(self) -> History:
        self.ready("b")
        self.do("b")
        return self.closed()

    def closed(self, status: str = "succeeded") -> History:
        return self.end_run(status).history(manifests={HASH: self.manifest, **_FLOWS})

    def fails(self) -> History:
        self.skip("b", "sub failed, `run_after` asks for succeeded")
        return self.closed("failed")


def called(**fields: Any) -> Caller:
    """Begun, and its run is under way."""
    story = Caller(**fields)
    story.delegate()
    return story


@right
def a_called_run_gives_the_step_its_output() -> History:
    story = called()
    story.ends()
    story.told()
    return story.goes_on()


@right
def a_failed_call_is_tried_again_with_a_new_run() -> History:
    story = Caller(retry={"max_attempts": 2})
    story.delegate(CHILD, "bad")
    story.ends("failed")
    story.told("waiting", failures=1, wake_at=story.now + SECOND)
    story.tick(1)
    story.delegate(OTHER)
    story.ends(child=OTHER)
    story.told(child=OTHER)
    return story.goes_on()


@right
def a_detached_run_is_on_its_own() -> History:
    story = Caller(detached=True)
    story.delegate(told=True)
    story.set_step("sub", status="succeeded")
    story.put("flow_outputs", (RUN, "sub"), run_id=RUN, step_key="sub", output=CHILD)
    story.ready("b")
    story.do("b")
    story.end_run()
    story.ends()
    return story.history(manifests={HASH: story.manifest, **_FLOWS})


@right
def a_cancel_reaches_the_run_that_was_called() -> History:
    story = called()
    story.commit()
    story.set_run(halt="cancelled")
    story.set_step("b", status="cancelled")
    story.asked("cancel")
    story.commit()
    story.child(CHILD, halt="cancelled")
    story.ends("cancelled")
    story.told("cancelled")
    return story.closed("cancelled")


@right
def a_retry_goes_on_with_the_run_that_was_called() -> History:
    story = Caller()
    story.delegate(CHILD, "bad")
    story.ends("failed")
    story.told("failed", failures=1)
    story.fails()
    story.asked("retry")
    story.commit()
    story.set_run(status="running", epoch=2)
    story.set_step("b", status="blocked", reason=None)
    story.set_step("sub", status="blocked")
    story.set_step("sub", status="running")
    story.child(CHILD, status="running", epoch=2)
    story.child_step(CHILD, "bad", "blocked")
    story.child(CHILD, parent_told=False)
    story.ends("failed")
    story.told("failed", failures=1)
    return story.fails()


@right
def a_run_that_was_replaced_goes_on_by_itself() -> History:
    """An operator retries it while its caller has called another one."""
    story = Caller(retry={"max_attempts": 2})
    story.delegate(CHILD, "bad")
    story.ends("failed")
    story.told("waiting", failures=1, wake_at=story.now + SECOND)
    story.tick(1)
    story.delegate(OTHER)
    story.asked("retry", run_id=CHILD)
    story.commit()
    story.child(CHILD, status="running", epoch=2, parent_told=False)
    story.child_step(CHILD, "bad", "blocked")
    story.ends(child=OTHER)
    story.told(child=OTHER)
    story.ready("b")
    story.do("b")
    story.end_run()
    story.ends("failed")
    return story.history(manifests={HASH: story.manifest, **_FLOWS})


@right
def a_run_that_was_stopped_is_retried_and_calls_anew() -> History:
    """Both in one transaction."""
    story = called()
    story.asked("cancel")
    story.commit()
    story.set_run(halt="cancelled")
    story.set_step("b", status="cancelled")
    story.commit()
    story.child(CHILD, halt="cancelled")
    story.ends("cancelled")
    story.told("cancelled")
    story.end_run("cancelled")
    story.asked("retry")
    story.delegate(OTHER)
    story.set_run(status="running", halt=None, epoch=2)
    story.set_step("b", status="blocked")
    story.ends(child=OTHER)
    story.told(child=OTHER)
    return story.goes_on()


def _failed_and_goes_on() -> Caller:
    """The call and its run failed with what it called; that is retried by itself."""
    story = Caller()
    story.delegate(CHILD, "bad")
    story.ends("failed")
    story.told("failed", failures=1)
    story.skip("b", "sub failed, `run_after` asks for succeeded")
    story.end_run("failed")
    story.asked("retry", run_id=CHILD)
    story.commit()
    story.child(CHILD, status="running", epoch=2, parent_told=False)
    story.child_step(CHILD, "bad", "blocked")
    return story


def _called_anew(story: Caller) -> History:
    """What it called first ends by itself."""
    story.ends(child=OTHER)
    story.told(child=OTHER)
    story.ready("b")
    story.do("b")
    story.end_run()
    story.ends("failed")
    return story.history(manifests={HASH: story.manifest, **_FLOWS})


@right
def a_fresh_retry_forgets_the_run_that_was_called() -> History:
    """Although that goes on."""
    story = _failed_and_goes_on()
    story.asked("retry")
    story.commit()
    story.set_run(status="running", epoch=2)
    story.set_step("b", status="blocked", reason=None)
    story.set_step("sub", status="blocked", child_run_id=None)
    story.delegate(OTHER)
    return _called_anew(story)


@wrong("I22")
def a_run_that_was_called_is_forgotten_and_nobody_retried() -> History:
    story = Caller(retry={"max_attempts": 2})
    story.delegate(CHILD, "bad")
    story.commit()
    story.set_step("sub", child_run_id=None)
    story.delegate(OTHER)
    return _called_anew(story)


@wrong("I22")
def a_retry_calls_anew_and_does_not_forget_the_run_that_goes_on() -> History:
    story = _failed_and_goes_on()
    story.asked("retry")
    story.delegate(OTHER)
    story.set_run(status="running", epoch=2)
    story.set_step("b", status="blocked", reason=None)
    return _called_anew(story)


@wrong("I22")
def an_end_is_told_twice() -> History:
    story = called()
    story.ends()
    story.told()
    story.commit()
    story.child(CHILD, parent_told=True)
    return story.goes_on()


@wrong("I22")
def a_run_that_goes_on_is_told_to_have_ended() -> History:
    story = called()
    story.told()
    story.ends()
    return story.goes_on()


@wrong("I22")
def a_call_ends_without_its_run() -> History:
    story = called()
    story.commit()
    story.set_step("sub", status="failed")
    story.ends()
    story.commit()
    story.child(CHILD, parent_told=True)
    return story.fails()


@wrong("I22")
def a_call_succeeds_with_a_run_that_failed() -> History:
    story = Caller()
    story.delegate(CHILD, "bad")
    story.ends("failed")
    story.told()
    return story.goes_on()


@wrong("I22")
def a_call_fails_with_a_run_that_succeeded() -> History:
    story = called()
    story.ends()
    story.told("failed", failures=1)
    return story.fails()


@wrong("I22")
def a_call_gives_what_its_run_did_not() -> History:
    story = called()
    story.ends()
    story.told(output=8)
    return story.goes_on()


@wrong("I22")
def an_end_is_told_and_the_call_goes_on() -> History:
    story = called()
    story.ends()
    story.told("running")
    return story.closed()


@wrong("I22")
def two_runs_for_one_call() -> History:
    story = called()
    story.delegate(OTHER)
    for child in (CHILD, OTHER):
        story.ends(child=child)
    story.told(child=OTHER)
    return story.goes_on()


@wrong("I22")
def a_run_ends_before_the_one_that_it_called() -> History:
    story = called()
    story.commit()
    story.set_run(halt="cancelled")
    story.set_step("b", status="cancelled")
    story.asked("cancel")
    story.end_run("cancelled")
    story.ends()
    story.told("cancelled")
    return story.history(manifests={HASH: story.manifest, **_FLOWS})


@wrong("I22")
def a_run_is_called_after_a_cancel() -> History:
    story = Caller()
    story.commit()
    story.set_run(halt="cancelled")
    story.asked("cancel")
    story.delegate()
    story.ends()
    story.told("cancelled")
    return story.closed("cancelled")


@wrong("I22")
def a_failed_call_is_tried_too_early() -> History:
    story = Caller(retry={"max_attempts": 2})
    story.delegate(CHILD, "bad")
    story.ends("failed")
    story.told("waiting", failures=1, wake_at=story.now + 9 * SECOND)
    story.delegate(OTHER)
    story.ends(child=OTHER)
    story.told(child=OTHER)
    return story.goes_on()


@wrong("I22")
def a_detached_run_is_waited_for() -> History:
    story = Caller(detached=True)
    story.delegate()
    story.set_step("sub", status="succeeded")
    story.put("flow_outputs", (RUN, "sub"), run_id=RUN, step_key="sub", output=CHILD)
    story.ends()
    return story.goes_on()


@wrong("I22")
def a_run_says_that_it_was_called() -> History:
    story = called()
    story.commit()
    story.child(OTHER, flow="nap", manifest_hash="nap", parent_run_id=RUN, parent_step_key="sub", epoch=1)
    story.child(OTHER, status="succeeded", sinks_open=0, created_at=story.now, parent_told=True)
    story.child_step(OTHER, "nap", "succeeded")
    story.ends()
    story.told()
    return story.goes_on()


@wrong("I7")
def a_called_run_is_cancelled_and_nobody_asked() -> History:
    story = called()
    story.commit()
    story.child(CHILD, halt="cancelled")
    story.ends("cancelled")
    story.told("failed", failures=1)
    return story.fails()


@wrong("I8")
def a_called_run_is_retried_and_nobody_asked() -> History:
    story = Caller()
    story.delegate(CHILD, "bad")
    story.ends("failed")
    story.told("failed", failures=1)
    story.commit()
    story.child(CHILD, status="running", epoch=2)
    story.child_step(CHILD, "bad", "blocked")
    story.ends("failed")
    return story.fails()
