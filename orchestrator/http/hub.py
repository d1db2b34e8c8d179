"""What happens, told to every reader of this process: by one thread, which has one connection to the ledger.

It looks a few times a second, and at once when a hint says that a run ended. Each look gives every event whose
transaction has ended since the one before, whatever its id, exactly once. So a place in the stream is a transaction:
all before it have ended, and were told. Whoever comes back with one is told again what some transactions after it
wrote, and misses nothing.

No place is beyond the last transaction of which something was told: that one is on the disk. A server that crashes
gives the numbers of later ones again, if those had left nothing there.
"""

import asyncio
import json
import re
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC
from time import monotonic
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError
from sse_starlette import ServerSentEvent

from orchestrator.delivery.overheard import Overheard
from orchestrator.errors import OrchestratorError
from orchestrator.http.readers import Reader, Sent, Wanted
from orchestrator.ledger import stream
from orchestrator.ledger.stream import Snapshot, Told
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.logs import log
from orchestrator.servers.diagnosis import one_line
from orchestrator.settings import Settings

EVERY_S: Final = 0.25
"""How often it looks where no hints come."""
_APART_S: Final = 0.02
"""However many hints come, looks are this far apart."""
_AWAY_S: Final = 1.0
_IDLE_S: Final = 10.0
"""Without a reader for so long, the thread ends and its connection is closed."""
_PAGE: Final = 2_000
REPLAYED: Final = 100_000
"""Events that are read again for one who comes back; if there are more, the place is lost."""
_CLOSE_S: Final = 5.0
_PLACE: Final = re.compile(r"(\d{1,19})-(\d{1,19})")


