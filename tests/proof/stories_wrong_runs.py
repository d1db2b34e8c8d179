"""Histories in which a run, a client or time is wronged: each wrong sentence is the only one of its story."""

from dataclasses import replace

from tests.proof.history import SECOND, STALL, History
from tests.proof.stories import cut_short, opened, wrong
from tests.proof.story import RUN, Story, call, told


@wrong("I5")
def a_step_that_must_run_does_not() -> History:
    story = told()
    del story.invocations[1]
    return story.history()


@wrong("I5")
def a_step_times_out_that_nothing_kept_from_running() -> History:
    return cut_short(held_up=False)


@wrong("I5")
def a_skipped_step_runs() -> History:
    story = Story().start(fates={"a": {"x": True}})
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.fail("a")
    story.begin("b")
    story.skip("b", "a failed")
    return story.end_run("failed").history()


@wrong("I5")
def a_skip_blames_somebody_else() -> History:
    story = Story().start(fates={"a": {"x": True}})
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.fail("a")
    story.skip("b", "c failed")
    return story.end_run("failed").history()


@wrong("I5")
def a_step_fails_that_should_succeed() -> History:
    story = Story({"a": call()}).start()
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.fail("a")
    return story.end_run("failed").history()


@wrong("I7")
def an_accepted_run_is_lost() -> History:
    story = told()
    story.asked("start", run_id="gone")
    return story.history()


@wrong("I7")
def a_run_is_stuck() -> History:
    story = Story().start()
    story.do("a")
    return story.history()


@wrong("I7")
def a_run_ends_with_an_open_step() -> History:
    story = Story().start()
    story.do("a")
    return story.end_run().history()


@wrong("I7")
def a_run_succeeds_that_should_fail() -> History:
    story = Story({"a": call()}).start(fates={"a": {"x": True}})
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.fail("a")
    return story.end_run("succeeded").history()


@wrong("I7")
def nobody_cancelled() -> History:
    story = Story().start()
    story.do("a")
    story.ready("b")
    story.cancel()
    story.calls = [one for one in story.calls if one.kind == "start"]
    return story.end_run("cancelled").history()


@wrong("I7")
def a_deadline_comes_early() -> History:
    story = Story(deadline="PT30S").start()
    story.commit()
    story.set_run(halt="timed_out")
    for key in story.steps:
        story.set_step(key, status="cancelled")
    return story.end_run("timed_out").history()


@wrong("I8")
def an_ended_step_moves() -> History:
    story = told()
    story.commit()
    story.set_step("a", status="failed")
    return story.history()


@wrong("I8")
def an_ended_run_moves() -> History:
    story = told()
    return story.end_run("failed").history()


@wrong("I8")
def an_epoch_opens_by_itself() -> History:
    story = told()
    story.commit()
    story.set_run(epoch=2)
    return story.history()


@wrong("I12")
def a_key_gives_two_runs() -> History:
    story = Story({"a": call()}).start(key="k")
    story.do("a")
    story.end_run()
    story.put("flow_runs", ("run-2",), **{**story.rows["flow_runs", RUN], "id": "run-2"})
    story.asked("start", key="k", run_id="run-2")
    return story.history()


@wrong("I12")
def a_key_takes_another_body() -> History:
    story = Story({"a": call()}).start(key="k")
    story.do("a")
    story.asked("start", key="k", body={"other": 1})
    return story.end_run().history()


@wrong("I12")
def the_same_request_is_refused() -> History:
    story = Story({"a": call()}).start(key="k")
    story.do("a")
    story.asked("start", "refused", key="k", run_id=None)
    return story.end_run().history()


@wrong("I12")
def nobody_started_it() -> History:
    story = told()
    story.calls.clear()
    return story.history()


@wrong("I16")
def a_step_is_claimed_after_the_cancel() -> History:
    story = Story().start()
    story.do("a")
    story.commit()
    story.set_run(halt="cancelled")
    story.asked("cancel")
    story.ready("b")
    story.do("b")
    return story.end_run("cancelled").history()


