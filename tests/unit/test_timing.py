"""When schedules fire: examples, intervals, bounds, jitter, and what no rule can be."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from time import process_time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orchestrator.core.timing import Cron, Every, Timing, expression, zones
from orchestrator.errors import ScheduleInvalid, UsageError
from tests.unit.test_timing_scan import ZONES

MICRO, MINUTE, DAY = timedelta(microseconds=1), timedelta(minutes=1), timedelta(days=1)


# ---- examples --------------------------------------------------------------------------------------------------


def fires(rule: Cron | Every, since: str, count: int) -> list[str]:
    found = Timing(rule).between(datetime.fromisoformat(since), datetime.max.replace(tzinfo=UTC), count)
    zone = ZoneInfo(rule.tz) if isinstance(rule, Cron) else UTC
    return [at.astimezone(zone).isoformat(timespec="minutes") for at in found]


def test_an_hourly_rule_does_not_skip_the_repeated_hour():
    assert fires(Cron("0 * * * *", tz="America/New_York"), "2026-11-01T04:30:00Z", 4) == [
        "2026-11-01T01:00-04:00",
        "2026-11-01T01:00-05:00",
        "2026-11-01T02:00-05:00",
        "2026-11-01T03:00-05:00",
    ]


def test_a_named_hour_fires_once_where_it_exists_twice():
    rule = Cron("30 1 * * *", tz="America/New_York")
    assert fires(rule, "2026-10-31T12:00:00Z", 2) == ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"]
    second = Cron("30 1 * * *", tz="America/New_York", fold="second")
    assert fires(second, "2026-10-31T12:00:00Z", 1) == ["2026-11-01T01:30-05:00"]
    both = Cron("30 1 * * *", tz="America/New_York", fold="both")
    assert fires(both, "2026-10-31T12:00:00Z", 2) == ["2026-11-01T01:30-04:00", "2026-11-01T01:30-05:00"]


def test_a_named_hour_that_is_left_out_fires_when_the_gap_ends():
    rule = Cron("*/20 2 * * *", tz="Europe/Paris")
    assert fires(rule, "2026-03-29T00:00:00Z", 2) == ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]
    skip = Cron("30 2 * * *", tz="Europe/Paris", gap="skip")
    assert fires(skip, "2026-03-28T12:00:00Z", 1) == ["2026-03-30T02:30+02:00"]


def test_a_gap_that_ends_at_a_fire_has_one_fire():
    rule = Cron("0,30 2,3 * * *", tz="Europe/Paris")
    assert fires(rule, "2026-03-29T00:00:00Z", 2) == ["2026-03-29T03:00+02:00", "2026-03-29T03:30+02:00"]


def test_an_open_hour_skips_what_does_not_exist():
    assert fires(Cron("30 * * * *", tz="Europe/Paris"), "2026-03-29T00:00:00Z", 2) == [
        "2026-03-29T01:30+01:00",
        "2026-03-29T03:30+02:00",
    ]


def test_a_day_that_does_not_exist_fires_once_when_it_would_have_ended():
    assert fires(Cron("0 7,19 * * *", tz="Pacific/Apia"), "2011-12-29T20:00:00Z", 4) == [
        "2011-12-29T19:00-10:00",
        "2011-12-31T00:00+14:00",
        "2011-12-31T07:00+14:00",
        "2011-12-31T19:00+14:00",
    ]


def test_both_day_fields_restricted_means_either_and_a_star_means_both():
    assert fires(Cron("0 0 13 * 5"), "2026-02-01T00:00:00Z", 4) == [
        f"2026-02-{day:02}T00:00+00:00" for day in (6, 13, 20, 27)
    ]
    assert fires(Cron("0 0 */2 * 5"), "2026-02-01T00:00:00Z", 2) == ["2026-02-13T00:00+00:00", "2026-02-27T00:00+00:00"]


def test_rare_dates_are_found():
    assert fires(Cron("0 0 29 2 *"), "2096-03-01T00:00:00Z", 1) == ["2104-02-29T00:00+00:00"]
    assert fires(Cron("0 0 * 2 MON#5"), "2072-03-01T00:00:00Z", 1) == ["2112-02-29T00:00+00:00"]
    assert fires(Cron("0 18 LW * *"), "2026-01-01T00:00:00Z", 2) == ["2026-01-30T18:00+00:00", "2026-02-27T18:00+00:00"]
    assert fires(Cron("@yearly", tz="Asia/Tehran"), "2026-02-01T00:00:00Z", 1) == ["2027-01-01T00:00+03:30"]


@pytest.mark.parametrize("name", sorted(expression.NAMES))
def test_a_name_is_its_expression(name):
    since = datetime(2026, 2, 3, 4, 5, tzinfo=UTC)
    assert Cron(name.upper()).after(since) == Cron(expression.NAMES[name]).after(since)


def test_a_fire_is_strictly_after_and_asked_in_any_zone():
    rule = Cron("0 7 * * *", tz="Europe/Paris")
    at = datetime(2026, 7, 1, 5, 0, tzinfo=UTC)
    here = at.astimezone(timezone(timedelta(hours=9)))
    second = timedelta(seconds=1)
    assert rule.after(here - second) == at
    assert rule.after(here - timedelta(microseconds=1)) == at
    assert rule.after(here) == rule.after(here + timedelta(microseconds=1)) == at + DAY
    with pytest.raises(TypeError):
        rule.after(datetime(2026, 7, 1))  # noqa: DTZ001 - a naive one has no meaning here


def test_there_is_no_fire_after_the_end_of_the_calendar():
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    for zone in ("UTC", "Pacific/Apia", "America/New_York"):
        assert Cron("* * * * *", tz=zone).after(last) is None
        assert Cron("0 0 1 1 *", tz=zone).after(last - DAY) is None
        assert Cron("* * * * *", tz=zone).count(last - DAY, last, 10_000) <= 1440
    assert Every("1h").after(last) is None


# ---- intervals, bounds, jitter -----------------------------------------------------------------------------------

INSTANTS = st.integers(86_400_000_000, 4_102_444_800_000_000).map(
    lambda us: datetime(1970, 1, 1, tzinfo=UTC) + us * MICRO
)


@given(st.integers(1, 10**7), INSTANTS, st.none() | INSTANTS)
def test_an_interval_keeps_its_phase(interval, since, anchor):
    anchor = anchor and anchor.replace(microsecond=0)
    rule = Every(interval, anchor)
    first = rule.after(since)
    assert first is not None
    assert since < first <= since + rule.interval
    assert (first - (anchor or datetime(1970, 1, 1, tzinfo=UTC))) % rule.interval == timedelta(0)
    assert rule.after(first) == first + rule.interval


def test_an_interval_is_written_as_people_do():
    assert Every("15m") == Every(900) == Every(timedelta(minutes=15))
    anchored = Every("15m", anchor="2026-01-01T00:07:00+01:00")
    assert fires(anchored, "2026-03-01T00:00:00Z", 2) == ["2026-03-01T00:07+00:00", "2026-03-01T00:22+00:00"]


RULES = st.one_of(
    st.sampled_from(["* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *", "0 0 1 * *", "*/5 8-17 * * 1-5"]).flatmap(
        lambda text: st.sampled_from(ZONES).map(lambda zone: Cron(text, tz=zone))
    ),
    st.integers(1, 40_000).map(Every),
)


@settings(max_examples=150)
@given(RULES, INSTANTS, st.timedeltas(timedelta(0), timedelta(days=9)), st.integers(0, 300), st.data())
def test_counting_listing_and_the_last_one_agree(rule, since, length, limit, data):
    until = since + length
    bound = st.none() | st.timedeltas(-DAY, 9 * DAY).map(lambda d: since + d)
    timing = Timing(rule, start=data.draw(bound), end=data.draw(bound))
    found = timing.between(since, until, 20_000)
    assume(len(found) < 20_000)
    assert all(since < at <= until for at in found)
    assert all(a < b for a, b in pairwise(found))
    assert all((timing.start is None or timing.start <= at) and (timing.end is None or at < timing.end) for at in found)
    assert timing.between(since, until, limit) == found[:limit]
    assert timing.count(since, until, 10**6) == len(found)
    assert timing.count(since, until, limit) == min(limit, len(found))
    assert timing.last(since, until) == (found[-1] if found else None)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "Africa/Casablanca", "Pacific/Apia"])
@pytest.mark.parametrize(("times", "fold"), [("*/15 * * * *", "second"), ("*/10 1-3 * * 1-5", "auto")])
def test_a_year_is_counted_as_it_is_listed(zone, times, fold):
    timing = Timing(Cron(times, tz=zone, fold=fold))
    since, until = datetime(2011, 7, 3, 4, 5, 6, tzinfo=UTC), datetime(2012, 8, 1, 9, 10, 11, tzinfo=UTC)
    assert timing.count(since, until, 10**6) == len(timing.between(since, until, 10**6))


def test_a_million_missed_minutes_are_counted_at_once():
    """The count is taken while the schedule is locked."""
    timing = Timing(Cron("* * * * *", tz="Europe/Paris"))
    since = datetime(2020, 1, 1, tzinfo=UTC)
    began = process_time()
    assert timing.count(since, since + 366 * DAY, 10**6) == 366 * 1440
    assert timing.count(since, since + 3000 * DAY, 10**6) == 10**6
    assert timing.last(since, since + 3000 * DAY) == since + 3000 * DAY
    assert process_time() - began < 3  # one by one: 12 s


def test_bounds_hold_the_first_and_leave_out_the_end():
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    timing = Timing(Cron("0 * * * *"), start=start, end=end)
    found = timing.between(start - 9 * DAY, end + 9 * DAY, 100)
    assert (found[0], found[-1], len(found)) == (start, end - timedelta(hours=1), 24)
    assert timing.after(found[-1]) is None


def test_jitter_is_drawn_once_for_all_and_spreads():
    timing = Timing(Every("1m"), jitter=timedelta(seconds=30))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    delays = [timing.delay(f"flow/{n}", at) for n in range(2000)]
    assert all(timedelta(0) <= delay < timing.jitter for delay in delays)
    assert delays[7] == timing.delay("flow/7", at.astimezone(ZoneInfo("Asia/Tehran")))
    assert delays[7] != timing.delay("flow/7", at + MINUTE)
    by_second = defaultdict(int)
    for delay in delays:
        by_second[delay // timedelta(seconds=1)] += 1
    assert len(by_second) == 30
    assert max(by_second.values()) < 2 * 2000 / 30
    assert Timing(Every("1m")).delay("flow/7", at) == timedelta(0)
    one_second = Timing(Every("1m"), jitter=timedelta(seconds=1))
    assert one_second.delay("flow/1", at) != one_second.delay("flow/2", at)


# ---- what cannot be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has 0 fields. Fix: write five"),
        ("0 7 * *", "has 4 fields. Fix: write five"),
        ("0 0 7 * * *", "has six fields. Fix: leave the seconds out"),
        ("60 * * * *", "has the minute `60`. Fix: write 0-59"),
        ("5,61 * * * *", "has the minute `61`"),
        ("0 24 * * *", "has the hour `24`. Fix: write 0-23"),
        ("0 7-5 * * *", "has the hour `7-5`"),
        ("0 7, * * *", "has the hour"),
        ("*/0 * * * *", "has the minute `*/0`"),
        ("0 0 0 * *", "has the day-of-month `0`. Fix: write 1-31"),
        ("0 0 * 13 *", "has the month `13`. Fix: write 1-12 or JAN-DEC"),
        ("0 0 * JANUARY *", "has the month `JANUARY`"),
        ("0 0 * * 8", "has the day-of-week `8`. Fix: write 0-7 or SUN-SAT"),
        ("0 0 * * MOO", "has the day-of-week `MOO`"),
        ("0 0 ? * *", "has the day-of-month `?`"),
        ("0 0 30 2 *", "never fires: no month of `2` has a day `30`"),
        ("0 0 31 4,6,9,11 *", "never fires: no month of `4,6,9,11` has a day `31`"),
        ("0 0 */15 2 MON#5", "never fires: no date has this day of the month and of the week"),
        ("@dayly", "is not a known name. Fix: did you mean `@daily`?"),
        ("@reboot", "is not a known name. Fix: use one of"),
        ("@every 5m", 'is not a known name. Fix: write `Every("5m")`'),
        ("0 7 * * " + "1," * 400 + "1", "characters. Fix: write at most 500"),
    ],
)
def test_a_bad_expression_is_refused_with_its_field_and_value(text, says):
    with pytest.raises(ScheduleInvalid) as caught:
        Cron(text)
    assert says in caught.value.message
    assert isinstance(caught.value, UsageError)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("zone", "says"),
    [
        ("europe/paris", "did you mean `Europe/Paris`?"),
        ("Europe/Pariss", "did you mean `Europe/Paris`?"),
        ("America", "There is no time zone `America`"),
        ("+02:00", "write an IANA name such as `Europe/Paris`, or `UTC`."),
        ("", "There is no time zone ``"),
        ("../../etc/passwd", "There is no time zone"),
        ("/etc/localtime", "There is no time zone"),
        ("localtime", "There is no time zone"),
        ("right/UTC", "There is no time zone"),
        ("a\x00b", "There is no time zone"),
        ("é" * 300, "There is no time zone"),
    ],
)
def test_an_unknown_zone_is_refused_with_the_nearest(zone, says):
    with pytest.raises(ScheduleInvalid) as caught:
        Cron("@daily", tz=zone)
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Every("0s"), "The interval 0s is not whole seconds"),
        (lambda: Every("1500ms"), "The interval 1s500ms is not whole seconds"),
        (lambda: Every("-5m"), "'-5m' is not a length of time"),
        (lambda: Every("fast"), "'fast' is not a length of time"),
        (lambda: Every("1h", anchor="2026-01-01"), "2026-01-01 has no offset to UTC. Fix: write an aware datetime"),
        (lambda: Every("1h", anchor="new year"), "'new year' is not a point in time"),
        (lambda: Every("1h", anchor=17), "17 is not a point in time"),  # type: ignore[arg-type]
        (lambda: Every("1h", anchor="1969-12-31T00:00:00Z"), "lies before 1970"),
        (lambda: Every("1h", anchor="2026-01-01T00:00:00.5Z"), "has a part of a second"),
        (lambda: Cron("@daily", gap="later"), "Cron: gap: Input should be 'auto', 'skip' or 'next', got 'later'"),  # type: ignore[arg-type]
        (lambda: Cron(7), "Cron: expression: Input should be a valid string, got 7"),  # type: ignore[arg-type]
        (lambda: Cron("@daily", tz=None), "Cron: tz: Input should be a valid string, got None"),  # type: ignore[arg-type]
    ],
)
def test_a_rule_that_cannot_be_says_why(make, says):
    with pytest.raises(ScheduleInvalid) as caught:
        make()
    assert says in caught.value.message
    assert "Fix: " in caught.value.message


@settings(max_examples=1500)
@given(
    st.one_of(
        st.text(max_size=30),
        st.text("0123456789*/,-#LW @ MONFEB", max_size=25),
        st.lists(st.text("0123456789*/,-#LW?", min_size=1, max_size=5), min_size=5, max_size=5).map(" ".join),
    )
)
def test_any_text_is_a_rule_that_fires_or_is_refused(text):
    try:
        rule = Cron(text)
    except ScheduleInvalid as exc:
        rule, refusal = None, exc.message
    if rule is None:
        assert "Fix: " in refusal
        return
    first = rule.after(datetime(2026, 1, 1, tzinfo=UTC))
    assert first is not None
    assert first.second == 0


def test_an_expression_that_never_fires_is_told_from_one_that_fires_in_a_leap_year():
    assert Cron("0 0 29 2 *").after(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2028, 2, 29, tzinfo=UTC)
    assert Cron("0 0 31 2 1").after(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2026, 2, 2, tzinfo=UTC)  # or Mondays


def test_rules_are_values():
    assert Cron("  0   7 * * * ") == Cron("0 7 * * *")
    assert hash(Cron("0 7 * * *")) == hash(Cron("0 7 * * *"))
    assert Cron.model_validate(Cron("0 7 * * *", tz="Asia/Tehran").model_dump()) == Cron("0 7 * * *", tz="Asia/Tehran")
    with pytest.raises(ValueError, match="frozen"):
        Cron("0 7 * * *").tz = "UTC"


def test_a_period_holds_what_it_says():
    for zone in ZONES:
        tz = zones.load(zone)
        at = datetime(2010, 1, 1)  # noqa: DTZ001 - naive UTC
        while at.year < 2013:
            period = zones.period(zone, at)
            assert period.start <= at < period.end
            assert zones.offset_at(tz, period.start) == period.offset
            assert zones.offset_at(tz, period.end - timedelta(seconds=1)) == period.offset
            at = period.end
