"""What a newcomer meets: `orchestrator dev` with its defaults and a program that starts runs one by one, keeps 64 open
and waits for each, beside the same program with a Celery worker and its defaults."""

import time
from pathlib import Path
from typing import Any, Final

from benchmarks import cpu, flows
from benchmarks.contenders import CHAIN, Bare, succeeded
from benchmarks.cpu import Cpu
from benchmarks.processes import BenchFailed, Process
from benchmarks.report import Result
from benchmarks.window import OPEN, one_by_one
from benchmarks.workloads import Samples, Say, Sizes
from orchestrator import Client
from orchestrator.ledger import reads
from orchestrator.servers.embedded.discovery import find_running
from orchestrator.servers.here import settings_here

OURS: Final = "orchestrator dev"
_BARE: Final = "bare Celery"
_WARM: Final = 2 * OPEN


class Dev:
    """`orchestrator dev`: its servers, one worker with two children, a beat and Flower; no option but the flows."""

    name = OURS

    def __init__(self, folder: Path) -> None:
        place = folder / "dev"
        place.mkdir()
        self._process = Process("dev", ["-m", "orchestrator", "dev", "--flows", "benchmarks.flows"], {}, place)
        self._process.wait_ready(lambda: find_running(place) is not None)
        self._client = Client(settings_here({}, place))
        self._process.wait_ready(lambda: bool(reads.workers.every(self._client.ledger)))

    def plain(self, count: int) -> None:
        one_by_one(count, lambda value: self._client.start(flows.chain, value=value), succeeded)

    def cpu(self) -> Cpu:
        return cpu.together([self._process.pid], {})

    def restart(self) -> None:
        raise BenchFailed("Runs of ours did not end in time. Fix: measure on a machine that has less to do.")

    def close(self) -> None:
        self._client.close()
        self._process.stop()


def plain(broker_url: str, valkey: int, folder: Path, sizes: Sizes, say: Say) -> Result:
    """Both live through the whole of it, and are measured in turn."""
    say("plain: starting orchestrator dev and a worker of Celery's")
    dev = Dev(folder)
    try:
        bare = Bare(_BARE, broker_url, True, valkey, folder)
        try:
            return _measured([dev, bare], sizes, say)
        finally:
            bare.close()
    finally:
        dev.close()


def _measured(contenders: list[Any], sizes: Sizes, say: Say) -> Result:
    counts = {one.name: _calibrated(one, sizes.chain_s) for one in contenders}

    def measure(one: Any) -> dict[str, float]:
        count = counts[one.name]
        before, began = one.cpu(), time.perf_counter()
        one.plain(count)
        speed = count / (time.perf_counter() - began)
        spent = (one.cpu() - before).total * 1000 / (count * CHAIN)
        return {f"chain of 5, {OPEN} open, runs/s": speed, "CPU, all processes, ms per step": spent}

    samples = Samples("plain", contenders, say)
    samples.rounds(sizes.rounds, measure)
    result = samples.result(
        "As a newcomer meets it",
        f"One program, one thread: it starts chains of five one by one, keeps {OPEN} open and waits for each. "
        f"`orchestrator dev` with its defaults, log lines of each step included; its CPU has the beat's and Flower's.",
    )
    result.names = tuple(one.name for one in contenders)
    return result


def _calibrated(one: Any, seconds: float) -> int:
    """How many runs last so long."""
    one.plain(_WARM)
    began = time.perf_counter()
    one.plain(_WARM)
    return max(_WARM, int(_WARM * seconds / (time.perf_counter() - began)))
