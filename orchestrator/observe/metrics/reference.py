"""`python -m orchestrator.observe.metrics.reference FOLDER`: the page of metrics, made from the table."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from orchestrator.observe.metrics.metric import Kind, Label, Metric
from orchestrator.observe.metrics.table import METRICS

NAME: Final = "metrics.md"
_HEAD: Final = """# Metrics

Made from `orchestrator/observe/metrics/table.py`; how they are scraped is in [observability](observability.md).
The names of OpenTelemetry are what the Prometheus names are translated from, so that a dashboard works with a direct
scrape and behind a collector. Gauges of the exporter are about the whole ledger: where several replicas show them, take
`max by`, never `sum`.

| Prometheus | OpenTelemetry | kind | labels | shown by | meaning |
|---|---|---|---|---|---|
"""
_LABELS: Final = """
## Labels

Never a label: a run, a worker, a host, a process id, a tag, a tenant, the text of an error. Values of an open label
are words of yours: a process shows at most `ORCHESTRATOR_METRICS_SERIES`, and what finds no room is counted as `other`;
`floworch_metrics_dropped_series_total` says of which metric.

| label | meaning | open |
|---|---|---|
"""
_BUCKETS: Final = """
## Buckets

| histogram | upper bounds |
|---|---|
"""


def page() -> str:
    """The text of `docs/metrics.md`."""
    return "".join((_HEAD, *_rows(), _LABELS, *_labels(), _BUCKETS, *_buckets()))


def _rows() -> Iterator[str]:
    for one in METRICS:
        unit = f" ({one.unit})" if one.unit else ""
        labels = ", ".join(label.name for label in one.labels) or "–"
        shown = ", ".join(one.sources)
        yield f"| `{one.prometheus}` | `{one.name}`{unit} | {one.kind} | {labels} | {shown} | {one.meaning} |\n"


def _labels() -> Iterator[str]:
    known: dict[str, Label] = {label.name: label for one in METRICS for label in one.labels}
    for name in sorted(known):
        yield f"| `{name}` | {known[name].meaning} | {'yes' if known[name].open else 'no'} |\n"


def _buckets() -> Iterator[str]:
    for one in METRICS:
        if one.kind is Kind.HISTOGRAM:
            yield f"| `{one.prometheus}` | {_bounds(one)} |\n"


def _bounds(metric: Metric) -> str:
    return ", ".join(f"{bound:,}" for bound in metric.buckets)


if __name__ == "__main__":
    (Path(sys.argv[1]) / NAME).write_text(page(), encoding="utf-8")
