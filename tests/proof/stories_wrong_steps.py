"""Histories in which a step does what it must not: each wrong sentence is the only one of its story."""

from dataclasses import replace

from tests.proof.history import SECOND, History
from tests.proof.stories import loop, paying, reopen, taken_over, taken_up, wrong
from tests.proof.story import OTHER, RUN, Story, call, told


@wrong("I1")
def a_live_claim_is_taken() -> History:
    story = Story({"a": call()}).start()
    story.claim("a")
    story.claim("a", OTHER)
    return story.history()


@wrong("I1")
def a_version_falls() -> History:
    story = Story({"a": call()}).start()
    story.claim("a")
    story.commit()
    story.put("flow_step_claims", (RUN, "a"), version=0)
    return story.history()


@wrong("I1")
def a_claim_changes_hands() -> History:
    story = Story({"a": call()}).start()
    story.claim("a")
    story.commit()
    story.put("flow_step_claims", (RUN, "a"), owner=OTHER)
    return story.history()


@wrong("I1")
def a_renewal_revives_a_claim() -> History:
    story = told()
    story.commit()
    story.put("flow_step_claims", (RUN, "a"), expires_at=story.now + SECOND)
    return story.history()


@wrong("I2")
def a_step_is_lost_without_a_fault() -> History:
    story = taken_over()
    story.faults.clear()
    story.do("a", OTHER)
    return story.end_run().history()


@wrong("I2")
def a_step_is_released_by_a_deploy_that_never_was() -> History:
    return Story({"a": call()}).start().released("kill").history()


@wrong("I2")
def a_step_is_lost_to_the_fault_of_another_worker() -> History:
    story = taken_over()
    story.faults[0] = replace(story.faults[0], pids=frozenset({20, 21}))
    story.do("a", OTHER)
    return story.end_run().history()


@wrong("I2")
def a_step_is_lost_to_a_lost_message() -> History:
    story = taken_over()
    story.faults[0] = replace(story.faults[0], kind="messages-drop", pids=frozenset())
    story.do("a", OTHER)
    return story.end_run().history()


@wrong("I2")
def a_step_is_lost_long_after_the_fault() -> History:
    story = Story({"a": call()}).start()
    story.fault("kill", 0.0)
    story.tick(1)
    story.claim("a")
    story.begin("a")
    story.tick(5)
    story.lose("a")
    story.do("a", OTHER)
    return story.end_run().history()


@wrong("I2")
def a_claim_is_run_twice() -> History:
    story = told()
    one = story.invocations[0]
    story.invocations.append(replace(one, token="again", started_ns=one.started_ns + 1))
    return story.history()


@wrong("I2")
def a_step_that_succeeded_runs_again() -> History:
    story = told()
    story.claim("a", OTHER)
    story.begin("a", pid=21)
    return story.history()


@wrong("I2")
def an_attempt_is_given_back_under_its_handler() -> History:
    story = Story({"a": call()}).start()
    story.claim("a")
    story.begin("a")
    story.commit()
    story.put("flow_step_claims", (RUN, "a"), expires_at=None)
    story.set_step("a", attempts=0)
    story._dispatch("a")
    story.do("a", OTHER)
    return story.end_run().history()


@wrong("I3")
def an_attempt_is_completed_twice() -> History:
    story = told()
    for status in ("running", "succeeded"):
        story.commit()
        story.put("flow_step_attempts", (RUN, "a", 1), status=status)
    return story.history()


@wrong("I3")
def an_attempt_is_completed_before_its_handler_ended() -> History:
    story = Story({"a": call()}).start()
    story.claim("a")
    token = story.begin("a")
    story.finish("a", token)
    story.tick(1)
    story.end(token)
    return story.end_run().history()


@wrong("I3")
def a_step_succeeds_by_itself() -> History:
    story = Story({"a": call()}).start()
    story.claim("a")
    story.commit()
    story.set_step("a", status="succeeded")
    return story.end_run().history()


@wrong("I3", "I4")
def a_superseded_attempt_is_recorded() -> History:
    story = taken_over()
    story.claim("a", OTHER)
    story.end(story.invocations[0].token)
    story.commit()
    story.put("flow_step_attempts", (RUN, "a", 1), status="succeeded")
    return story.history()


@wrong("I4")
def a_failure_is_recorded_after_the_claim_was_over() -> History:
    story = Story({"a": call()}).start()
    story.claim("a")
    story.commit()
    story.put("flow_step_claims", (RUN, "a"), expires_at=None)
    story.fail("a")
    return story.history()


@wrong("I6")
def a_step_begins_before_its_predecessor_ended() -> History:
    story = Story().start()
    story.claim("a")
    story.ready("b")
    story.claim("b", OTHER)
    return story.history()


@wrong("I6")
def a_child_begins_without_its_loop() -> History:
    story = Story({"l": loop()}).start(l=[{}])
    story.set_step("l.0.do", type="work", status="blocked", attempts=0, dispatch_no=0)
    story.claim("l.0.do")
    return story.history()


