"""What a duty of the keeper is, and the loop that does it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from orchestrator.core.facts import Swept
from orchestrator.workers.keeper.leader import Leader
from orchestrator.workers.state import WorkerState, turn_limit_s
from orchestrator.workers.supervised import Idle, Supervised

REST_S: Final = 0.1
"""The pause between two full pages: a large clean-up leaves room for work."""
_SOON_S: Final = 0.01


class Scope(Enum):
    """Who does a duty."""

    CLUSTER = "cluster"  # one worker for all, the leader
    WORKER = "worker"  # each worker for itself


@dataclass(frozen=True, slots=True)
class Duty:
    """One line of the keeper's table. `page` does a page of work and says what it changed; it is called every
    `every_s`, sooner when it says that more is to do. `failed` hears that it raised, `close` that the worker ended.
    `help` does a page of what the leader is behind with: one of the other workers asks for it every `help_s`. A page
    that takes longer than `page_s`, and than the ledger's time limits explain, hangs."""

    name: str
    scope: Scope
    every_s: float
    page: Callable[[], Swept]
    failed: Callable[[], None] | None = None
    close: Callable[[], None] | None = None
    help: Callable[[], Swept] | None = None
    help_s: float = 0.0
    page_s: float = 0.0


def loop_of(duty: Duty, state: WorkerState, leader: Leader) -> Supervised:
    """The thread that does the duty for ever, through every outage."""
    page = duty.page if state.metering is None else state.metering.timed(duty.name, duty.page)

    def turn() -> float:
        helps = duty.scope is Scope.CLUSTER and not leader.leads
        if helps and duty.help is None:
            return leader.ask_s if leader.answered else Idle(leader.ask_s)
        swept = duty.help() if helps and duty.help is not None else page()
        state.runtime().publisher.publish(swept.dispatches)
        if helps:
            return REST_S if swept.more else leader.pause_s(duty.help_s)
        if swept.unreadable:
            leader.resign()
        if swept.more:
            return REST_S
        return duty.every_s if swept.next_s is None else min(duty.every_s, max(_SOON_S, swept.next_s))

    limit_s = max(duty.page_s, turn_limit_s(state.settings))
    return Supervised(duty.name, turn, on_failure=duty.failed, limit_s=limit_s)