@wrong("I16")
def a_handler_starts_long_after_the_cancel() -> History:
    story = Story({"a": call()}).start()
    story.claim("a")
    story.commit()
    story.set_run(halt="cancelled")
    story.asked("cancel")
    story.tick(5)
    story.begin("a")
    return story.history()


@wrong("I17")
def a_step_stays_queued() -> History:
    story = Story({"a": call()}).start()
    return story.history()


@wrong("I17")
def a_message_is_lost_for_good_in_a_quiet_window() -> History:
    story = Story({"a": call()}).start()
    story.quiet.append((story.now, story.now + 30 * SECOND))
    story.tick(20)
    story.do("a")
    return story.end_run().history()


@wrong("I17")
def a_message_waits_longer_than_the_machine_stood_still() -> History:
    story = Story({"a": call()}).start()
    story.quiet.append((story.now, story.now + 30 * SECOND))
    story.fault(STALL, 3, frozenset())
    story.tick(20)
    story.do("a")
    return story.end_run().history()


@wrong("I17")
def what_is_not_urgent_is_forgotten() -> History:
    story = Story({"a": call(), "u": call()}).start()
    story.set_step("a", priority=9)
    story.quiet.append((story.now, story.now + 30 * SECOND))
    story.do("u")
    story.tick(20)
    story.do("a")
    return story.end_run().history()


@wrong("I17")
def a_message_comes_before_its_dispatch() -> History:
    story = told()
    story.messages[0] = replace(story.messages[0], at_ns=1)
    return story.history()


@wrong("I17")
def a_message_is_for_nothing() -> History:
    story = told()
    story.messages.append(replace(story.messages[0], number=9))
    return story.history()


@wrong("I19")
def a_step_is_missing() -> History:
    story = told()
    story.drop("flow_steps", (RUN, "a"))
    return story.history()


@wrong("I19")
def an_output_has_no_step() -> History:
    story = told()
    story.put("flow_outputs", (RUN, "z"), run_id=RUN, step_key="z")
    return story.history()


@wrong("I19")
def a_claim_lives_on() -> History:
    story = told()
    story.commit()
    story.put("flow_step_claims", (RUN, "b"), version=2, expires_at=story.now + SECOND)
    return story.history()


@wrong("I19")
def a_sink_is_not_counted() -> History:
    story = told()
    story.commit()
    story.set_run(sinks_open=1)
    return story.history()


@wrong("I19")
def a_child_is_missing() -> History:
    story = opened().end_run()
    story.body["lists"]["l"].append({})
    return story.history()


@wrong("I19")
def a_child_is_not_counted() -> History:
    story = opened()
    story.commit()
    story.set_step("l", children_open=1)
    return story.end_run().history()


@wrong("I19")
def the_record_is_not_what_is_there() -> History:
    story = told()
    story.rows["flow_steps", RUN, "a"]["status"] = "failed"
    story.changes[-1] = story.changes[-1]
    rows = dict(story.history().final)
    return replace(told().history(), final=rows)


@wrong("I20")
def an_expired_lease_is_left() -> History:
    story = Story({"a": call()}).start()
    story.claim("a")
    story.begin("a")
    story.quiet.append((story.now, story.now + 60 * SECOND))
    story.tick(60)
    story.lose("a")
    return story.history()


@wrong("I20")
def a_timer_does_not_go_off() -> History:
    story = Story({"a": call(retry={"max_attempts": 2})}).start(fates={"a": {"f": 1}})
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.back_off("a")
    story.quiet.append((story.now, story.now + 60 * SECOND))
    story.tick(60)
    story.ready("a")
    return story.history()


@wrong("I20")
def nothing_moves_after_an_outage() -> History:
    story = Story({"a": call()}).start()
    story.quiet.append((story.now, story.now + 60 * SECOND))
    story.tick(60)
    story.do("a")
    return story.end_run().history()
