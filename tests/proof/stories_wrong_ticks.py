"""Histories in which a tick is wronged: each wrong sentence is the only one of its story, as far as that can be."""

from tests.proof.history import SECOND, History
from tests.proof.stories import wrong
from tests.proof.stories_ticks import Timed


@wrong("I13")
def a_tick_is_lost() -> History:
    story = Timed()
    story.ticks(101, 103)
    story.ticks(104, 107)
    return story.closed()


@wrong("I13")
def the_last_ones_are_never_decided() -> History:
    story = Timed()
    story.ticks(101, 103)
    story.until(125)
    return story.told()


@wrong("I13")
def a_tick_has_two_runs() -> History:
    story = Timed()
    story.ticks(101, 104)
    story.commit()
    story.over(story.run(102))
    story.ticks(104, 106)
    return story.closed()


@wrong("I13")
def two_ticks_have_one_run() -> History:
    story = Timed()
    run_id = story.start_tick(101)
    story.until(102)
    story.commit()
    story.row(102, outcome="started", run_id=run_id)
    story.count("fired")
    return story.closed()


@wrong("I13")
def a_tick_has_no_run() -> History:
    story = Timed()
    story.start_tick(101)
    story.until(102)
    story.commit()
    story.row(102, outcome="started", run_id="gone")
    story.count("fired")
    return story.closed()


@wrong("I13")
def a_run_comes_in_a_commit_of_its_own() -> History:
    story = Timed()
    story.until(101)
    story.commit()
    story.row(101, outcome="started", run_id="run-of-1")
    story.count("fired")
    story.commit()
    story.over(story.run(101))
    return story.closed()


@wrong("I13")
def a_run_tells_the_time_it_began_instead_of_the_scheduled_one() -> History:
    story = Timed()
    story.until(101.5)
    story.commit()
    run_id = story.run(101.5)
    story.row(101, outcome="started", run_id=run_id)
    story.count("fired")
    story.over(run_id)
    return story.closed()


@wrong("I13")
def a_paused_schedule_fires() -> History:
    story = Timed()
    story.ticks(101, 104)
    story.pause()
    story.start_tick(104)
    return story.told()


@wrong("I13")
def a_schedule_of_a_disabled_flow_fires() -> History:
    story = Timed()
    story.ticks(101, 104)
    story.commit()
    story.flow_row(enabled=False)
    story.start_tick(104)
    return story.told()


@wrong("I13")
def a_deleted_schedule_fires() -> History:
    story = Timed()
    story.ticks(101, 104)
    story.commit()
    story.state(active=False)
    story.start_tick(104)
    return story.told()


@wrong("I13")
def what_was_queued_starts_in_a_pause() -> History:
    story = Timed(overlap="queue")
    first = story.start_tick(101, open=True)
    story.until(102)
    story.commit()
    story.row(102, outcome="queued", waits_for=first)
    story.over(first)
    story.pause()
    story.commit()
    second = story.run(102)
    story.row(102, outcome="started", run_id=second)
    story.count("fired")
    story.over(second)
    return story.told()


@wrong("I13")
def a_pause_is_made_up_for() -> History:
    story = Timed()
    story.ticks(101, 104)
    story.pause()
    story.until(110)
    story.resume()
    story.start_tick(107, late=4)
    story.ticks(111, 114)
    return story.closed()


@wrong("I13")
def a_tick_comes_before_its_time() -> History:
    story = Timed()
    story.commit()
    run_id = story.run(102)
    story.row(102, outcome="started", run_id=run_id)
    story.count("fired")
    story.over(run_id)
    story.ticks(103, 106)
    return story.closed()


@wrong("I13")
def a_tick_is_no_time_of_its_rule() -> History:
    story = Timed(interval="PT2S")
    for at in (102, 104, 105, 106):
        story.start_tick(at)
    return story.closed()


@wrong("I13")
def the_old_rule_fires_after_an_operator_set_another() -> History:
    story = Timed()
    story.ticks(101, 104)
    story.commit()
    story.state(expression="0 0 1 1 *")
    story.until(107)
    story.start_tick(107)
    return story.closed()


