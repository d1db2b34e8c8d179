"""Histories of loops whose items are small graphs."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tests.proof.history import History
from tests.proof.stories import right, wrong
from tests.proof.story import CHILD, RUN, Story, call

OK = ["succeeded"]


class Packing(Story):
    """A loop with two steps for each of its items."""

    THEN: Mapping[str, Any] = MappingProxyType({"retry": {"max_attempts": 2}})
    """What the second step has."""

    def __init__(self, count: int = 1, fates: Mapping[int, Any] = MappingProxyType({}), **fields: Any) -> None:
        """`fates`: by item, of its steps."""
        body = {"do": call(), "then": call({"do": OK}, **self.THEN)}
        steps = {"for_each": "@triggerBody().lists.l", "steps": body, **fields}
        super().__init__({"l": steps})
        self.count = count
        self.start(l=[{"do": {}, "then": {}, **fates.get(n, {})} for n in range(count)])
        self.commit()
        self.set_step("l", status="running", children_open=count, children_failed=0)
        for n in range(count):
            self.set_step(f"l.{n}", kind="item", status="blocked", loop_key="l")

    def enter(self, n: int, *keys: str) -> None:
        """The item is let in, with these of its steps."""
        self.commit()
        for key in keys or ("do", "then"):
            self.set_step(f"l.{n}.{key}", type="work", status="blocked", attempts=0, dispatch_no=0, loop_key=f"l.{n}")
        self.set_step(f"l.{n}", status="running", children_open=1)
        self._dispatch(f"l.{n}.do")

    def begin(self, key: str, pid: int = CHILD, **changes: Any) -> str:
        """`then` is given what `do` gave."""
        given = self.rows.get(("flow_outputs", RUN, key.replace(".then", ".do")), {}).get("output")
        return super().begin(key, pid, seen=(given["token"],) if given else (), **changes)

    def go_on(self, n: int) -> None:
        self.do(f"l.{n}.do")
        self.ready(f"l.{n}.then")
        self.do(f"l.{n}.then")

    def leave(self, n: int) -> None:
        """Its last step has ended."""
        self.set_step(f"l.{n}", status="succeeded", children_open=0)
        self.set_step("l", children_open=self.step("l")["children_open"] - 1)

    def leave_failed(self, n: int) -> None:
        """A failure of a step is one of its item, and of the loop."""
        self.set_step(f"l.{n}", status="failed", children_open=0, children_failed=1)
        loop = self.step("l")
        self.set_step("l", children_open=loop["children_open"] - 1, children_failed=loop["children_failed"] + 1)

    def close(self, status: str = "succeeded") -> History:
        self.set_step("l", status=status)
        return self.end_run(status).history()

    def break_off(self, n: int, *given_up: str) -> None:
        """The first step of this item fails, and the loop stops."""
        key = f"l.{n}.do"
        self.claim(key)
        self.end(self.begin(key), "error")
        self.fail(key)
        self.set_step(f"l.{n}.then", status="skipped", reason=f"l.{n}.do failed")
        self.leave_failed(n)
        for each in given_up:
            self.set_step(each, status="skipped", reason=f"the loop stopped: l.{n} failed")
        items = [each for each in given_up if each.count(".") == 1]
        self.set_step("l", children_open=self.step("l")["children_open"] - len(items))
        for each in items:
            self.set_step(each, children_open=0)


@right
def items_run_their_steps_one_after_the_other() -> History:
    story = Packing(2, concurrency=1)
    for n in range(2):
        story.enter(n)
        story.go_on(n)
        story.leave(n)
    return story.close()


@wrong("I6")
def a_window_lets_in_too_many() -> History:
    story = Packing(2, concurrency=1)
    for n in range(2):
        story.enter(n)
    for n in range(2):
        story.go_on(n)
        story.leave(n)
    return story.close()


@wrong("I6")
def a_step_begins_in_an_item_that_is_over() -> History:
    story = Packing()
    story.enter(0)
    story.do("l.0.do")
    story.leave(0)
    story.ready("l.0.then")
    story.do("l.0.then")
    return story.close()


@wrong("I6")
def a_step_of_an_item_begins_before_the_one_that_it_waits_for() -> History:
    story = Packing()
    story.enter(0)
    story.ready("l.0.then")
    story.do("l.0.then")
    story.do("l.0.do")
    story.leave(0)
    return story.close()


@wrong("I19")
def a_step_of_an_item_is_missing() -> History:
    story = Packing()
    story.enter(0, "do")
    story.do("l.0.do")
    story.leave(0)
    return story.close()


@wrong("I19")
def an_item_ends_with_open_steps() -> History:
    story = Packing()
    story.enter(0)
    story.go_on(0)
    story.leave(0)
    story.set_step("l.0", children_open=1)
    return story.close()


class Asking(Packing):
    """Its second step is asked until it is ready."""

    THEN = MappingProxyType({"poll": {"every": "PT1S", "timeout": "PT60S"}})


def _stopping(kind: type[Packing] = Packing, fate: Mapping[str, Any] = MappingProxyType({"f": 1})) -> Packing:
    """A loop of two items: `then` of one is to be tried again, `do` of the other is about to fail for good."""
    story = kind(2, {0: {"then": dict(fate)}, 1: {"do": {"x": True}}}, stop_on_failure=True)
    for n in range(2):
        story.enter(n)
    story.do("l.0.do")
    story.ready("l.0.then")
    story.claim("l.0.then")
    return story


def _waiting(seconds: float) -> Packing:
    story = _stopping()
    story.end(story.begin("l.0.then"), "error")
    story.back_off("l.0.then", seconds)
    return story


@right
def who_waits_is_given_up_with_the_loop() -> History:
    story = _waiting(2)
    story.break_off(1, "l.0.then", "l.0")
    return story.close("failed")


@right
def who_runs_when_the_loop_stops_goes_on() -> History:
    story = _stopping()
    token = story.begin("l.0.then")
    story.break_off(1)
    story.end(token, "error")
    story.fail("l.0.then")
    story.leave_failed(0)
    return story.close("failed")


@right
def who_is_not_ready_when_the_loop_has_stopped_is_given_up() -> History:
    """It would only wait: it does not begin to."""
    story = _stopping(Asking, {})
    token = story.begin("l.0.then")
    story.break_off(1)
    story.end(token, "error")
    story.poll("l.0.then", 1)
    why = "the loop stopped: l.1 failed"
    story.set_step("l.0.then", status="skipped", reason=why, due_at=None)
    story.set_step("l.0", status="skipped", reason=why, children_open=0)
    story.set_step("l", children_open=story.step("l")["children_open"] - 1)
    return story.close("failed")


@wrong("I6")
def who_waits_goes_on_after_the_loop_stopped() -> History:
    story = _waiting(2)
    story.break_off(1)
    story.tick(2)
    story.ready("l.0.then")
    story.do("l.0.then")
    story.leave(0)
    return story.close("failed")


@wrong("I6")
def who_fails_after_the_loop_stopped_waits_for_another_try() -> History:
    story = _stopping()
    token = story.begin("l.0.then")
    story.break_off(1)
    story.end(token, "error")
    story.back_off("l.0.then", 2)
    story.tick(2)
    story.ready("l.0.then")
    story.do("l.0.then")
    story.leave(0)
    return story.close("failed")


@wrong("I6")
def who_runs_is_given_up_with_the_loop() -> History:
    story = _stopping()
    token = story.begin("l.0.then")
    story.break_off(1, "l.0.then", "l.0")
    story.over("l.0.then", "cancelled")
    story.end(token, "error")
    return story.close("failed")
