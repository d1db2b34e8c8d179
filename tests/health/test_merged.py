"""Metrics of several processes as one: sums that never fall."""

from prometheus_client.parser import text_string_to_metric_families

from orchestrator.observe.metrics.merged import Merged

TEXT = """\
# HELP runs_started_total Started.
# TYPE runs_started_total counter
runs_started_total{{flow="a"}} {runs}
# HELP took_seconds Took.
# TYPE took_seconds histogram
took_seconds_bucket{{le="1.0"}} {runs}
took_seconds_bucket{{le="+Inf"}} {runs}
took_seconds_count {runs}
took_seconds_sum 2.5
# HELP connections Open.
# TYPE connections gauge
connections {gauge}
# HELP last_pass_seconds When.
# TYPE last_pass_seconds gauge
last_pass_seconds {gauge}
"""


def shown(merged: Merged) -> dict[str, float]:
    text = merged.render(None)[0].decode()
    return {
        f"{one.name}{one.labels.get('le', '')}": one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_counters_are_summed_and_times_are_the_latest() -> None:
    merged = Merged()
    merged.hear(1, 100, TEXT.format(runs=3, gauge=5))
    merged.hear(2, 200, TEXT.format(runs=4, gauge=7))
    assert shown(merged) == {
        "runs_started_total": 7,
        "took_seconds_bucket1.0": 7,
        "took_seconds_bucket+Inf": 7,
        "took_seconds_count": 7,
        "took_seconds_sum": 5,
        "connections": 12,
        "last_pass_seconds": 7,
    }


def test_what_an_ended_process_counted_stays_and_how_it_stood_does_not() -> None:
    merged = Merged()
    merged.hear(1, 100, TEXT.format(runs=3, gauge=5))
    merged.hear(2, 200, TEXT.format(runs=4, gauge=7))
    merged.forget_gauges(1)
    assert (shown(merged)["runs_started_total"], shown(merged)["connections"]) == (7, 7)
    merged.hear(1, 101, TEXT.format(runs=1, gauge=2))
    assert (shown(merged)["runs_started_total"], shown(merged)["connections"]) == (8, 9)
    assert shown(merged)["took_seconds_count"] == 8


def test_a_process_that_was_never_heard_shows_nothing() -> None:
    merged = Merged()
    merged.forget_gauges(1)
    assert shown(merged) == {}
