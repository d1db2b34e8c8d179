"""Compares what the ledger expects in Redis with what is there, and sends again what is missing."""

from time import monotonic
from typing import Any, Final

from orchestrator.core.facts import Swept
from orchestrator.engine.sweeps import redispatch
from orchestrator.ledger.dispatches import Patience
from orchestrator.observe.logs import log
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState

_PAGE: Final = 500
_ROUNDS: Final = 20
"""At most this many pages of one list in one go: ten thousand messages; the rest follows in the next sweep."""
_RECOUNT_S: Final = 600.0
"""A list that holds as many messages as are counted keeps its workers busy. To see whether a longer one lacks some
takes a count of the whole backlog, which is made this often; the longest wait for a lost message is as long."""


class LostMessages:
    """The redispatch rule."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._settings = state.settings
        self._connection: Any = None
        self._queues: set[str] = set()
        self._recount = 0.0

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
        lists = self._lists(outstanding)
        if self._recount <= monotonic() and any(
            key in depths and redispatch.WINDOW <= expected <= depths[key] for (_, key), (_, expected) in lists.items()
        ):
            lists = self._lists(redispatch.outstanding_in_all(ledger))
            self._recount = monotonic() + _RECOUNT_S
        for (queue, key), (priorities, expected) in lists.items():
            if key in depths:
                self._send_again(queue, priorities, expected - depths[key])
        return Swept()

    def _lists(self, outstanding: dict[tuple[str, int], int]) -> dict[tuple[str, str], tuple[list[int], int]]:
        """By queue and Redis list: the priorities that share it, and how many messages it should hold."""
        lists: dict[tuple[str, str], tuple[list[int], int]] = {}
        for (queue, priority), count in outstanding.items():
            place = (queue, self._channel()._q_for_pri(queue, priority))
            priorities, expected = lists.get(place, ([], 0))
            lists[place] = ([*priorities, priority], expected + count)
        return lists

    def close(self) -> None:
        if self._connection is not None:
            self._connection.release()
            self._connection = None

    def _send_again(self, queue: str, priorities: list[int], missing: int) -> None:
        for _ in range(_ROUNDS):
            # A page counts as sent once it is taken, and would wait as long again: none is taken that cannot be sent.
            if missing <= 0 or self._state.runtime().publisher.resting:
                return
            sent = self._page(queue, priorities, min(missing, _PAGE))
            missing -= sent
            if sent < _PAGE:
                return
        self._recount = 0.0  # more is missing than one sweep sends

    def _page(self, queue: str, priorities: list[int], missing: int) -> int:
        runtime, settings = self._state.runtime(), self._settings
        lost = redispatch.lost(
            runtime.ledger,
            queue,
            priorities,
            missing,
            Patience(
                after=settings.redispatch_after,
                unpublished_after=min(settings.sweep_interval, settings.redispatch_after),
                worker_ttl=settings.worker_ttl,
            ),
            page=_PAGE,
        )
        if lost:
            log.info("dispatch.again", extra={"queue": queue, "count": len(lost)})
            runtime.publisher.publish(lost, again=True)
        return len(lost)

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
