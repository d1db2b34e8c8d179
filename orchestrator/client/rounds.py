"""The rounds of a watcher: which of the awaited runs are read from the ledger, when, and whose wait that ends."""

import copy
import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic
from typing import Final
from uuid import UUID

from orchestrator.client.subscriptions import Subscriptions
from orchestrator.core.states import FINAL_RUN, RunStatus
from orchestrator.errors import Unavailable
from orchestrator.ledger.reads.runs import no_run

Look = Callable[[Sequence[UUID]], Mapping[UUID, RunStatus]]
"""The statuses of runs, in one statement; unknown runs are left out."""

OUTAGE_S: Final = 30.0
"""How long a wait goes on when the database is away."""
_PAGE: Final = 1000
"""The most runs in one statement."""
_HEAD_START_S: Final = 0.01
"""A run younger than this is looked at a little later: its hint comes first."""
_PATIENCE_S: Final = 0.05
"""How long a subscription may take before the run is looked at without it."""
_LINGER_S: Final = 10.0
"""Rounds go on for this long after the last wait: the next one finds its connection."""
_MISSED: Final = 2
"""After this many ends in a row without a hint, none is expected any more."""
_EARLY: Final = 1000
"""The most hints that are kept for runs whose wait begins later."""


@dataclass(frozen=True, slots=True)
class _Pace:
    """How often a run is looked at: again after this share of the time since it is known."""

    share: float
    shortest_s: float
    longest_s: float

    def pause(self, age_s: float) -> float:
        return min(max(age_s * self.share, self.shortest_s), self.longest_s)


_TOLD: Final = _Pace(1.5, 0.5, 5.0)
"""Where hints come: for those that are lost."""
_ASKED: Final = _Pace(1 / 24, 0.001, 0.5)
"""Where none come: an end is seen at most this share late."""
_ALONG: Final = 0.25
"""Whoever is due within this share of a pause is looked at in the same statement."""


@dataclass(slots=True, eq=False)
class Awaited:
    """A run that is waited for. Times are of the monotonic clock."""

    id: UUID
    known_since: float
    answered: float
    """When the ledger last spoke of it, or else the wait began."""
    futures: "list[Future[RunStatus]]" = field(default_factory=list)
    due: float = math.inf
    pause_s: float = _HEAD_START_S
    told: bool = False
    """Whether it still ran when it was subscribed to: then a hint should come before the ledger is asked."""


