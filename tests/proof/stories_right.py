"""Histories without a violation."""

from tests.proof.history import SECOND, STALL, History
from tests.proof.stories import cut_short, opened, paying, reopen, right, taken_over, taken_up
from tests.proof.story import OTHER, RUN, Story, call, told


@right
def nothing_happens() -> History:
    return told().history()


@right
def a_killed_worker_is_replaced() -> History:
    story = taken_over()
    story.do("a", OTHER)
    return story.end_run().history()


@right
def a_paused_worker_overlaps_its_successor_and_is_refused() -> History:
    story = Story({"a": call()}).start()
    story.claim("a")
    first = story.begin("a")
    story.fault("pause", 6)
    story.tick(5)
    story.lose("a")
    story.claim("a", OTHER)
    second = story.begin("a", pid=21)
    story.end(first)
    story.end(second)
    story.finish("a", second)
    return story.end_run().history()


@right
def a_step_is_cut_short_before_its_handler() -> History:
    """Its worker never had the answer to its claim, and stood by until the timeout had passed."""
    return cut_short(held_up=True)


@right
def a_failure_is_retried_after_its_pause() -> History:
    policy = {"max_attempts": 2, "backoff": {"delays": ["PT1S"]}}
    story = Story({"a": call(retry=policy)}).start(fates={"a": {"f": 1}})
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.back_off("a")
    story.tick(1)
    story.ready("a")
    story.do("a")
    return story.end_run().history()


@right
def a_failure_skips_what_needs_it() -> History:
    story = Story().start(fates={"a": {"x": True}})
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.fail("a")
    story.skip("b", "a failed, `run_after` asks for succeeded")
    return story.end_run("failed").history()


@right
def a_cancel_stops_what_had_not_begun() -> History:
    story = Story().start()
    story.do("a")
    story.ready("b")
    story.cancel()
    return story.end_run("cancelled").history()


@right
def a_deploy_kills_a_worker_before_its_step_ends() -> History:
    return Story({"a": call()}).start().released("deploy-kill").history()


@right
def an_operator_retries() -> History:
    story = Story({"a": call()}).start(fates={"a": {"f": 2}})
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.fail("a")
    story.end_run("failed")
    story.asked("retry")
    story.commit()
    story.set_run(status="running", epoch=2)
    story.set_step("a", status="blocked", failures=0)
    story._dispatch("a")
    story.do("a")
    return story.end_run().history()


@right
def a_key_is_used_again() -> History:
    story = Story({"a": call()}).start(key="k")
    story.asked("start", key="k")
    story.asked("start", "refused", key="k", body={"other": 1}, run_id=None)
    story.asked("start", "unknown", key="k", run_id=None)
    story.do("a")
    return story.end_run().history()


@right
def a_transactional_step_leaves_its_effect_once() -> History:
    return paying().history()


@right
def a_loop_runs_its_children() -> History:
    return opened().end_run().history()


@right
def what_is_not_urgent_waits() -> History:
    urgent = {f"u{n}": call({f"u{n - 1}": ["succeeded"]} if n else {}) for n in range(6)}
    story = Story({"a": call(), **urgent}).start()
    story.set_step("a", priority=9)
    story.quiet.append((story.now, story.now + 30 * SECOND))
    for n in range(6):
        story.tick(3)
        if n:
            story.ready(f"u{n}")
        story.do(f"u{n}")
    story.do("a")
    return story.end_run().history()


@right
def a_message_waits_for_the_end_of_an_outage() -> History:
    story = Story({"a": call()}).start()
    story.fault("broker-restart", 30, frozenset())
    story.tick(30)
    story.quiet.append((story.now, story.now + 20 * SECOND))
    story.do("a")
    return story.end_run().history()


@right
def a_machine_that_stands_still_holds_up_everybody() -> History:
    """A claim is lost meanwhile, and a message waits."""
    story = Story({"a": call(), "b": call()}).start()
    story.claim("a")
    story.begin("a")
    story.quiet.append((story.now, story.now + 30 * SECOND))
    story.fault(STALL, 8, frozenset())
    story.tick(8)
    story.lose("a")
    story.do("a")
    story.tick(6)
    story.do("b")
    return story.end_run().history()


@right
def a_worker_of_the_release_before_writes_the_attempt_at_its_claim() -> History:
    story = Story({"a": call()}).start()
    story.claim("a")
    story.tried("a", "running")
    token = story.begin("a")
    story.end(token)
    story.finish("a", token)
    return story.end_run().history()


@right
def an_attempt_is_given_back_before_its_handler() -> History:
    story = Story({"a": call()}).start()
    story.claim("a")
    story.commit()
    story.put("flow_step_claims", (RUN, "a"), expires_at=None)
    story.set_step("a", attempts=0)
    story._dispatch("a")
    story.do("a", OTHER)
    return story.end_run().history()


@right
def a_wait_is_over_after_its_time() -> History:
    story = Story({"nap": {"sleep": "PT1S"}, "b": call({"nap": ["succeeded"]})}).start()
    story.park("nap")
    story.tick(1)
    story.wake("nap")
    story.ready("b")
    story.do("b")
    return story.end_run().history()


@right
def a_step_is_asked_until_it_is_ready() -> History:
    story = Story({"a": call(poll={"every": "PT1S", "timeout": "PT9S"})}).start()
    for _ in range(2):
        story.claim("a")
        story.end(story.begin("a"), "error")
        story.poll("a")
        story.tick(1)
        story.ready("a")
    story.do("a")
    return story.end_run().history()


@right
def who_takes_up_a_failure_was_let_go_before_an_operator_retries_that() -> History:
    story = taken_up()
    story.ready("b")
    reopen(story, "a")
    story.do("b")
    story.do("a")
    return story.end_run().history()
