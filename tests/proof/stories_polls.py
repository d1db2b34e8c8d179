"""Histories of steps that are asked until they are ready."""

from tests.proof.history import SECOND, History
from tests.proof.polls import KEPT
from tests.proof.stories import right, wrong
from tests.proof.story import OTHER, RUN, Story, call


def asked(times: int = 0, timeout: str = "PT60S") -> Story:
    """Begun, and not ready so often."""
    story = Story({"a": call(poll={"every": "PT1S", "timeout": timeout})}).start()
    for _ in range(times):
        again(story)
    return story


def again(story: Story, seconds: float = 1.0) -> None:
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.poll("a", seconds)
    story.tick(seconds)
    story.ready("a")


def given_up(story: Story) -> Story:
    """Not ready, and no more."""
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.commit()
    story.over("a", "failed")
    story.set_step("a", status="failed", polls=story.step("a").get("polls", 0) + 1)
    return story.end_run("failed")


@right
def a_step_is_asked_until_its_time_is_over() -> History:
    story = asked(2, "PT3S")
    story.tick(1)
    return given_up(story).history()


@right
def the_clock_is_slewed_while_it_is_asked() -> History:
    """On the clock of the history, what was to be three seconds is a little more."""
    story = asked(2, "PT3S")
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.poll("a", due_at=story.step("a")["started_at"] + 3 * SECOND + 900_000)
    story.tick(1)
    story.ready("a")
    story.do("a")
    return story.end_run().history()


@right
def a_crash_does_not_move_the_clock() -> History:
    story = asked(1)
    story.claim("a")
    story.begin("a")
    story.fault("kill", 6)
    story.tick(5)
    story.lose("a")
    story.do("a", OTHER)
    return story.end_run().history()


@right
def old_polls_are_forgotten() -> History:
    story = asked(KEPT + 1)
    story.commit()
    story.drop("flow_step_attempts", (RUN, "a", 1))
    story.do("a")
    return story.end_run().history()


@right
def an_operator_starts_the_clock_anew() -> History:
    story = asked(1, "PT2S")
    story.tick(1)
    given_up(story)
    story.asked("retry")
    story.commit()
    story.set_run(status="running", epoch=2)
    story.set_step("a", status="blocked", polls=None, failures=0, started_at=None)
    story._dispatch("a")
    again(story)
    story.do("a")
    return story.end_run().history()


@wrong("I11")
def a_crash_moves_the_clock() -> History:
    story = asked(1)
    story.commit()
    story.set_step("a", started_at=None)
    story.do("a")
    return story.end_run().history()


@wrong("I11")
def it_is_given_up_too_early() -> History:
    return given_up(asked(2)).history()


@wrong("I11")
def it_is_asked_after_its_time() -> History:
    story = asked(1, "PT2S")
    story.tick(3)
    again(story)
    story.do("a")
    return story.end_run().history()


@wrong("I11")
def it_is_asked_too_soon() -> History:
    story = Story({"a": call(poll={"every": "PT5S", "timeout": "PT60S"})}).start()
    again(story, 2)
    story.do("a")
    return story.end_run().history()


@wrong("I11")
def its_polls_are_counted_anew() -> History:
    story = asked(2)
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.poll("a", polls=1)
    return story.history()


@wrong("I11")
def all_of_its_polls_are_kept() -> History:
    story = asked(KEPT + 1)
    story.do("a")
    return story.end_run().history()


@wrong("I11")
def each_poll_is_told() -> History:
    story = asked(5)
    for n in range(5):
        story.rows["flow_events", str(n)] = {"run_id": RUN, "step_key": "a", "type": "step.polled"}
    story.do("a")
    return story.end_run().history()


@wrong("I11")
def an_attempt_is_forgotten_that_is_not_old() -> History:
    story = asked(2)
    story.commit()
    story.drop("flow_step_attempts", (RUN, "a", 1))
    story.do("a")
    return story.end_run().history()


@wrong("I11")
def its_last_poll_is_after_its_time() -> History:
    story = asked(0, "PT3S")
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.poll("a", 5, due_at=story.now + 9 * SECOND)
    return story.history()
