"""What a process answers to Prometheus."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from orchestrator.observe.metrics.metric import Metric


class Scrape:
    """The series of one answer."""

    def __init__(self, body: bytes) -> None:
        families = text_string_to_metric_families(body.decode())
        self._samples = [sample for family in families for sample in family.samples]

    def of(self, metric: Metric, suffix: str = "", **labels: str) -> float:
        """The sum of the series of that name with these labels."""
        name = metric.prometheus + suffix
        return sum(s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items())

    @classmethod
    def at(cls, port: int) -> "Scrape":
        """Of the process that listens there."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return cls(answer.read())
