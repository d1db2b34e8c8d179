"""How histories for tests of the checker are noted, and stories that several of them begin with."""

from collections.abc import Callable
from typing import Any

from tests.proof.history import History
from tests.proof.story import RUN, Story, call

AnnouncedResult = Callable[[], History]
WRONG: list[tuple[str, str, AnnouncedResult]] = []
RIGHT: list[tuple[str, AnnouncedResult]] = []


def wrong(*invariants: str) -> Callable[[AnnouncedResult], AnnouncedResult]:
    """A history that breaks these, and others at most as a consequence."""

    def note(tell: AnnouncedResult) -> AnnouncedResult:
        WRONG.extend((invariant, tell.__name__, tell) for invariant in invariants)
        return tell

    return note


def right(tell: AnnouncedResult) -> AnnouncedResult:
    """A history without a violation."""
    RIGHT.append((tell.__name__, tell))
    return tell


def loop(**fields: Any) -> dict[str, Any]:
    """A loop over the input."""
    return {"for_each": "@triggerBody().lists.l", "steps": {"do": {"type": "work", "inputs": {}}}, **fields}


def paying() -> Story:
    """One transactional step that did its work."""
    story = Story({"a": call(transactional=True)}).start()
    story.do("a")
    story.effects = {f"{RUN}:a": (1,)}
    return story.end_run()


def taken_over() -> Story:
    """`a` was lost to a kill, and runs again elsewhere."""
    story = Story({"a": call()}).start()
    story.claim("a")
    story.begin("a")
    story.fault()
    story.tick(5)
    story.lose("a")
    return story


def cut_short(*, held_up: bool) -> History:
    """The timeout of `a` passes, and its handler has not begun; a fault held its worker up, or nothing did."""
    story = Story({"a": call(timeout="PT3S")}).start()
    story.claim("a")
    if held_up:
        story.fault("link-cut", 3)
    story.tick(3)
    story.commit()
    story.over("a", "timed_out")
    story.set_step("a", status="failed", failures=1)
    return story.end_run("failed").history()


def taken_up() -> Story:
    """`a` failed, and `b` is there for that."""
    story = Story({"a": call(), "b": call({"a": ["failed"]})}).start(fates={"a": {"f": 1}})
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.fail("a")
    return story


def reopen(story: Story, key: str) -> None:
    """An operator retries a step of a run that goes on."""
    story.asked("retry")
    story.commit()
    story.set_run(epoch=2)
    story.set_step(key, status="blocked")
    story._dispatch(key)


def opened() -> Story:
    """A loop with two children."""
    story = Story({"l": loop()}).start(l=[{}, {}])
    story.commit()
    story.set_step("l", status="running", children_open=2, children_failed=0)
    for n in range(2):
        story.set_step(f"l.{n}.do", type="work", status="blocked", attempts=0, dispatch_no=0, loop_key="l")
        story._dispatch(f"l.{n}.do")
    for n in range(2):
        story.do(f"l.{n}.do")
    story.commit()
    story.set_step("l", status="succeeded", children_open=0)
    return story