class Rounds:
    """The runs that are awaited, and when each is looked at next. For one thread."""

    def __init__(self, subscriptions: Subscriptions, look: Look) -> None:
        self._subscriptions = subscriptions
        self._look = look
        self._runs: dict[UUID, Awaited] = {}
        self._agenda: list[tuple[float, UUID]] = []
        """By time; an entry counts if its run is still due then."""
        self._hinted: set[UUID] = set()
        self._early: dict[UUID, None] = {}
        self._missed = 0
        self._idle_since = monotonic()

    @property
    def over(self) -> bool:
        """Whether nobody has waited for a while."""
        return not self._runs and monotonic() - self._idle_since >= _LINGER_S

    def add(self, runs: Iterable[Awaited]) -> None:
        """These are waited for, too."""
        now = monotonic()
        for run in runs:
            known = self._runs.setdefault(run.id, run)
            if known is not run:
                known.futures += run.futures
                self._plan(known, now)
                continue
            self._subscriptions.want(run.id)
            if run.id in self._early:
                self._hinted.add(run.id)
            self._plan(run, self._first(run, now))

    def leave(self, run_id: UUID, future: "Future[RunStatus]") -> None:
        """This one does not wait any more."""
        run = self._runs.get(run_id)
        if run is not None and future in run.futures:
            run.futures.remove(future)
            if not run.futures:
                self._forget(run)

    def fail(self, exc: Exception) -> None:
        """End every wait with this error."""
        for run in list(self._runs.values()):
            self._settle(run, exc)

    def turn(self) -> None:
        """Listen until something is to be done, and do it."""
        self._hear()
        self._read(self._due_now())

    def _hear(self) -> None:
        until = self._agenda[0][0] if self._agenda else self._idle_since + _LINGER_S
        wait_s = 0.0 if self._hinted else until - monotonic()
        heard = self._subscriptions.hear(wait_s)
        now = monotonic()
        if heard.lost:
            for run in self._runs.values():
                run.told = False
                self._plan(run, min(run.due, now + _ASKED.pause(now - run.known_since)))
        for run_id in heard.told:
            if run_id in self._runs:
                self._hinted.add(run_id)
            else:
                self._keep(run_id)
        for run_id in heard.stood:
            if (stood := self._runs.get(run_id)) is not None:
                self._plan(stood, self._first(stood, now))

    def _keep(self, run_id: UUID) -> None:
        self._early[run_id] = None
        if len(self._early) > _EARLY:
            del self._early[next(iter(self._early))]

    def _first(self, run: Awaited, now: float) -> float:
        """When to look first at a run, or first since it was subscribed to."""
        if self._subscriptions.stands(run.id):
            age = now - run.known_since
            return now + (_HEAD_START_S - age if age < _HEAD_START_S else _ASKED.pause(age))
        return now + _PATIENCE_S if self._subscriptions.coming else now

    def _plan(self, run: Awaited, due: float) -> None:
        if due != run.due:
            run.due = due
            heapq.heappush(self._agenda, (due, run.id))

    def _due_now(self) -> list[Awaited]:
        """Those hinted at, those whose time has come, and those whose time comes soon."""
        found = {run.id: run for run_id in self._hinted if (run := self._runs.get(run_id))}
        horizon = monotonic()
        along = 0.0
        while self._agenda and self._agenda[0][0] <= horizon + along:
            due, run_id = heapq.heappop(self._agenda)
            run = self._runs.get(run_id)
            if run is not None and run.due == due:
                found[run_id] = run
                along = along or run.pause_s * _ALONG
        return list(found.values())

    def _read(self, runs: Sequence[Awaited]) -> None:
        hinted, self._hinted = self._hinted, set()
        for page in _pages(runs):
            try:
                found = self._look([run.id for run in page])
            except Unavailable as exc:
                self._unanswered(runs, exc)
                return
            except Exception as exc:
                for run in page:
                    self._settle(run, exc)
                continue
            self._answered(page, found, hinted)

    def _answered(self, page: Sequence[Awaited], found: Mapping[UUID, RunStatus], hinted: set[UUID]) -> None:
        now = monotonic()
        for run in page:
            status = found.get(run.id)
            if status is None:
                self._settle(run, no_run(run.id))
            elif status in FINAL_RUN:
                self._count(run, told=run.id in hinted)
                self._settle(run, status)
            else:
                self._goes_on(run, now)

    def _count(self, run: Awaited, *, told: bool) -> None:
        """Count ends that no hint came for: an older release sends none, and a paused server passes none on."""
        if told:
            self._missed = 0
        elif run.told:
            self._missed += 1
            self._subscriptions.doubt()

    def _goes_on(self, run: Awaited, now: float) -> None:
        run.answered = now
        run.told = self._subscriptions.stands(run.id)
        pace = _TOLD if run.told and self._missed < _MISSED else _ASKED
        self._again(run, now, pace)

    def _again(self, run: Awaited, now: float, pace: _Pace) -> None:
        run.pause_s = pace.pause(now - run.known_since)
        self._plan(run, now + run.pause_s)

    def _unanswered(self, runs: Iterable[Awaited], exc: Unavailable) -> None:
        now = monotonic()
        for run in runs:
            if run.id not in self._runs:
                continue
            if now - run.answered > OUTAGE_S:
                self._settle(run, exc)
            else:
                self._again(run, now, _ASKED)

    def _settle(self, run: Awaited, outcome: RunStatus | Exception) -> None:
        self._forget(run)
        for future in run.futures:
            if not future.set_running_or_notify_cancel():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(_fresh(outcome))
            else:
                future.set_result(outcome)

    def _forget(self, run: Awaited) -> None:
        del self._runs[run.id]
        self._early.pop(run.id, None)
        self._subscriptions.drop(run.id)
        self._idle_since = monotonic()


def _fresh(exc: Exception) -> Exception:
    """One for each waiter: raised by several threads, the same one would gather all of their tracebacks."""
    made = copy.copy(exc)
    made.__cause__ = exc.__cause__
    return made


def _pages(runs: Sequence[Awaited]) -> Iterator[list[Awaited]]:
    rest = iter(runs)
    while page := list(islice(rest, _PAGE)):
        yield page
