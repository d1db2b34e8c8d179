"""What counts: the instruments of this process, or the pipe to those of the process above."""

from typing import Protocol

from orchestrator.observe.metrics.metric import Metric


class Meter(Protocol):
    """Called where something happened, so it has to be quick. Several threads may call at once."""

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Add to a counter. `labels` are the values, in the table's order."""

    def observe(self, metric: Metric, *labels: str, value: float) -> None:
        """Add a value, in the metric's unit, to a histogram."""
