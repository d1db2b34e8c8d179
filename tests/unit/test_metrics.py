"""The table of metrics, its page, and the instruments made from it."""

import re
import threading
import tracemalloc
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from orchestrator.observe.metrics import reference, table
from orchestrator.observe.metrics.instruments import MAX_SERIES, Instruments
from orchestrator.observe.metrics.metric import Kind, Metric, Source, translated
from orchestrator.observe.metrics.table import (
    API_REQUESTS,
    BACKUP_AGE,
    LEASE_EXPIRED,
    METRICS,
    QUEUE_DEPTH,
    QUEUE_OLDEST_READY,
    RUNS_COMPLETED,
    RUNS_STARTED,
    STEPS_DURATION,
)

PAGE = Path(__file__).parents[2] / "docs" / reference.NAME
NEVER = {"run", "run_id", "worker", "worker_id", "host", "instance", "pid", "pod", "tag", "tenant", "error", "message"}


def scraped(instruments: Instruments, accept: str = "") -> dict[tuple[str, ...], float]:
    """Each series' value, by its name and the values of its labels, in the order of their names."""
    body, content_type = instruments.render(accept)
    families = (openmetrics if "openmetrics" in content_type else plain)(body.decode())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("floworch.runs.started", "", Kind.COUNTER, "floworch_runs_started_total"),
        ("floworch.steps.queue_delay", "ms", Kind.HISTOGRAM, "floworch_steps_queue_delay_milliseconds"),
        ("floworch.webhooks.body_bytes", "By", Kind.HISTOGRAM, "floworch_webhooks_body_bytes"),
        ("floworch.quota.used_ratio", "1", Kind.GAUGE, "floworch_quota_used_ratio"),
        ("floworch.process.cpu", "s", Kind.COUNTER, "floworch_process_cpu_seconds_total"),
        ("a-total.of", "", Kind.COUNTER, "a_of_total"),
    ],
)
def test_names_are_translated_as_opentelemetry_does(name: str, unit: str, kind: Kind, expected: str) -> None:
    assert translated(name, unit, kind) == expected


def test_every_metric_has_a_name_of_its_own_and_a_source() -> None:
    assert len({one.name for one in METRICS}) == len({one.prometheus for one in METRICS}) == len(METRICS)
    assert all(one.sources and one.meaning and re.fullmatch(r"floworch(\.[a-z_]+)+", one.name) for one in METRICS)
    assert all(bool(one.buckets) == (one.kind is Kind.HISTOGRAM) for one in METRICS)


def test_no_label_grows_without_end() -> None:
    assert {label.name for one in METRICS for label in one.labels} & NEVER == set()


def test_every_metric_is_counted_or_set_somewhere() -> None:
    """No series that nobody exports."""
    root = Path(table.__file__).parents[3]
    sources = [path.read_text("utf-8") for top in ("orchestrator", "workers") for path in (root / top).rglob("*.py")]
    names = {name for name, value in vars(table).items() if isinstance(value, Metric)}
    used = {name for text in sources for name in re.findall(r"\b[A-Z_]{4,}\b(?!: Final = _)", text)}
    assert names - used == set()


def test_the_page_is_made_from_the_table() -> None:
    again = "write it anew: python -m orchestrator.observe.metrics.reference docs"
    assert PAGE.read_text("utf-8") == reference.page(), again


@pytest.mark.parametrize("accept", ["", "text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0"])
def test_a_scrape_is_answered_in_the_form_that_is_asked_for(accept: str) -> None:
    instruments = Instruments([Source.WORKER, Source.KEEPER])
    instruments.count(RUNS_STARTED, "nightly", "schedule")
    instruments.count(RUNS_STARTED, "nightly", "schedule", by=2)
    instruments.observe(STEPS_DURATION, "nightly", "load", "ok", value=30)
    seen = scraped(instruments, accept)
    assert seen[("floworch_runs_started_total", "nightly", "schedule")] == 3
    assert seen[("floworch_steps_duration_milliseconds_sum", "nightly", "ok", "load")] == 30
    bounds = {float(key[2]): n for key, n in seen.items() if key[0].endswith("milliseconds_bucket")}
    assert bounds[25.0] == 0
    assert bounds[50.0] == bounds[float("inf")] == 1
    assert instruments.render(accept)[1].startswith(accept.partition(";")[0] or "text/plain")