@wrong("I6")
def a_handler_begins_without_a_claim() -> History:
    story = told()
    story.invocations.append(replace(story.invocations[0], attempt=7))
    return story.history()


@wrong("I6")
def a_join_opens_twice() -> History:
    story = told()
    story.commit()
    story.set_step("b", status="blocked")
    story.ready("b")
    return story.history()


@wrong("I9")
def the_output_is_of_the_loser() -> History:
    story = taken_over()
    story.end(story.invocations[0].token)
    story.claim("a", OTHER)
    story.end(story.begin("a", pid=21))
    story.finish("a", story.invocations[0].token)
    return story.end_run().history()


@wrong("I9")
def the_output_is_nobodys() -> History:
    story = told()
    story.commit()
    story.put("flow_outputs", (RUN, "a"), output={"token": "?"})
    return story.history()


@wrong("I9")
def the_inputs_are_of_another_output() -> History:
    story = told()
    story.invocations[1] = replace(story.invocations[1], seen=("?",))
    return story.history()


@wrong("I10")
def a_key_holds_the_attempt() -> History:
    story = taken_over()
    story.do("a", OTHER)
    story.invocations[1] = replace(story.invocations[1], key=f"{RUN}:a:2")
    return story.end_run().history()


@wrong("I10")
def two_steps_share_a_key() -> History:
    story = told()
    story.invocations[1] = replace(story.invocations[1], key=story.invocations[0].key)
    return story.history()


@wrong("I10")
def a_transactional_effect_is_lost() -> History:
    story = paying()
    story.effects = {}
    return story.history()


@wrong("I10")
def a_transactional_effect_happens_twice() -> History:
    story = paying()
    story.effects = {f"{RUN}:a": (1, 1)}
    return story.history()


@wrong("I11")
def a_back_off_ends_early() -> History:
    story = Story({"a": call(retry={"max_attempts": 2})}).start(fates={"a": {"f": 1}})
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.back_off("a")
    story.commit()
    story.set_step("a", status="ready", due_at=None)
    return story.history()


@wrong("I11")
def a_back_off_is_shorter_than_the_policy() -> History:
    policy = {"max_attempts": 2, "backoff": {"delays": ["PT5S"]}}
    story = Story({"a": call(retry=policy)}).start(fates={"a": {"f": 1}})
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.back_off("a", 1)
    return story.history()


@wrong("I11")
def a_step_fails_too_often() -> History:
    story = Story({"a": call()}).start()
    for _ in range(2):
        story.claim("a")
        story.end(story.begin("a"), "error")
        story.fail("a")
    return story.history()


@wrong("I11")
def the_attempts_fall() -> History:
    story = told()
    story.commit()
    story.set_step("a", attempts=0)
    return story.history()


@wrong("I11")
def a_poisonous_step_goes_on() -> History:
    story = Story({"a": call()}).start()
    for _ in range(4):
        story.claim("a")
        story.fault("kill", 10)
        story.lose("a")
    return story.history()


@wrong("I11")
def a_lost_attempt_is_forgotten() -> History:
    story = Story({"a": call()}).start()
    story.claim("a")
    story.fault("kill", 10)
    story.commit()
    story.put("flow_step_claims", (RUN, "a"), expires_at=None)
    story._dispatch("a")
    story.do("a", OTHER)
    return story.end_run().history()


@wrong("I11")
def a_wait_is_over_early() -> History:
    story = Story({"nap": {"sleep": "PT5S"}, "b": call({"nap": ["succeeded"]})}).start()
    story.park("nap", 5)
    story.tick(1)
    story.wake("nap")
    return story.history()


@wrong("I11")
def the_clock_of_polls_starts_again() -> History:
    story = Story({"a": call(poll={"every": "PT1S", "timeout": "PT9S"})}).start()
    story.claim("a")
    story.set_step("a", started_at=story.now)
    story.end(story.begin("a"), "error")
    story.poll("a")
    story.tick(1)
    story.ready("a")
    story.claim("a")
    story.set_step("a", started_at=story.now)
    return story.history()


@wrong("I11")
def a_poll_forgives_no_failure() -> History:
    policy = {"max_attempts": 3, "backoff": {"delays": ["PT1S"]}}
    story = Story({"a": call(poll={"every": "PT1S", "timeout": "PT9S"}, retry=policy)}).start(fates={"a": {"f": 1}})
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.back_off("a")
    story.tick(1)
    story.ready("a")
    story.claim("a")
    story.end(story.begin("a"), "error")
    story.poll("a", failures=1)
    return story.history()


@wrong("I6")
def who_takes_up_a_failure_is_let_go_after_an_operator_retries_that() -> History:
    story = taken_up()
    reopen(story, "a")
    story.ready("b")
    story.do("b")
    story.do("a")
    return story.end_run().history()