@wrong("I13")
def all_misses_some() -> History:
    story = Timed()
    story.ticks(101, 103)
    story.until(108)
    story.commit()
    run_id = story.run(108)
    story.miss(107, 5)
    story.row(108, outcome="started", run_id=run_id)
    story.count("fired")
    story.over(run_id)
    return story.closed()


@wrong("I13")
def the_latest_is_missed_too() -> History:
    story = Timed(missed="latest")
    story.ticks(101, 103)
    story.until(107.5)
    story.commit()
    story.miss(107, 5)
    story.ticks(108, 110)
    return story.closed()


@wrong("I13")
def latest_starts_all() -> History:
    story = Timed(missed="latest")
    story.ticks(101, 103)
    story.until(105.5)
    story.commit()
    for at in (103, 104, 105):
        story.row(at, outcome="started", run_id=story.run(at))
    story.count("fired", 3)
    for number in (3, 4, 5):
        story.over(f"run-of-{number}")
    return story.closed()


@wrong("I13")
def skip_starts_what_is_two_minutes_old() -> History:
    story = Timed(missed="skip", interval="PT60S")
    story.start_tick(120)
    story.start_tick(180, late=120)
    return story.closed()


@wrong("I13")
def a_window_is_not_looked_at() -> History:
    story = Timed(window="PT3S", interval="PT20S")
    story.start_tick(120, late=15)
    return story.closed()


@wrong("I13")
def a_missed_row_stands_for_more_than_there_were() -> History:
    story = Timed(missed="latest")
    story.ticks(101, 103)
    story.until(106)
    story.commit()
    run_id = story.run(106)
    story.miss(105, 9)
    story.row(106, outcome="started", run_id=run_id)
    story.count("fired")
    story.over(run_id)
    return story.closed()


@wrong("I13")
def skip_starts_beside_an_open_run() -> History:
    story = Timed(overlap="skip")
    first = story.start_tick(101, open=True)
    story.start_tick(102)
    story.over(first)
    return story.closed()


@wrong("I13")
def allow_skips() -> History:
    story = Timed()
    first = story.start_tick(101, open=True)
    story.until(102)
    story.commit()
    story.row(102, outcome="skipped")
    story.count("skipped")
    story.over(first)
    return story.closed()


@wrong("I13")
def a_tick_is_skipped_beside_nothing() -> History:
    story = Timed(overlap="skip", interval="PT10S")
    story.start_tick(110)
    story.until(120)
    story.commit()
    story.row(120, outcome="skipped")
    story.count("skipped")
    return story.closed()


@wrong("I13")
def two_are_queued() -> History:
    story = Timed(overlap="queue")
    first = story.start_tick(101, open=True)
    for at in (102, 103):
        story.until(at)
        story.commit()
        story.row(at, outcome="queued", waits_for=first)
    story.over(first)
    return story.closed()


@wrong("I13")
def what_was_queued_never_starts() -> History:
    story = Timed(overlap="queue")
    first = story.start_tick(101, open=True)
    story.until(102)
    story.commit()
    story.row(102, outcome="queued", waits_for=first)
    story.over(first)
    return story.closed()


@wrong("I13")
def the_one_before_is_not_cancelled() -> History:
    story = Timed(overlap="cancel")
    first = story.start_tick(101, open=True)
    story.start_tick(102)
    story.over(first)
    return story.closed()


@wrong("I13")
def a_tick_waits_in_a_quiet_window() -> History:
    story = Timed(interval="PT10S")
    story.quiet.append((105 * SECOND, 140 * SECOND))
    story.start_tick(110, late=15)
    for at in (120, 130):
        story.start_tick(at, late=max(0.0, 126.0 - at))
    return story.closed()


@wrong("I13")
def a_counter_is_wrong() -> History:
    story = Timed()
    story.ticks(101, 104)
    story.count("fired")
    return story.closed()


@wrong("I7")
def allow_cancels() -> History:
    story = Timed()
    first = story.start_tick(101, open=True)
    story.commit()
    story.put("flow_runs", (first,), halt="cancelled")
    story.over(first, "cancelled")
    return story.closed()
