"""Real calls on real sessions, stopped before every statement and every commit, so that a test decides who goes on.

The gate is the cursor that the sessions of one `Ledger` are given: the product has no switch for it.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import psycopg
from psycopg import errors as pg
from sqlalchemy import Connection, event
from sqlalchemy.engine import ExceptionContext

from orchestrator.ledger import statements
from orchestrator.ledger.tx import Ledger

_here = threading.local()
PATIENCE_S: Final = 0.002
"""How long the scheduler waits for an actor before it asks whether a lock holds it up."""
STUCK_S: Final = 120.0


class SentHome(BaseException):
    """The play was broken off: nobody may keep a lock."""


@dataclass
class Actor:
    """One call in its own thread. `state` is `gate`, `running` or `done`."""

    name: str
    call: Callable[[], Any]
    changed: threading.Condition
    state: str = "running"
    at: str = ""
    pid: int = 0
    result: Any = None
    sent_home: bool = False

    def pause(self, at: str, pid: int) -> None:
        """Called in the actor's thread: wait at the gate."""
        with self.changed:
            self.state, self.at, self.pid = "gate", at, pid
            self.changed.notify_all()
            came = self.changed.wait_for(lambda: self.sent_home or self.state == "running", timeout=STUCK_S)
        if self.sent_home or not came:
            raise SentHome

    def go(self, *, home: bool = False) -> None:
        """Open the gate; `home`: only to roll back."""
        with self.changed:
            self.sent_home = home
            if self.state == "gate":
                self.state = "running"
            self.changed.notify_all()

    def play(self) -> None:
        _here.actor = self
        try:
            self.result = self.call()
        except BaseException as exc:
            self.result = exc
        finally:
            _here.actor = None
            with self.changed:
                self.state = "done"
                self.changed.notify_all()