@dataclass(frozen=True, slots=True)
class Lost:
    """The place is lost: what happened before `cursor` may not have been sent, and is to be read elsewhere."""

    cursor: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Where somebody is who comes back: after `after`, an event of transaction `tx`, on the way to what had ended
    at `until`. What had not then is read in a second round, in which `before` says what the first one left open."""

    tx: int
    after: int = 0
    until: Snapshot | None = None
    before: Snapshot | None = None


@dataclass(eq=False, slots=True)
class _Ask:
    """One that comes: with a place, for what happened since; the answer to the last page lets it in."""

    reader: Reader
    place: _Place | None
    answer: "asyncio.Future[_Page]"


@dataclass(frozen=True, slots=True)
class _Page:
    sent: Sequence[Sent]
    cursor: str
    more: _Place | None = None
    """Where the next page begins; None: the reader is let in."""
    lost: bool = False


class Hub:
    """One per process and event loop. Its thread runs while somebody reads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._asks: list[_Ask] = []
        self._thread: threading.Thread | None = None
        self._closed = False
        self._overheard = Overheard(settings)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._readers: set[Reader] = set()
        """Those that are let in; for the event loop alone."""
        self._seen = Snapshot(0, 0)
        """For the thread alone: what has ended up to here was told."""
        self._last = 0
        """For the thread alone: the last transaction of which something was told."""

    async def read(
        self, wanted: Wanted, cursor: str | None, tick_s: float
    ) -> AsyncGenerator[Sequence[Sent] | Lost | str]:
        """First the cursor of where it begins; then, for ever, what happens, at least every `tick_s` (perhaps nothing),
        or that the place was lost."""
        reader = Reader(wanted)
        place = _place_of(cursor)
        try:
            page = await self._ask(reader, place)
            if page.lost or (cursor is not None and place is None):
                yield Lost(page.cursor)
            elif place is None:
                yield page.cursor
            replayed = 0
            while page.more is not None:
                yield [one for one in page.sent if wanted.has(one.told)]
                replayed += len(page.sent)
                lost = replayed >= REPLAYED
                page = await self._ask(reader, None if lost else page.more)
                if lost or page.lost:
                    yield Lost(page.cursor)
            yield [one for one in page.sent if wanted.has(one.told)]
            while True:
                found = await reader.take(tick_s)
                yield Lost(self._cursor) if found is None else found
        finally:
            self._readers.discard(reader)

    @property
    def _cursor(self) -> str:
        return f"{self._seen.low}-0"

    async def _ask(self, reader: Reader, place: _Place | None) -> _Page:
        self._loop = asyncio.get_running_loop()
        ask = _Ask(reader, place, self._loop.create_future())
        with self._lock:
            self._asks.append(ask)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="events", daemon=True)
                self._thread.start()
        self._overheard.ring()
        return await ask.answer

    def close(self) -> None:
        """End the thread, and close its connections."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._overheard.ring()
        if thread is not None:
            thread.join(_CLOSE_S)
        if thread is None or not thread.is_alive():
            self._overheard.close()

    # ---- in the thread ----

    def _run(self) -> None:
        ledger = Ledger.connect(
            self._settings.require_database_url(),
            reach=self._settings.reach(),
            pool_size=1,
            statement_timeout=self._settings.statement_timeout,
            name="orchestrator events",
        )
        try:
            self._watch(ledger)
        finally:
            ledger.close()

    def _watch(self, ledger: Ledger) -> None:
        began, away, read_at = False, False, monotonic()
        while not self._over(read_at):
            looked_at = monotonic()
            try:
                if not began:
                    stream.forget_foreign(ledger)
                    self._begin(ledger)
                    began = True
                self._look(ledger)
                self._answer(ledger)
                if away:
                    away = False
                    log.info("events.back")
            except (SQLAlchemyError, OrchestratorError) as exc:
                if not away:
                    away = True
                    log.warning("events.away", extra={"error": one_line(exc)[:500], "what": "streams stand still"})
            if self._readers:
                read_at = monotonic()
            self._overheard.wait(_AWAY_S if away else EVERY_S)
            if (early_s := looked_at + _APART_S - monotonic()) > 0:
                threading.Event().wait(early_s)

    def _over(self, read_at: float) -> bool:
        with self._lock:
            idle = not (self._asks or self._readers) and monotonic() - read_at > _IDLE_S
            if self._closed or idle:
                self._thread = None
                return True
            return False

    def _begin(self, ledger: Ledger) -> None:
        until = stream.now(ledger)
        self._last = stream.last(ledger)
        self._seen = until.up_to(self._last)

    def _look(self, ledger: Ledger) -> None:
        """Tell what has been committed since the last look."""
        before, until = self._seen, stream.now(ledger)
        if until.high < before.high:  # the server is another one, or is back at an earlier state
            self._begin(ledger)
            self._to_loop(self._all_lost)
            return
        if found := stream.ended(ledger, before, until):
            self._tell(found, before)
        place = (before.high, 0)
        while until.high > before.high:
            page = stream.since(ledger, place, until, _PAGE)
            if page:
                self._tell(page, before)
                place = (page[-1].tx, page[-1].id)
            if len(page) < _PAGE:
                break
        self._seen = until.up_to(self._last)

    def _tell(self, found: Sequence[Told], before: Snapshot) -> None:
        self._last = max(self._last, *(one.tx for one in found))
        self._to_loop(self._spread, _rendered(found, before.low))

    def _answer(self, ledger: Ledger) -> None:
        """A page to each that has come; after what was told so far, and before what will be."""
        while True:
            with self._lock:
                ask = self._asks[0] if self._asks else None
            if ask is None:
                return
            page = self._page(ledger, ask.place)  # an ask stays, if this fails
            with self._lock:
                self._asks.remove(ask)
            self._to_loop(self._let_in, ask, page)

    def _page(self, ledger: Ledger, place: _Place | None) -> _Page:
        if place is None:
            return _Page((), self._cursor)
        if place.tx > self._seen.high:  # given by another process, which looked later
            self._look(ledger)
        if place.tx > self._seen.high:
            return _Page((), self._cursor, lost=True)
        until, low = place.until or self._seen, place.tx
        found: list[Told] = []
        if place.before is not None:
            found, low = stream.ended(ledger, place.before, until), min(low, place.before.low)
        page = stream.since(ledger, (place.tx, place.after), until, _PAGE)
        more = None
        if len(page) == _PAGE:
            more = _Place(page[-1].tx, page[-1].id, until)
        elif until != self._seen:
            more = _Place(until.high, before=until)
        return _Page(_rendered(found + page, min(low, until.low)), self._cursor, more)

    def _to_loop(self, call: Any, *arguments: Any) -> None:
        """In the order in which it was said."""
        assert self._loop is not None
        if not self._closed:
            self._loop.call_soon_threadsafe(call, *arguments)

    # ---- in the event loop ----

    def _spread(self, batch: Sequence[Sent]) -> None:
        for reader in self._readers:
            reader.offer(batch)

    def _all_lost(self) -> None:
        for reader in self._readers:
            reader.lose()

    def _let_in(self, ask: _Ask, page: _Page) -> None:
        if ask.answer.cancelled():
            return
        if page.more is None:
            self._readers.add(ask.reader)
        ask.answer.set_result(page)


def _place_of(cursor: str | None) -> _Place | None:
    found = _PLACE.fullmatch(cursor) if cursor is not None else None
    return None if found is None else _Place(int(found[1]))


def _rendered(found: Sequence[Told], low: int) -> list[Sent]:
    """`low`: a transaction; everything before it was told."""
    return [Sent(one, _frame(one, f"{low}-{one.id}")) for one in found]


def _frame(told: Told, cursor: str) -> bytes:
    data = {
        "id": told.id,
        "run_id": str(told.run_id),
        "flow": told.flow,
        "at": told.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "type": told.type,
        "step": told.step_key,
        "attempt": told.attempt,
        "facts": told.facts,
    }
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return ServerSentEvent(text, event=told.type, id=cursor).encode()
