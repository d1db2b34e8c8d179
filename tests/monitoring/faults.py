"""What is done to a site, which alert has to say so, and what makes it well again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from benchmarks.fill import fill
from tests.monitoring.site import QUEUES, RETENTION, Site
from tests.support.beat_process import BeatProcess
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess

PATIENCE_S: Final = 90.0


@dataclass
class Parts:
    """What faults are done to, and what replaces it."""

    site: Site
    worker: WorkerProcess
    beat: BeatProcess

    def replace_worker(self) -> None:
        """By one that serves every queue, and removes what is old. It is there before the other one ends."""
        before, self.worker = self.worker, self.site.worker(queues=QUEUES, retention=RETENTION)
        if before.alive:
            before.kill()


@dataclass(frozen=True)
class Fault:
    """`labels`: of the alert that it is about. `brings`: other alerts that are true then."""

    name: str
    alert: str
    do: Callable[[Parts], None]
    mend: Callable[[Parts], None]
    labels: Mapping[str, str] = field(default_factory=dict)
    brings: frozenset[str] = frozenset()


def _kill_worker(parts: Parts) -> None:
    parts.worker.kill()


def _start_worker(parts: Parts) -> None:
    parts.worker = parts.site.worker()


def _kill_beat(parts: Parts) -> None:
    parts.beat.kill()


def _start_beat(parts: Parts) -> None:
    parts.beat = parts.site.beat()


def _age(parts: Parts) -> None:
    """Runs that ended up to a day ago, and nobody removes."""
    fill(parts.site.settings.require_database_url().replace("+psycopg", "", 1), 20, days=1, say=lambda _: None)


def _ask_for_what_nobody_takes(parts: Parts) -> None:
    parts.site.run("lonely")


_WITHOUT_WORKERS: Final = frozenset({"CronLate", "QueueUnserved", "LeasesExpiring"})
_WITHOUT_BEATS: Final = frozenset({"CronByWatchdogOnly"})
FAULTS: Final = (
    Fault("worker killed", "WorkersNone", _kill_worker, _start_worker, brings=_WITHOUT_WORKERS),
    Fault("beat stopped", "BeatMissing", _kill_beat, _start_beat, brings=_WITHOUT_BEATS),
    Fault("queue unserved", "QueueUnserved", _ask_for_what_nobody_takes, Parts.replace_worker, {"queue": "lonely"}),
    Fault("retention stalled", "RetentionBehind", _age, Parts.replace_worker),
)


@dataclass(frozen=True)
class Told:
    """How long after the fault, and after what mended it, somebody was told; and all that was told of the alert."""

    fault: Fault
    fired_s: float
    resolved_s: float
    told: list[str]
    others: frozenset[str]


def healthy(site: Site) -> None:
    """No alert fires, and everything is scraped."""

    def check() -> bool:
        assert site.prometheus.firing() | site.receiver.open() == set()
        assert site.prometheus.query("max(floworch_exporter_up)")[0]["value"][1] == "1"
        assert site.prometheus.query("sum(max by (queues) (floworch_workers_live))")[0]["value"][1] == "1"
        assert site.prometheus.query("max(floworch_beats_live)")[0]["value"][1] == "1"
        return True

    eventually(check, timeout=PATIENCE_S, interval=0.5, message="the site is healthy")


def tried(parts: Parts, *faults: Fault) -> list[Told]:
    """Do these faults at once, until each alert has fired; then mend what they did, until each is resolved."""
    site = parts.site
    first = len(site.receiver.notices)
    began = monotonic()
    for fault in faults:
        fault.do(parts)
    fired = {fault.name: _until(site, fault, "firing", first) - began for fault in faults}
    seen = {notice.alert for notice in site.receiver.notices[first:]}
    mended = monotonic()
    for mend in dict.fromkeys(fault.mend for fault in faults):
        mend(parts)
    resolved = {fault.name: _until(site, fault, "resolved", first) - mended for fault in faults}
    expected = {one for fault in faults for one in (fault.alert, *fault.brings)}
    others = frozenset(seen - expected)
    return [
        Told(one, fired[one.name], resolved[one.name], site.receiver.statuses(one.alert, one.labels, first), others)
        for one in faults
    ]


def _until(site: Site, fault: Fault, status: str, first: int) -> float:
    eventually(
        lambda: status in site.receiver.statuses(fault.alert, fault.labels, first),
        timeout=PATIENCE_S,
        message=f"{fault.alert} is told as {status} after: {fault.name}",
    )
    return monotonic()
