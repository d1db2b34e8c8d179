"""The metrics of several processes that are scraped as one."""

import threading
from collections.abc import Iterator
from typing import Final, TypeAlias

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

_Series: TypeAlias = tuple[str, str, tuple[tuple[str, str], ...]]
"""Family, sample, labels."""
_GREATEST: Final = ("_seconds", "_ratio")
"""Gauges of times and ratios are not summed."""


class Merged:
    """Sums, kept over the end of a process: a sum that fell would be taken for a restart of all, and what is left of it
    counted once more. So what one process had counted when it was last heard stays. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._families: dict[str, tuple[str, str]] = {}
        """Type and meaning."""
        self._heard: dict[int, tuple[int, dict[_Series, float]]] = {}
        self._ended: dict[_Series, float] = {}

    def hear(self, number: int, life: int, text: str) -> None:
        """What the process of this number shows. `life` is another one when it was started again."""
        values: dict[_Series, float] = {}
        with self._lock:
            for family in text_string_to_metric_families(text):
                self._families[family.name] = (family.type, family.documentation)
                for one in family.samples:
                    values[family.name, one.name, tuple(sorted(one.labels.items()))] = one.value
            before = self._heard.get(number)
            if before is not None and before[0] != life:
                self._add(self._ended, {key: value for key, value in before[1].items() if self._counts(key)})
            self._heard[number] = life, values

    def forget_gauges(self, number: int) -> None:
        """The process is not there: what it had counted stays, and how it stood is nobody's."""
        with self._lock:
            if number in self._heard:
                life, values = self._heard[number]
                self._heard[number] = life, {key: value for key, value in values.items() if self._counts(key)}

    def collect(self) -> Iterator[Family]:
        """What `prometheus_client` asks a registry for."""
        with self._lock:
            total = dict(self._ended)
            for _, values in self._heard.values():
                self._add(total, values)
            made = {name: Family(name, meaning, kind) for name, (kind, meaning) in self._families.items()}
        for (family, sample, labels), value in total.items():
            made[family].add_sample(sample, dict(labels), value)
        yield from (one for one in made.values() if one.samples)

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """As `Instruments.render`."""
        encoder, content_type = choose_encoder(accept or "")
        return encoder(self), content_type

    def _counts(self, key: _Series) -> bool:
        return self._families[key[0]][0] != "gauge"

    def _add(self, total: dict[_Series, float], values: dict[_Series, float]) -> None:
        for key, value in values.items():
            if key not in total:
                total[key] = value
            elif not self._counts(key) and key[0].endswith(_GREATEST):
                total[key] = max(total[key], value)
            else:
                total[key] += value
