"""The instruments of one process, made from the table, and what a scrape is answered with."""

import operator
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family

from orchestrator.observe.metrics.metric import Kind, Metric, Source
from orchestrator.observe.metrics.table import METRICS, METRICS_DROPPED_SERIES

MAX_SERIES: Final = 2_000
"""How many series one process shows at most."""
OTHER: Final = "other"
_RESERVED: Final = 0.1
"""The part of them for sets without open labels, `other` among them: all of these there may be are fewer."""
Instrument: TypeAlias = Any
"""A Counter, Gauge or Histogram: which one, the metric's kind says."""
_CLASSES: Final = {Kind.COUNTER: Counter, Kind.GAUGE: Gauge}


class Instruments:
    """What a process counts. Safe to use from several threads.

    `sources` chooses the metrics that this process has; the others have no series here. Past `max_series` every new set
    of labels is counted with `other` in the place of what users named, and `floworch_metrics_dropped_series_total` says
    how many were.
    """

    def __init__(self, sources: Iterable[Source], max_series: int = MAX_SERIES) -> None:
        wanted = frozenset(sources)
        self._room = int(max_series * (1 - _RESERVED))
        self._series = 0
        self._lock = threading.RLock()
        self._made = {one: _make(one) for one in METRICS if wanted & set(one.sources)}
        self._known: dict[Metric, dict[tuple[str, ...], Instrument]] = {one: {} for one in self._made}
        self._before: list[Callable[[], None]] = []

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Add to a counter. `labels` are the values, in the table's order."""
        self._of(metric, labels).inc(by)

    def observe(self, metric: Metric, *labels: str, value: float) -> None:
        """Add a value, in the metric's unit, to a histogram."""
        self._of(metric, labels).observe(value)

    def set(self, metric: Metric, *labels: str, value: float) -> None:
        """Set a gauge."""
        self._of(metric, labels).set(value)

    def replace(self, metric: Metric, values: Mapping[tuple[str, ...], float]) -> None:
        """Set a gauge to these values and no others: what is not named has no series any more. The greatest are named
        first; what finds no room is shown together as `other`: the greatest of times and ratios, the sum of all else.
        """
        both = max if metric.unit in ("s", "1") else operator.add
        shown: dict[tuple[str, ...], float] = {}
        with self._lock:
            known = self._known[metric]
            self._series -= len(known) * metric.series
            known.clear()
            self._made[metric].clear()
            for labels, value in sorted(values.items(), key=lambda item: item[1], reverse=True):
                told = self._admitted(metric, labels)
                shown[told] = both(shown[told], value) if told in shown else value
                self._child(metric, told).set(shown[told])

    def before_scrape(self, look: Callable[[], None]) -> None:
        """Call it before each answer: it sets what is only worth reading then."""
        self._before.append(look)

    def collect(self) -> Iterator[Family]:
        """What `prometheus_client` asks a registry for. A gauge that was never set is left out: nobody knows its value.
        So is the time at which each series began, which would be one more series beside each."""
        with self._lock:
            for metric, made in self._made.items():
                if not self._known[metric] and (metric.labels or metric.kind is Kind.GAUGE):
                    continue
                for family in made.collect():
                    family.samples = [one for one in family.samples if not one.name.endswith("_created")]
                    yield family

    def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """The answer to a scrape, and its content type: OpenMetrics where the `Accept` header asks for it, else
        Prometheus's text."""
        for look in self._before:
            look()
        encoder, content_type = choose_encoder(accept or "")
        return encoder(self), content_type

    def _of(self, metric: Metric, labels: tuple[str, ...]) -> Instrument:
        found = self._known[metric].get(labels)
        if found is not None:
            return found
        with self._lock:
            return self._child(metric, self._admitted(metric, labels))

    def _child(self, metric: Metric, labels: tuple[str, ...]) -> Instrument:
        known, made = self._known[metric], self._made[metric]
        if labels not in known:
            known[labels] = made.labels(*labels) if metric.labels else made
            self._series += metric.series
        return known[labels]

    def _admitted(self, metric: Metric, labels: tuple[str, ...]) -> tuple[str, ...]:
        """These, or what stands for them: `other` wherever users choose the words."""
        fits = self._series + metric.series <= self._room
        if fits or labels in self._known[metric] or not any(one.open for one in metric.labels):
            return labels
        if metric is not METRICS_DROPPED_SERIES:
            self.count(METRICS_DROPPED_SERIES, metric.prometheus)
        return tuple(OTHER if label.open else value for label, value in zip(metric.labels, labels, strict=True))


def _make(metric: Metric) -> Instrument:
    name = metric.prometheus.removesuffix("_total") if metric.kind is Kind.COUNTER else metric.prometheus
    names = [one.name for one in metric.labels]
    if metric.kind is Kind.HISTOGRAM:
        return Histogram(name, metric.meaning, names, registry=None, buckets=metric.buckets)
    return _CLASSES[metric.kind](name, metric.meaning, names, registry=None)
