"""PostgreSQL, Valkey or both are away for minutes: the workers stay, are quiet, and go on without a storm.

The long version runs on request, for OUTAGE_SECONDS (ten minutes); the short one is the same with shorter leases.
"""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Final
from uuid import UUID

import pytest

from tests.faults.outage import DEFAULTS, QUICK, Feeder, Field, Sample, Watched, epoch, field_of, table
from tests.support.eventually import eventually
from tests.support.health import live
from tests.support.nursery import Nursery

LONG_S: Final = float(os.environ.get("OUTAGE_SECONDS", "600"))
SHORT_S: Final = 12.0
FIRST_S: Final = 5.0
"""When a storm would come."""

# What the workers promise. The pauses of a keeper's loop grow to five seconds, less up to half of that at random.
PAUSE_S: Final = 2.5
EARLY: Final = 5
"""Attempts of a loop while its pauses still grow."""
LOOPS: Final = {"postgres": 10, "valkey": 3}
"""register, overruns, leader and the leader's leases, timers, deadlines, queue_timeouts, watchdog, queued, messages;
messages, probe, ticks."""
TRIES: Final = {"postgres": 1, "valkey": 2}
"""Connections asked for in one attempt."""
CLAIM_PAUSE_S: Final = 1.0
CELERY_EARLY: Final = 16
CELERY_PAUSE_S: Final = 30.0
"""The consumer's pauses grow by two seconds, sixteen times."""
CELERY_LINES: Final = 3
"""Celery's message of one attempt."""
PUBLISH_REST_S: Final = 2.0
LINES_PER_CLAIM: Final = 4
TRANSACTIONS_PER_STEP: Final = 10
NEW_PER_PROCESS: Final = 13
NEW_PER_SLOT: Final = 5
"""Connections opened at once when a server is back: the loops and the consumer; two of a slot to either server."""
MEMORY_MB: Final = 20.0
FILES: Final = 40


@pytest.mark.soak
@pytest.mark.timeout(LONG_S + 600)
@pytest.mark.parametrize("away", ["postgres", "valkey", "both"])
def test_workers_outlive_a_long_outage(
    stack: ExitStack, short_folder: Path, the_nursery: Nursery, tmp_path: Path, away: str
) -> None:
    """Every setting has its default."""
    field = field_of(stack, short_folder, tmp_path, the_nursery, DEFAULTS)
    Outage(field, away, LONG_S, every_s=2.0, look_s=10.0, backlog=100).live_through()


@pytest.mark.slow
def test_workers_outlive_an_outage_of_both_servers(
    stack: ExitStack, short_folder: Path, the_nursery: Nursery, tmp_path: Path
) -> None:
    """Leases are short, so that this outage too is longer than two of them."""
    field = field_of(stack, short_folder, tmp_path, the_nursery, QUICK)
    Outage(field, "both", SHORT_S, every_s=0.5, look_s=4.0, backlog=20).live_through()


@dataclass
class After:
    """What was counted once the servers were back."""

    returned_at: datetime
    ready: int
    """Steps that were ready then."""
    messages: int
    wanted: int
    """Those, and the steps that became ready later."""
    before: tuple[float, float]
    """Transactions and ended steps per second."""
    first: tuple[float, float]
    """The same, right after the return."""


