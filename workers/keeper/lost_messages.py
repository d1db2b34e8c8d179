"""Compares what the ledger expects in Redis with what is there, and sends again what is missing."""

from dataclasses import replace
from time import monotonic
from typing import Any, Final

from orchestrator.core.facts import Swept
from orchestrator.engine.sweeps import redispatch
from orchestrator.ledger.dispatches import Lost, Patience, Search
from orchestrator.observe.logs import log
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState

_PAGE: Final = 500
_ROUNDS: Final = 20
"""At most this many pages of one list in one go: ten thousand messages; the rest follows in the next sweep."""
_RECOUNT_S: Final = 600.0
"""A list that holds as many messages as are counted keeps its workers busy. To see whether a longer one lacks some
takes a count of the whole backlog, which is made this often; the longest wait for a lost message is as long."""

_Place = tuple[str, str]
"""A queue, and one of its lists."""


class LostMessages:
    """The redispatch rule."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._settings = state.settings
        self._connection: Any = None
        self._queues: set[str] = set()
        self._recount = 0.0
        self._searches: dict[_Place, Search] = {}

    def duty(self) -> Duty:
        """Every sweep."""
        return Duty(
            "messages", Scope.CLUSTER, self._settings.sweep_interval.total_seconds(), self.sweep, close=self.close
        )

    def sweep(self) -> Swept:
        """Per list of Redis: first its length, then the ledger's count; what moves in between is not missed."""
        depths = self._depths(self._queues | set(self._state.app.amqp.queues.consume_from))
        ledger = self._state.runtime().ledger
        outstanding = redispatch.outstanding(ledger)
        self._queues = {queue for queue, _ in outstanding}  # another flow's queue is measured from the next sweep on
        lists = {place: found for place, found in self._lists(outstanding).items() if place[1] in depths}
        deep = {place for place, (_, expected) in lists.items() if redispatch.WINDOW <= expected <= depths[place[1]]}
        if deep and self._recount <= monotonic():
            counted = self._lists(redispatch.outstanding_in_all(ledger))
            lists, deep = {place: counted[place] for place in lists if place in counted}, set()
            self._recount = monotonic() + _RECOUNT_S
        begun, self._searches = self._searches, {}
        for place, (priorities, expected) in lists.items():
            before = begun.get(place)
            if place in deep:  # nobody knows whether anything is missing: what was known is looked for to the end
                search = before
            else:
                missing = expected - depths[place[1]]
                search = Search(place[0], priorities, missing, before.begin if before is not None else None)
            if search is not None and search.missing > 0:
                self._send_again(place, search)
        return Swept()

    def _lists(self, outstanding: dict[tuple[str, int], int]) -> dict[_Place, tuple[list[int], int]]:
        """By queue and Redis list: the priorities that share it, and how many messages it should hold."""
        lists: dict[_Place, tuple[list[int], int]] = {}
        for (queue, priority), count in outstanding.items():
            place = (queue, self._channel()._q_for_pri(queue, priority))
            priorities, expected = lists.get(place, ([], 0))
            lists[place] = ([*priorities, priority], expected + count)
        return lists

    def close(self) -> None:
        if self._connection is not None:
            self._connection.release()
            self._connection = None

    def _send_again(self, place: _Place, search: Search) -> None:
        """A look at the next part of a list. Where it ends, and how many are still missing, is kept for the next sweep:
        a backlog that nobody can run would otherwise be read in each one, and hide what is behind it."""
        for _ in range(_ROUNDS):
            # A page counts as sent once it is taken, and would wait as long again: none is taken that cannot be sent.
            if search.missing <= 0 or self._state.runtime().publisher.resting:
                break
            lost, wanted = self._page(search), min(search.missing, _PAGE)
            search = replace(search, missing=search.missing - len(lost.dispatches))
            if len(lost.dispatches) < wanted:
                if lost.begin is None:  # the end of the list: the next sweep begins with the oldest
                    return
                search = replace(search, begin=lost.begin)
                break
        self._searches[place] = search

    def _page(self, search: Search) -> Lost:
        runtime, settings = self._state.runtime(), self._settings
        patience = Patience(
            after=settings.redispatch_after,
            unpublished_after=min(settings.sweep_interval, settings.redispatch_after),
            worker_ttl=settings.worker_ttl,
        )
        lost = redispatch.lost(runtime.ledger, search, patience, page=_PAGE)
        if lost.dispatches:
            log.info("dispatch.again", extra={"queue": search.queue, "count": len(lost.dispatches)})
            runtime.publisher.publish(lost.dispatches, again=True)
        return lost

    def _channel(self) -> Any:
        if self._connection is None:
            self._connection = self._state.app.connection_for_write()
        return self._connection.default_channel

    def _depths(self, queues: set[str]) -> dict[str, int]:
        try:
            channel = self._channel()
            keys = [channel._q_for_pri(queue, step) for queue in sorted(queues) for step in channel.priority_steps]
            with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.llen(key)  # the key prefix is added by the client
                return dict(zip(keys, map(int, pipe.execute()), strict=True))
        except Exception:
            self.close()
            raise
