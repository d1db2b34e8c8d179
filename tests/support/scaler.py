"""As Kubernetes scales, in seconds instead of minutes: KEDA asks for a number, the autoscaler follows it by its rules,
and the kubelet starts and ends processes."""

import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from random import Random
from time import monotonic
from typing import Any

from tests.support.nursery import alive
from tests.support.worker_process import WorkerProcess

_EVERY_S = 0.5
_TARGET = 1
"""The `targetValue` of the trigger, an `AverageValue`: then as many are wanted as the metric says."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found, and how many processes there were after it; `told`: others that were to stop."""

    asked: Mapping[str, Any]
    replicas: int
    told: int


@dataclass
class Scaler:
    """`ask`: the answer of the endpoint. `start`: one more process. It goes up at once, and down by one process in each
    `period_s`, to the most that was wanted within `window_s`. Which one goes, chance decides, as with a ReplicaSet,
    which knows nothing of what runs. It gets SIGTERM, and after `grace_s` SIGKILL, with all below it."""

    ask: Callable[[], Mapping[str, Any]]
    start: Callable[[], WorkerProcess]
    window_s: float
    period_s: float
    grace_s: float
    chance: Random
    pods: list[WorkerProcess] = field(default_factory=list)
    stopping: dict[int, tuple[float, WorkerProcess]] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    killed: int = 0
    _wanted: list[tuple[float, int]] = field(default_factory=list)
    _stepped_at: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until `end`."""
        while not self._ended.wait(_EVERY_S):
            self.turn()

    def end(self) -> None:
        self._ended.set()

    def turn(self) -> None:
        """One look, and what follows from it."""
        now, asked = monotonic(), self.ask()
        self.pods = [pod for pod in self.pods if pod.alive]
        wanted = ceil(asked["replicas"] / _TARGET)
        self._wanted = [(at, count) for at, count in self._wanted if at > now - self.window_s] + [(now, wanted)]
        steady = max(count for _, count in self._wanted)
        while len(self.pods) < wanted:
            self.pods.append(self.start())
        if len(self.pods) > steady and now - self._stepped_at >= self.period_s:
            self._stepped_at = now
            self._stop(self.pods.pop(self.chance.randrange(len(self.pods))), now)
        self._bury(now)
        self.looks.append(Look(asked, len(self.pods), len(self.stopping)))

    def _stop(self, pod: WorkerProcess, now: float) -> None:
        os.kill(pod.pid, signal.SIGTERM)
        self.stopping[pod.pid] = now + self.grace_s, pod

    def _bury(self, now: float) -> None:
        for pid, (until, pod) in list(self.stopping.items()):
            if alive(pid) and now < until:
                continue
            self.killed += alive(pid)
            pod.kill()
            del self.stopping[pid]
