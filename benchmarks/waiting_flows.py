"""Runs that wait for one moment: what `benchmarks/waits.py` measures. Their one step does nothing."""

from datetime import datetime

from benchmarks.flows import first
from orchestrator import after, flow, until


@flow(name="woken")
def woken(at: datetime) -> int:
    with after(until(at)):
        return first(1)
