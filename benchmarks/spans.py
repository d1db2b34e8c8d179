"""What spans cost: chains of five by a worker that makes them, and by one that does not, in turn."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from typing import Final

from benchmarks import flows
from benchmarks.alone import Ground
from benchmarks.figures import number
from benchmarks.foreseen import spent
from benchmarks.processes import ROOT
from benchmarks.report import Result
from benchmarks.workloads import Say, Sizes
from orchestrator.servers.embedded.server import HOST, free_port

_SWITCH: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"


def spans(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """CPU of all processes but the collector, a step."""
    ratios: dict[str, list[float]] = {"wall": [], "CPU": []}
    with (
        ground.ours(ground.database("untraced"), 13, "untraced") as off,
        _collected(),
        ground.ours(ground.database("traced"), 14, "traced") as on,
    ):
        for one in (off, on):
            spent(one, flows.chain, sizes.when_runs)
        for turn in range(max(sizes.rounds, 5)):
            in_turn = (off, on) if turn % 2 == 0 else (on, off)
            took = {one.name: spent(one, flows.chain, sizes.when_runs) for one in in_turn}
            for name, values in ratios.items():
                values.append(took["traced"][name] / took["untraced"][name])
            say(
                f"spans {turn + 1}: without {number(took['untraced']['CPU'])} ms of CPU a step, with "
                f"{number(took['traced']['CPU'])}: {ratios['CPU'][-1]:.3f}; wall {ratios['wall'][-1]:.3f}"
            )
    notes = [
        f"a step with spans to one without, {name}: **{median(values):.2f} times** "
        f"({min(values):.2f} to {max(values):.2f})"
        for name, values in ratios.items()
    ]
    return Result(f"Spans, {sizes.when_runs:,} chains a round", notes=notes)


@contextmanager
def _collected() -> Iterator[None]:
    """Processes that are started in this block send their spans to a collector that throws them away."""
    port = free_port()
    collector = subprocess.Popen([sys.executable, "-m", "benchmarks.spans", str(port)], cwd=ROOT)
    before = os.environ.get(_SWITCH)
    os.environ[_SWITCH] = f"http://{HOST}:{port}"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SWITCH]
        else:
            os.environ[_SWITCH] = before
        collector.kill()
        collector.wait()


class _Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer((HOST, int(sys.argv[1])), _Sink).serve_forever()
