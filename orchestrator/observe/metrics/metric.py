"""What a metric is, and the name under which Prometheus knows it."""

import re
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Kind(StrEnum):
    """How a metric moves."""

    COUNTER = "counter"  # only grows; `rate()` it
    GAUGE = "gauge"  # goes up and down
    HISTOGRAM = "histogram"  # how often which values were seen


class Source(StrEnum):
    """The process in whose answer a metric stands."""

    WORKER = "worker"  # each worker's main process: what it and its pool children did
    KEEPER = "keeper"  # a keeper, in a worker or alone; of the cluster's duties, the one that leads
    BEAT = "beat"  # each beat; what became of its ticks is counted where they are decided
    API = "api"  # each process of the API
    EXPORTER = "exporter"  # `orchestrator exporter`, and the API where it is asked to: what the ledger says


@dataclass(frozen=True, slots=True)
class Label:
    """A label's meaning. The values of an `open` one come from users, so there may be any number: past the cap they
    become `other`. All others are words of our own."""

    name: str
    meaning: str
    open: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One line of the table, the only one like it. `unit` is written as in UCUM (`s`, `ms`, `By`; `1` for a ratio);
    `buckets` are the upper bounds of a histogram, in that unit."""

    name: str
    kind: Kind
    meaning: str
    sources: tuple[Source, ...]
    labels: tuple[Label, ...] = ()
    unit: str = ""
    buckets: tuple[float, ...] = ()

    @property
    def prometheus(self) -> str:
        """Its name in Prometheus. A histogram's series have `_bucket`, `_sum` and `_count` behind it."""
        return translated(self.name, self.unit, self.kind)

    @property
    def series(self) -> int:
        """How many series one set of labels is: of a histogram one per bucket, that without bound, sum and count."""
        return len(self.buckets) + 3 if self.kind is Kind.HISTOGRAM else 1


_UNITS: Final = MappingProxyType({"s": "seconds", "ms": "milliseconds", "By": "bytes"})


def translated(name: str, unit: str, kind: Kind) -> str:
    """A name of OpenTelemetry as its specification translates it for Prometheus: words joined by underscores, then the
    unit in words unless it is among them, then `ratio` for a gauge of unit 1, and `total` for a counter."""
    words = [word for word in re.split(r"[^a-zA-Z0-9]+", name) if word]
    if (spelled := _UNITS.get(unit)) is not None and spelled not in words:
        words.append(spelled)
    last = {Kind.COUNTER: "total", Kind.GAUGE: "ratio" if unit == "1" else None}.get(kind)
    return "_".join(words if last is None else [*(word for word in words if word != last), last])