def test_what_nobody_knows_has_no_series() -> None:
    """A backup whose age was never read is not zero seconds old; a counter that never counted is zero."""
    seen = scraped(Instruments(Source))
    assert (BACKUP_AGE.prometheus,) not in seen
    assert seen[(LEASE_EXPIRED.prometheus,)] == 0
    assert not any(name.endswith("_created") for name, *_ in seen)


def test_a_process_has_only_the_metrics_of_its_sources() -> None:
    with pytest.raises(KeyError):
        Instruments([Source.WORKER]).observe(API_REQUESTS, "/", "GET", "2xx", value=1)


def test_past_the_cap_sets_of_labels_become_other_and_are_told() -> None:
    instruments = Instruments([Source.WORKER], max_series=100)
    for n in range(200):
        instruments.count(RUNS_COMPLETED, f"flow{n}", "failed" if n % 2 else "succeeded")
    seen = scraped(instruments)
    assert sum(value for key, value in seen.items() if key[0] == RUNS_COMPLETED.prometheus) == 200
    assert seen[(RUNS_COMPLETED.prometheus, "flow0", "succeeded")] == 1
    assert seen[(RUNS_COMPLETED.prometheus, "other", "failed")] == 55, "what is not the users' is kept"
    assert seen[("floworch_metrics_dropped_series_total", RUNS_COMPLETED.prometheus)] == 110
    assert len(seen) <= 100


def test_ten_thousand_flows_stay_under_the_cap() -> None:
    tracemalloc.start()
    instruments = Instruments([Source.WORKER, Source.KEEPER])
    for n in range(10_000):
        instruments.count(RUNS_STARTED, f"flow_{n}", "manual")
        instruments.observe(STEPS_DURATION, f"flow_{n}", "load", "ok", value=n)
        instruments.count(RUNS_COMPLETED, f"flow_{n}", "succeeded")
    body, _ = instruments.render()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
    assert len(lines) <= MAX_SERIES
    assert len(body) < 400_000
    assert held < 8_000_000
    counted = [line for line in lines if line.startswith("floworch_steps_duration_milliseconds_count")]
    assert sum(float(line.rpartition(" ")[2]) for line in counted) == 10_000


def test_a_gauge_that_is_replaced_forgets_what_is_gone() -> None:
    instruments = Instruments([Source.EXPORTER])
    instruments.replace(QUEUE_DEPTH, {("a", "ready"): 3, ("b", "ready"): 1})
    instruments.replace(QUEUE_DEPTH, {("b", "ready"): 2})
    assert {key: n for key, n in scraped(instruments).items() if key[0] == QUEUE_DEPTH.prometheus} == {
        (QUEUE_DEPTH.prometheus, "b", "ready"): 2
    }


def test_what_finds_no_room_in_a_gauge_is_added_up_or_is_the_worst() -> None:
    instruments = Instruments([Source.EXPORTER], max_series=10)
    instruments.replace(QUEUE_DEPTH, {(f"q{n}", "ready"): n for n in range(20)})
    seen = scraped(instruments)
    assert seen[(QUEUE_DEPTH.prometheus, "q19", "ready")] == 19
    assert sum(n for key, n in seen.items() if key[0] == QUEUE_DEPTH.prometheus) == sum(range(20))
    instruments.replace(QUEUE_DEPTH, {})
    instruments.replace(QUEUE_OLDEST_READY, {(f"q{n}",): n for n in range(20)})
    assert scraped(instruments)[(QUEUE_OLDEST_READY.prometheus, "other")] == 11, "the worst of those that found no room"


def test_many_threads_lose_no_count() -> None:
    instruments = Instruments([Source.WORKER])

    def work() -> None:
        for n in range(500):
            instruments.count(RUNS_COMPLETED, f"flow{n % 50}", "succeeded")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(n for key, n in scraped(instruments).items() if key[0] == RUNS_COMPLETED.prometheus) == 2_000
