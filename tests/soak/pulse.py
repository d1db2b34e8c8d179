"""Notes when the machine itself stands still, whoever stops it: what happens meanwhile is not of the engine."""

import os
import threading
from pathlib import Path
from time import monotonic_ns
from typing import Final

from tests.proof.history import SECOND, STALL, Fault

PAUSE_S: Final = 0.1
LONG_NS: Final = SECOND
"""A quarter of a lease of the soak."""


class Pulse(threading.Thread):
    """Again and again a byte is written to the disk of the servers. When that, with the pause before it, takes long,
    it took long for all."""

    def __init__(self, folder: Path) -> None:
        super().__init__(name="pulse", daemon=True)
        self._file = folder / "pulse"
        self._over = threading.Event()
        self.stalls: list[Fault] = []

    def run(self) -> None:
        file = os.open(self._file, os.O_WRONLY | os.O_CREAT)
        try:
            before = monotonic_ns()
            while not self._over.wait(PAUSE_S):
                os.pwrite(file, b"x", 0)  # not forced to the disk, as nothing of a soak is
                now = monotonic_ns()
                if now - before > LONG_NS:
                    self.stalls.append(Fault(STALL, "machine", before, now))
                before = now
        finally:
            os.close(file)

    def stop(self) -> None:
        self._over.set()
        self.join(60)
