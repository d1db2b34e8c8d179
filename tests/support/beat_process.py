"""A real beat in a process of its own, to be paused, killed, set to another time and asked about its log."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.schedules import clock
from orchestrator.settings import Settings
from tests.support.eventually import eventually
from tests.support.nursery import Forked, Nursery
from tests.support.worker_process import WorkerProcess, arm, env_of

_MAIN = "import sys, json; from tests.support.beat_process import main; sys.exit(main(json.loads(sys.argv[1])))"
_LIBRARIES = (
    os.environ.get("TEST_FAKETIME", ""),
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
)


def faketime() -> str | None:
    """The library that shows a process another time, where this machine has it."""
    return next((path for path in _LIBRARIES if path and Path(path).exists()), None)


def main(options: Mapping[str, object]) -> int:
    """What the process runs: `run_beat` with settings from the environment."""
    from orchestrator.workers.process.command import run_beat

    arm(dict(options["faults"]))  # type: ignore[call-overload]
    if options["shift_s"]:
        _shift(float(str(options["shift_s"])))
    return run_beat(Settings.from_env(os.environ), supervised=bool(options["supervised"]))


def _shift(seconds: float) -> None:
    """The beat's own idea of the time, before the ledger gave its own."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(seconds=seconds)

    clock.datetime = Shifted  # type: ignore[attr-defined, misc]


class _Beating(WorkerProcess):
    """Alone by default; `supervised` runs it below a process that starts it again."""

    def _describe(
        self,
        settings: Settings,
        folder: Path,
        *,
        name: str = "beat",
        supervised: bool = False,
        faults: Mapping[str, str] | None = None,
        shift_s: float = 0,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.log_file = folder / f"{name}.log"
        self._folder = folder
        self._env = env_of(settings, TEST_FAULT_FOLDER=str(folder), **(env or {}))
        options = {"supervised": supervised, "faults": dict(faults or {}), "shift_s": shift_s}
        self._argv = [sys.executable, "-c", _MAIN, json.dumps(options)]
        self.process = None

    @property
    def is_running(self) -> bool:
        raise NotImplementedError

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Until it leads or stands by."""
        self.wait_for("beat.leads", "beat.stands_by", timeout=timeout)

    def wait_for(self, *events: str, timeout: float = 60.0) -> None:
        """Until one of these events is in its log."""

        def seen() -> bool:
            if not self.is_running:
                raise RuntimeError(f"The beat ended:\n{self.tail()}")
            return any(event in self.log() for event in events)

        try:
            eventually(seen, timeout=timeout, message=f"the beat says {' or '.join(events)}")
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.tail()}") from None

    @property
    def leads(self) -> bool:
        """Whether it had the lock when it spoke of that last."""
        log = self.log()
        return log.rfind("beat.leads") > max(log.rfind("beat.lock_lost"), log.rfind("beat.stands_by"))


class BeatProcess(_Beating):
    """A program of its own."""

    def __init__(self, settings: Settings, folder: Path, **options: Any) -> None:
        self._describe(settings, folder, **options)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class ForkedBeat(_Beating, Forked):
    """Out of a nursery, so that it is there at once."""

    entry = "tests.support.beat_process:main"

    def __init__(self, nursery: Nursery, settings: Settings, folder: Path, **options: Any) -> None:
        self._describe(settings, folder, **options)
        self._nursery = nursery
        self._pid = 0

    @property
    def is_running(self) -> bool:
        return self.alive


Beat = BeatProcess | ForkedBeat


@contextlib.contextmanager
def beating(beat: Beat, *, ready: bool = True) -> Iterator[Beat]:
    """The beat while the block runs; killed at its end if it is still there."""
    try:
        beat.start(ready=ready)
        yield beat
    finally:
        if beat.is_running:
            beat.kill()
