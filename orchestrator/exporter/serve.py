"""The process that is scraped."""

import signal
import threading
from collections.abc import Mapping
from dataclasses import replace

from orchestrator.core.listen_address import ListenAddress
from orchestrator.exporter.exporter import Exporter
from orchestrator.observe import logs
from orchestrator.observe.listener import Answer, Listener, Route
from orchestrator.observe.metrics.instruments import Instruments
from orchestrator.observe.metrics.metric import Source
from orchestrator.observe.metrics.process import ProcessUse
from orchestrator.settings import Settings


def serve(settings: Settings, address: ListenAddress, log_level: str | None = None) -> None:
    """Until SIGTERM or SIGINT.

    Raises:
        UsageError: the address cannot be listened on.
        SchemaBehind, Unavailable, DatabaseFailed: see `Exporter.check`.
    """
    logs.setup(log_level or settings.log_level, settings.log_format, burst=settings.log_burst)
    instruments = Instruments([Source.EXPORTER], settings.metrics_series)
    ProcessUse(instruments)
    exporter = Exporter(settings, instruments)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        exporter.check()
        listener = Listener(address, _routes(instruments, exporter), what="metrics").start()
        try:
            print(
                f"Metrics on http://{replace(address, host=address.host or 'localhost', port=listener.port)}/metrics",
                flush=True,
            )
            stopped.wait()
        finally:
            listener.close()
    finally:
        exporter.close()


def _routes(instruments: Instruments, exporter: Exporter) -> Mapping[str, Route]:
    return {
        "/metrics": lambda headers: Answer(200, *instruments.render(headers.get("Accept"))),
        "/health/liveness": lambda _: Answer.text(200, "ok"),
        "/health/readiness": lambda _: _readiness(exporter),
    }


def _readiness(exporter: Exporter) -> Answer:
    exporter.refresh()
    return Answer.text(200, "ok") if exporter.up else Answer.text(503, "the last look at the ledger did not go well")
