"""Many schedules, a hundred to a flow: what `benchmarks/schedules.py` measures. Their one step does nothing."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from benchmarks.flows import first
from orchestrator import Manifest, flow

PER_FLOW: Final = 100
MOST: Final = 10_000
PER_SECOND: Final = 20
"""Ticks of all schedules together."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _made(name: str) -> Any:
    @flow(name=name)
    def timed(value: int = 1) -> int:
        return first(value)

    return timed


FLOWS: Final = {
    name: _made(name) for kind in ("timed", "burst") for name in (f"{kind}{n}" for n in range(MOST // PER_FLOW))
}
"""What the worker loads: the steps. Whoever measures registers the schedules afterwards."""
globals().update(FLOWS)


def spread(count: int) -> list[Manifest]:
    """So many schedules that fire evenly, `PER_SECOND` of them in each second."""
    interval = timedelta(seconds=max(1, count // PER_SECOND))
    return list(
        _with("timed", [{"interval": interval, "anchor": _EPOCH + n * timedelta(seconds=1)} for n in range(count)])
    )


def at_once(count: int, at: datetime) -> list[Manifest]:
    """So many schedules that fire at this second, and not again for a day."""
    return list(_with("burst", [{"interval": "1d", "anchor": at}] * count))


def _with(kind: str, rules: list[Mapping[str, Any]]) -> Iterator[Manifest]:
    for n in range(0, len(rules), PER_FLOW):
        triggers = {f"k{n + m}": {"type": "every", **rule} for m, rule in enumerate(rules[n : n + PER_FLOW])}
        manifest: Manifest = FLOWS[f"{kind}{n // PER_FLOW}"].manifest
        yield manifest.model_copy(update={"triggers": triggers})
