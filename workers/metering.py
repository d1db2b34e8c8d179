"""Where a worker's metrics are counted: its main process alone has instruments, and pool children report to it."""

from collections.abc import Callable, Sequence
from time import monotonic, time
from typing import TYPE_CHECKING, TypeVar

from orchestrator import forks
from orchestrator.observe import observer
from orchestrator.observe.listener import Answer, Headers
from orchestrator.observe.metrics.measured import Measured
from orchestrator.observe.metrics.metric import Source
from orchestrator.observe.metrics.reports import Pipe
from orchestrator.observe.metrics.table import DATABASE_POOL, KEEPER_LAST_PASS, KEEPER_PASS
from orchestrator.observe.observer import Observer

if TYPE_CHECKING:
    from orchestrator.observe.metrics.instruments import Instruments

T = TypeVar("T")


class Metering:
    """Made before the pool is forked; `begin` is called in the main process after that, `become_child` in each child.
    A process that a handler forks counts nothing."""

    def __init__(self, sources: Sequence[Source], max_series: int, *, prefork: bool = False) -> None:
        self._sources = sources
        self._max_series = max_series
        self._pipe = Pipe() if prefork else None
        self._listening: Observer | None = None
        self.instruments: Instruments | None = None
        """In the main process, once it began."""
        forks.watch(self)

    def begin(self, connections: Callable[[], tuple[int, int]]) -> None:
        """Make the instruments, and count in them what happens from now on,
        `connections`: how many to the database are in use, and open."""
        from orchestrator.observe.metrics.instruments import Instruments  # no child pays for its imports
        from orchestrator.observe.metrics.process import ProcessUse

        made = self.instruments = Instruments(self._sources, self._max_series)
        ProcessUse(made)
        self._listen(Measured(made))
        if self._pipe is not None:
            self._pipe.read_into(made)

        def look() -> None:
            for state, number in zip(("in_use", "size"), connections(), strict=True):
                made.set(DATABASE_POOL, state, value=number)

        made.before_scrape(look)

    def timed(self, loop: str, work: Callable[[], T]) -> Callable[[], T]:
        """The same work, whose passes are measured."""
        made = self.instruments
        assert made is not None

        def measured() -> T:
            began = monotonic()
            done = work()
            made.observe(KEEPER_PASS, loop, value=monotonic() - began)
            made.set(KEEPER_LAST_PASS, loop, value=time())
            return done

        return measured

    def become_child(self) -> None:
        """In a new pool child."""
        if self._pipe is not None:
            self._listen(Measured(self._pipe.reporter()))

    def after_fork(self) -> None:
        """See `forks.Forked`: the instruments' locks are the parent's."""
        forks.inherited(self.instruments)
        self.instruments = None
        self._listen(None)

    def answer(self, headers: Headers) -> Answer:
        """To a scrape: nothing before `begin`."""
        if self.instruments is None:
            return Answer(200, b"")
        body, content_type = self.instruments.render(headers["Accept"])
        return Answer(200, body, content_type)

    def close(self) -> None:
        """The worker ended."""
        self._listen(None)
        if self._pipe is not None:
            self._pipe.close()

    def _listen(self, listening: Observer | None) -> None:
        if self._listening is not None:
            observer.unlisten(self._listening)
        self._listening = listening
        if listening is not None:
            observer.listen(listening)
