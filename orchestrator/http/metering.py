"""What the API counts of itself: requests by their route, and what came to webhooks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from starlette.requests import Request

from orchestrator.engine.webhooks.arrival import Received
from orchestrator.errors import OrchestratorError
from orchestrator.exporter.exporter import Exporter
from orchestrator.http.problems import Refused
from orchestrator.observe import observer
from orchestrator.observe.metrics.instruments import Instruments
from orchestrator.observe.metrics.measured import Measured
from orchestrator.observe.metrics.metric import Source
from orchestrator.observe.metrics.process import ProcessUse
from orchestrator.observe.metrics.table import (
    API_REQUESTS,
    DATABASE_POOL,
    WEBHOOKS_BODY_BYTES,
    WEBHOOKS_PROCESSING,
    WEBHOOKS_RECEIVED,
    WEBHOOKS_REJECTED,
)
from orchestrator.settings import Settings

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER: Final = "OTHER"
"""A method is any word that a stranger sends."""
NO_ROUTE: Final = "none"
"""Of requests to paths that there are not."""
WAITING: Final = "?wait"
"""Behind the route of requests that asked to wait: they take as long as they were told to."""
UNKNOWN: Final = "unknown"
"""The scheme of a webhook that there is not."""


class Metering:
    """Of one process. Nobody's words become a label: routes have names of ours."""

    def __init__(self, instruments: Instruments, clock: Callable[[], float] = monotonic) -> None:
        self._instruments = instruments
        self._clock = clock

    def request(self, route: str | None, method: str, status: int, took_s: float, *, waits: bool) -> None:
        """One was answered: its first byte was sent, for streams have no end."""
        name = NO_ROUTE if route is None else f"{route}{WAITING}" if waits else route
        known = method if method in _METHODS else _OTHER
        self._instruments.observe(API_REQUESTS, name, known, f"{status // 100}xx", value=took_s)

    def delivery(self) -> "Delivery":
        """One begins to come."""
        return Delivery(self._instruments, self._clock)


class Delivery:
    """To a webhook, from its first byte on."""

    def __init__(self, instruments: Instruments, clock: Callable[[], float]) -> None:
        self._instruments = instruments
        self._clock = clock
        self._began = clock()

    def taken(self, received: Received, size_bytes: int) -> None:
        """It went through the gates, or was turned away at one."""
        self._count(received.scheme)
        self._instruments.observe(WEBHOOKS_BODY_BYTES, received.scheme, value=size_bytes)
        if received.outcome == "refused":
            gate = next((one.gate.value for one in received.verdicts if not one.passed), UNKNOWN)
            self._instruments.count(WEBHOOKS_REJECTED, received.scheme, gate)

    def failed(self, exc: Exception) -> None:
        """It did not come that far."""
        self._count(UNKNOWN)
        code = exc.code if isinstance(exc, Refused | OrchestratorError) else "error"
        self._instruments.count(WEBHOOKS_REJECTED, UNKNOWN, code)

    def _count(self, scheme: str) -> None:
        self._instruments.count(WEBHOOKS_RECEIVED, scheme)
        self._instruments.observe(WEBHOOKS_PROCESSING, scheme, value=self._clock() - self._began)


class Meters:
    """What one process of the API shows: what it counted, and the gauges of the exporter."""

    def __init__(self, settings: Settings) -> None:
        self.instruments = Instruments([Source.API, Source.EXPORTER], settings.metrics_series)
        self.metering = Metering(self.instruments)
        self._exporter = Exporter(settings, self.instruments)
        self._measured = Measured(self.instruments)
        self._connections: Callable[[], tuple[int, int]] = lambda: (0, 0)
        ProcessUse(self.instruments)
        self.instruments.before_scrape(self._look)

    def begin(self, connections: Callable[[], tuple[int, int]]) -> None:
        """Count what happens in this process from now on. `connections`: how many to the database are in use, and
        open."""
        self._connections = connections
        observer.listen(self._measured)

    def close(self) -> None:
        """Count nothing more, and give back what the exporter holds."""
        observer.unlisten(self._measured)
        self._exporter.close()

    def _look(self) -> None:
        for state, number in zip(("in_use", "size"), self._connections(), strict=True):
            self.instruments.set(DATABASE_POOL, state, value=number)


@contextmanager
def delivered(request: Request) -> Iterator[Delivery | None]:
    """Around a delivery; None: nothing is counted here. What is raised counts as turned away."""
    metering: Metering | None = request.app.state.metering
    delivery = None if metering is None else metering.delivery()
    try:
        yield delivery
    except Exception as exc:
        if delivery is not None:
            delivery.failed(exc)
        raise
