"""One actor at a time: threads that hand a baton back at every boundary of a transaction."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, Literal

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from orchestrator.ledger.tx import Ledger

Order = Literal["go", "lose", "finish", "poll", "fail", "heed", "die"]
_PATIENCE_S: Final = 120.0
_here: Final = threading.local()


class Died(BaseException):
    """The process is gone. Nothing below catches it for long: every later boundary raises it again."""


def cut() -> OperationalError:
    """What a client sees of a lost connection: the outcome is unknown."""
    return OperationalError("simulated", None, psycopg.OperationalError("the connection is lost"))


class Actor:
    """Somebody who acts: a pool child with a message, a duty of a keeper, a client. It stands at a boundary (`at`)
    until it is told to go on."""

    def __init__(self, stage: "Stage", name: str, pid: int, body: Callable[[], None]) -> None:
        self.name = name
        self.pid = pid
        self.at = "begin"
        self.over = False
        self.dead = False
        self.error: BaseException | None = None
        self._stage = stage
        self._body = body
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._back: queue.SimpleQueue[None] = queue.SimpleQueue()
        stage.seats.submit(self._run)

    def _run(self) -> None:
        try:
            self._take(self._orders.get())
            self._body()
        except Died:
            pass
        except BaseException as exc:
            self.error = exc
        finally:
            self.over, self.at = True, "over"
            self._back.put(None)

    def _take(self, order: Order) -> Order:
        self.dead = self.dead or order == "die"
        if self.dead:
            raise Died
        return order

    def stand(self, at: str) -> Order:
        """Called by the actor: let others act, until somebody says how it goes on."""
        if self.dead:
            raise Died
        self.at = at
        self._back.put(None)
        return self._take(self._orders.get())

    def resume(self, order: Order = "go") -> None:
        """Called by the scheduler: the actor goes on to its next boundary, or to its end."""
        assert not self.over
        before, self._stage.acting = self._stage.acting, self
        self._orders.put(order)
        try:
            self._back.get(timeout=_PATIENCE_S)
        except queue.Empty:
            raise AssertionError(f"{self.name} does not come back from {self.at!r}") from None
        finally:
            self._stage.acting = before
        if self.error is not None:
            raise self.error


class Stage:
    """Who acts now. Without an actor a boundary is nothing: the test's own queries are not scheduled."""

    def __init__(self) -> None:
        self.acting: Actor | None = None
        self.seats = ThreadPoolExecutor(max_workers=64, thread_name_prefix="seat")
        self.commits = 0
        """Transactions of actors that were committed."""

    def boundary(self, at: str) -> Order:
        """The acting actor stands here. Raises what a lost connection raises, when that is how it goes on."""
        if self.acting is None:
            return "go"
        order = self.acting.stand(at)
        if order == "lose":
            raise cut()
        return order

    def close(self) -> None:
        self.seats.shutdown(wait=True)


class StagedLedger(Ledger):
    """The product's ledger; whoever uses it stands still before each transaction and after each commit."""

    stage: Stage

    def forget(self) -> None:
        """The next history has other flows."""
        self._plans.clear()
        self.current.clear()

    @contextmanager
    def tx(self) -> Iterator[Connection]:
        self.stage.boundary("request")
        with super().tx() as connection:
            _here.holds_locks = True
            try:
                yield connection
            finally:
                _here.holds_locks = False
        self.stage.commits += 1
        self.stage.boundary("reply")

    @contextmanager
    def auto(self) -> Iterator[Connection]:
        """What a transaction reads through another connection is a part of it: whoever stood there would keep its locks
        from everybody else, for ever."""
        if getattr(_here, "holds_locks", False):
            with super().auto() as connection:
                yield connection
            return
        self.stage.boundary("request")
        with super().auto() as connection:
            yield connection
        self.stage.commits += 1
        self.stage.boundary("reply")