class Outage:
    """One outage, from a steady state before it to an audited ledger after it."""

    def __init__(
        self, field: Field, away: str, length_s: float, *, every_s: float, look_s: float, backlog: int
    ) -> None:
        """`every_s`: between two starts. `look_s`: how long a steady state is looked at, and the time after.
        `backlog`: runs whose messages wait in Redis when the outage begins."""
        self.field = field
        self.arena = field.arena
        self.away = away
        self.length_s = length_s
        self.lease_s = self.arena.settings.lease.total_seconds()
        self.feeder = Feeder(self.arena.settings, every_s)
        self.every_s = every_s
        self.look_s = look_s
        self.backlog = backlog
        servers = {"postgres": field.server.embedded, "valkey": field.broker.embedded}
        self.gone = {name: server for name, server in servers.items() if server and away in (name, "both")}
        self.samples: dict[str, list[Sample]] = {watched.name: [] for watched in field.workers}
        self.began = self.returned = self.back = 0.0
        self.probes: list[float] = []
        """What answers about liveness took, all of them good."""

    def live_through(self) -> None:
        self.feeder.start()
        eventually(lambda: self.field.count("flow_runs WHERE status = 'succeeded'") >= 5, timeout=60)
        before = self._steady()
        long_run = self._long_step()
        backlog = self.arena.start_many("mix", self.backlog)
        try:
            self._go_without()
        except BaseException:
            self._start_servers()  # what cleans up needs them
            raise
        after, fed = self._come_back(before)
        runs = [*backlog, *fed]
        for run_id in [*runs, long_run]:
            self.arena.ended(run_id, timeout=2 * self.lease_s + 120)
        self._count(after)
        self._report(after, runs)
        for watched in self.field.workers:
            self._judge_quiet(watched)
            self._judge_return(watched)
        self._judge_client()
        self._judge_storm(after)
        self._judge_runs(runs, long_run)

    # ---- before, during, after ----

    def _steady(self) -> tuple[float, float]:
        before = self.field.totals()
        time.sleep(self.look_s)
        return before.rate(self.field.totals())

    def _long_step(self) -> UUID:
        """A step that runs longer than a lease, and has begun."""
        (run_id,) = self.arena.start_many("heedful", 1, seconds=1.5 * self.lease_s)
        eventually(lambda: self.arena.lines(run_id), timeout=60)
        return run_id

    def _go_without(self) -> None:
        # Before the first slot can notice: otherwise its "away" line would be missing beside its tries.
        self._sample()
        self.began = monotonic()
        for server in self.gone.values():
            server.stop(immediate=True)
        parts = max(4, round(self.length_s / 60))
        for part in range(1, parts + 1):
            self._probe_until(self.began + part * self.length_s / parts)
            self._sample()

    def _probe_until(self, until: float) -> None:
        """Each second, as a kubelet might: none is restarted."""
        while monotonic() < until:
            for watched in self.field.workers:
                said = live(watched.port)
                assert said.status == 200, f"{watched.name} says {said.body}"
                self.probes.append(said.took_s)
            time.sleep(min(1.0, max(0.0, until - monotonic())))

    def _sample(self) -> None:
        for watched in self.field.workers:
            assert watched.processes() == watched.pids, f"a process of {watched.name} ended:\n{watched.worker.tail()}"
            self.samples[watched.name].append(watched.sample())

    def _start_servers(self) -> None:
        for server in self.gone.values():
            server.start()

    def _come_back(self, before: tuple[float, float]) -> tuple[After, list[UUID]]:
        """What happened right after the return, and every run that was accepted until all works again."""
        messages = 0 if "valkey" in self.gone else self.field.messages()
        self.returned = monotonic()
        self._start_servers()
        self.back = monotonic()
        (row,) = self.arena.rows("SELECT flow_now() AS now, count(*) AS n FROM flow_steps WHERE queued")
        first = self.field.totals()
        time.sleep(max(0.0, self.back + self.look_s - monotonic()))
        rate = first.rate(self.field.totals())
        eventually(lambda: not any(one.failing_loops() for one in self.field.workers), timeout=60)
        eventually(lambda: all(self._first_step(one) is not None for one in self.field.workers), timeout=60)
        return After(row["now"], row["n"], -messages, 0, before, rate), self.feeder.stop()

    def _count(self, after: After) -> None:
        later = "SELECT count(*) AS n FROM flow_step_dispatches WHERE created_at > %s"
        after.wanted = after.ready + self.arena.rows(later, after.returned_at)[0]["n"]
        after.messages += self.field.messages()

    def _first_step(self, watched: Watched) -> float | None:
        """Seconds from the return until this worker began a step."""
        starts = [
            line.at / 1e9 - self.back
            for line in self.arena.lines()
            if line.kind == "start" and line.pid in watched.pids and line.at / 1e9 > self.returned
        ]
        return max(0.0, min(starts)) if starts else None

    # ---- the report ----

    def _report(self, after: After, runs: list[UUID]) -> None:
        print(f"\n## {' and '.join(self.gone)} away for {self.length_s:.0f} s\n")
        for watched in self.field.workers:
            print(f"{watched.name}, {len(watched.pids)} processes, {watched.slots} slots; per minute:\n")
            print(table(self._minutes(watched)), "\n")
        head = ("worker", "loops work, s", "steps run, s", "new connections", "most in 1 s", "memory, MB", "files")
        print(table([head, *(self._returned(watched) for watched in self.field.workers)]), "\n")
        ended = (
            "SELECT extract(epoch FROM max(ended_at) - %s) AS s FROM flow_runs WHERE flow = 'mix' AND created_at < %s"
        )
        (row,) = self.arena.rows(ended, after.returned_at, after.returned_at)
        during = sum(self.began < at < self.returned for at, _ in self.feeder.accepted)
        (counts,) = self.arena.rows("SELECT sum(suppressed) AS doubles FROM flow_step_dispatches")
        facts = {
            "runs": len(runs),
            "accepted during the outage": during,
            "refused": len(self.feeder.refused),
            "slowest start, s": round(self.feeder.slowest_s, 2),
            "s until what had waited had ended": round(float(row["s"]), 1),
            "steps that were ready at the return": after.ready,
            "messages from then on": after.messages,
            "steps that were ready then or later": after.wanted,
            "doubles": counts["doubles"],
            "good answers about liveness": len(self.probes),
            "slowest of them, ms": round(1000 * max(self.probes), 1),
            "attempts lost": self._lost(),
            "transactions/s before": round(after.before[0], 1),
            "steps/s before": round(after.before[1], 1),
            f"transactions/s in the first {self.look_s:.0f} s": round(after.first[0], 1),
            f"steps/s in the first {self.look_s:.0f} s": round(after.first[1], 1),
        }
        print(table([("what", "value"), *facts.items()]))

    def _minutes(self, watched: Watched) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = [
            ("until, s", "log lines", "PostgreSQL", "Valkey", "CPU, s", "memory, MB", "files")
        ]
        samples = self.samples[watched.name]
        for one, two in pairwise(samples):
            minutes = (two.at - one.at) / 60
            rates = [count / minutes for count in (two.lines - one.lines, *watched.connects(one.at, two.at))]
            cpu_s = (two.cpu_s - one.cpu_s) / minutes
            rows.append((round(two.at - self.began), *rates, cpu_s, two.memory_mb, two.files))
        return rows

    def _returned(self, watched: Watched) -> tuple[object, ...]:
        recovered = [at for at in watched.recovered() if at > epoch(self.returned)]
        loops_s = max(0.0, max(recovered) - epoch(self.back)) if recovered else 0.0
        first, last = self.samples[watched.name][0], watched.sample()
        return (
            watched.name,
            loops_s,
            self._first_step(watched),
            sum(watched.connects(self.returned, self.back + FIRST_S, served=True)),
            watched.peak(self.returned, self.back + FIRST_S),
            f"{first.memory_mb:.0f} to {last.memory_mb:.0f}",
            f"{first.files} to {last.files}",
        )

    def _lost(self) -> int:
        return self.field.count("flow_step_attempts WHERE status = 'crashed'")

    # ---- the judgement ----

    def _judge_quiet(self, watched: Watched) -> None:
        """Attempts to connect and lines in the log follow from the pauses, not from the length of a backlog."""
        first, last = self.samples[watched.name][0], self.samples[watched.name][-1]
        length_s = last.at - first.at
        lines = watched.lines()[first.lines : last.lines]
        early = [line for line in lines if ".recovered" in line]
        assert early == [], "nobody says it is over while it is not"
        claims = sum("database.away" in line for line in lines)
        failed = sum("publish.failed" in line for line in lines)
        beats = len(watched.pids) * 3 * self.lease_s / (self.arena.settings.heartbeat.total_seconds() / 4)
        consumer = CELERY_EARLY + length_s / CELERY_PAUSE_S
        loop = length_s / PAUSE_S + EARLY
        most = {
            "postgres": LOOPS["postgres"] * loop + claims * (2 * self.lease_s / CLAIM_PAUSE_S + EARLY) + beats,
            "valkey": LOOPS["valkey"] * TRIES["valkey"] * loop + consumer + TRIES["valkey"] * failed,
        }
        tried = dict(zip(most, watched.connects(first.at, last.at), strict=True))
        for name in self.gone:
            assert 0 < tried[name] <= most[name], (watched.name, name, tried, most)
        assert failed <= len(watched.pids) * (length_s / PUBLISH_REST_S + 1)
        own = [line for line in lines if not any(event in line for event in ("step.", "run.ended", "publish.failed"))]
        steps = watched.slots * LINES_PER_CLAIM * (length_s / (2 * self.lease_s) + 1)
        limit = 2 * len(LOOPS) * LOOPS["postgres"] + CELERY_LINES * consumer + steps
        assert len(own) <= limit, f"{len(own)} lines, at most {limit}:\n" + "\n".join(own[-60:])
        assert last.memory_mb - first.memory_mb <= MEMORY_MB, (watched.name, first, last)
        assert last.files - first.files <= FILES, (watched.name, first, last)

    def _judge_return(self, watched: Watched) -> None:
        assert watched.processes() == watched.pids, "every process survived"
        assert "probe.silent" not in watched.worker.log(), "nobody took a pause for a failure"
        opened = sum(watched.connects(self.returned, self.back + FIRST_S, served=True))
        assert opened <= NEW_PER_PROCESS * len(watched.pids) + NEW_PER_SLOT * watched.slots, (watched.name, opened)

    def _judge_client(self) -> None:
        """Without Redis every start is accepted; without PostgreSQL none is, and the client says so."""
        refused = self.feeder.refused
        during = sum(self.began + 1 < at < self.returned for at, _ in self.feeder.accepted)
        if "postgres" in self.gone:
            assert during == 0
            assert len(refused) >= self.length_s / self.every_s / 4
            assert all(self.began <= at <= self.back + 2 * self.every_s for at, _ in refused)
            assert all("PostgreSQL" in text and "Fix: " in text for _, text in refused)
        else:
            assert refused == []
            assert during >= self.length_s / self.every_s / 4

    def _judge_storm(self, after: After) -> None:
        assert after.messages <= after.wanted * 1.25 + 20, "each step gets its message, hardly ever two"
        transactions, steps = after.first
        assert transactions <= 2 * after.before[0] + TRANSACTIONS_PER_STEP * steps

    def _judge_runs(self, runs: list[UUID], long_run: UUID) -> None:
        """No step was lost; one that ran twice was lost with its lease or its transaction."""
        assert len(set(runs)) == self.field.count("flow_runs WHERE flow = 'mix'"), "a repeated start is one run"
        most = sum(watched.slots for watched in self.field.workers) if "postgres" in self.gone else 0
        for run_id in runs:
            self.arena.check(run_id, crashed=range(most + 1))
        assert self._lost() <= most
        kinds = [line.kind for line in self.arena.lines(long_run)]
        assert kinds == (["start", "cancelled", "start", "end"] if "postgres" in self.gone else ["start", "end"])
        self.arena.judge_all_again()
