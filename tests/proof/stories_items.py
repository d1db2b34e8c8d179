"""Histories of loops whose items are small graphs."""

from typing import Any

from tests.proof.history import History
from tests.proof.stories import right, wrong
from tests.proof.story import CHILD, RUN, Story, call

OK = ["succeeded"]


class Packing(Story):
    """A loop with two steps for each of its items."""

    def __init__(self, count: int = 1, **fields: Any) -> None:
        body = {"do": call(), "then": call({"do": OK})}
        steps = {"for_each": "@triggerBody().lists.l", "steps": body, **fields}
        super().__init__({"l": steps})
        self.count = count
        self.start(l=[{"do": {}, "then": {}} for _ in range(count)])
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

    def close(self) -> History:
        self.set_step("l", status="succeeded")
        return self.end_run().history()


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