class GatedCursor(psycopg.Cursor[Any]):
    """Stops before each statement of an actor."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        actor: Actor | None = getattr(_here, "actor", None)
        if actor is not None:
            actor.pause(_name_of(query), self.connection.info.backend_pid)
        return super().execute(query, params, **options)


def _name_of(query: Any) -> str:
    text = str(query)
    return next((name for name in statements.names() if statements.sql(name) == text), text[:30])


def _before_commit(connection: Connection) -> None:
    actor: Actor | None = getattr(_here, "actor", None)
    if actor is not None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        actor.pause("COMMIT", driver.info.backend_pid)


@dataclass
class Played:
    """What came of one interleaving."""

    results: list[Any]
    script: list[str]
    """Who did what, in order; `(waits)` when it then waited for a lock."""
    choices: list[tuple[int, int, bool]]
    """How many could have gone on, which one did, and whether the one before could have: it comes first then."""


@dataclass
class Theatre:
    """A ledger whose sessions are gated, and the threads that use it."""

    url: str
    ledger: Ledger = field(init=False)
    deadlocks: int = 0
    """Those that the engine met; it runs the loser's work again."""
    _stage: list["queue.Queue[Actor | None]"] = field(init=False, default_factory=list)
    _changed: threading.Condition = field(init=False, default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self._monitor = psycopg.connect(self.url, autocommit=True)
        self.ledger = Ledger.connect(
            self.url, pool_size=8, statement_timeout=timedelta(seconds=STUCK_S), name="theatre"
        )
        self.ledger._options["cursor_factory"] = GatedCursor
        if self._monitor.info.parameter_status("is_superuser") == "on":  # then a deadlock costs no whole second
            self.ledger._options["options"] = "-c deadlock_timeout=50ms"
        event.listen(self.ledger.engine, "commit", _before_commit)
        event.listen(self.ledger.engine, "handle_error", self._count)

    def _count(self, context: ExceptionContext) -> None:
        self.deadlocks += isinstance(context.original_exception, pg.DeadlockDetected)

    def close(self) -> None:
        for each in self._stage:
            each.put(None)
        self._monitor.close()
        self.ledger.close()

    def play(self, calls: Sequence[tuple[str, Callable[[], Any]]], choices: Sequence[int]) -> Played:
        """Let the calls go on one statement at a time, as `choices` say; where they say nothing, the first that can."""
        actors = [Actor(name, call, self._changed) for name, call in calls]
        while len(self._stage) < len(actors):
            self._stage.append(queue.Queue())
            threading.Thread(target=self._work, args=(self._stage[-1],), daemon=True).start()
        for mine, actor in zip(self._stage, actors, strict=False):
            mine.put(actor)
        try:
            return self._play(actors, choices)
        except BaseException:
            for actor in actors:
                actor.go(home=True)
            with self._changed:
                self._changed.wait_for(lambda: all(actor.state == "done" for actor in actors), STUCK_S)
            raise

    def _play(self, actors: Sequence[Actor], choices: Sequence[int]) -> Played:
        self._settle(actors)
        played = Played([], [], [])
        last: Actor | None = None
        while any(actor.state != "done" for actor in actors):
            ready = sorted((each for each in actors if each.state == "gate"), key=lambda each: each is not last)
            place = len(played.choices)
            which = choices[place] if place < len(choices) else 0
            assert which < len(ready), f"the same choices led elsewhere, as after a deadlock: {played.script}"
            played.choices.append((len(ready), which, last is ready[0]))
            last = actor = ready[which]
            at = actor.at
            actor.go()
            blocked = self._settle(actors)
            played.script.append(f"{actor.name} {at}{' (waits)' if actor in blocked else ''}")
        played.results = [actor.result for actor in actors]
        return played

    def _work(self, mine: "queue.Queue[Actor | None]") -> None:
        with self.ledger.auto() as tx:  # the connection's own first statements are not part of the play
            tx.exec_driver_sql("SELECT 1")
        while (actor := mine.get()) is not None:
            actor.play()
        self.ledger.release_thread()

    def _settle(self, actors: Sequence[Actor]) -> list[Actor]:
        """Wait until everybody is at the gate, done, or waits for a lock of one who is not running; the last of these.

        When all wait for each other, PostgreSQL ends one of them.
        """
        deadline = time.monotonic() + STUCK_S
        while True:
            assert time.monotonic() < deadline, f"nobody comes back: {self._sessions(actors)}"
            with self._changed:
                self._changed.wait_for(lambda: all(actor.state != "running" for actor in actors), PATIENCE_S)
                running = [actor for actor in actors if actor.state == "running"]
                others = any(actor.state == "gate" for actor in actors)
            if not running:
                return []
            if others and all(actor.pid for actor in running) and self._all_blocked(running, actors):
                return running

    def _sessions(self, actors: Sequence[Actor]) -> list[Any]:
        query = """SELECT pid, state, wait_event_type, wait_event, pg_blocking_pids(pid), left(query, 60)
                     FROM pg_stat_activity WHERE datname = current_database()"""
        return [[(actor.name, actor.state, actor.at, actor.pid) for actor in actors], *self._monitor.execute(query)]

    def _all_blocked(self, running: Sequence[Actor], actors: Sequence[Actor]) -> bool:
        pids = [actor.pid for actor in actors]
        rows = self._monitor.execute(
            "SELECT pid, pg_blocking_pids(pid) FROM unnest(%s::int[]) AS pid", [[actor.pid for actor in running]]
        ).fetchall()
        held = all(blockers and set(blockers) <= set(pids) for _, blockers in rows)
        with self._changed:
            return held and all(actor.state == "running" for actor in running)


def every(play: Callable[[Sequence[int]], Played], preemptions: int | None = None) -> Iterator[Played]:
    """All interleavings, each once, depth first. With `preemptions`: those in which an actor that could go on is left
    at most so often."""
    prefix: list[int] = []
    while True:
        played = play(prefix)
        yield played
        choices = played.choices
        while choices and (
            choices[-1][1] + 1 >= choices[-1][0] or (preemptions is not None and _switches(choices[:-1]) >= preemptions)
        ):
            choices.pop()
        if not choices:
            return
        prefix = [which for _, which, _ in choices]
        prefix[-1] += 1


def _switches(choices: Sequence[tuple[int, int, bool]]) -> int:
    return sum(which > 0 and could for _, which, could in choices)


@contextlib.contextmanager
def open_theatre(url: str) -> Iterator[Theatre]:
    """A theatre over this ledger."""
    theatre = Theatre(url)
    try:
        yield theatre
    finally:
        theatre.close()
