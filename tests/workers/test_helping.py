"""Workers that do not lead help with what the leader is behind with."""

import threading
from typing import cast

from orchestrator.core.facts import Dispatch, Swept
from orchestrator.settings import Settings
from orchestrator.workers.keeper.duty import Duty, Scope, loop_of
from orchestrator.workers.keeper.leader import Leader
from orchestrator.workers.state import WorkerState


class _State:
    """As much of a worker as a duty's loop needs."""

    metering, settings = None, Settings()

    def __init__(self) -> None:
        self.published: list[Dispatch] = []

    def runtime(self) -> "_State":
        return self

    @property
    def publisher(self) -> "_State":
        return self

    def publish(self, dispatches: tuple[Dispatch, ...]) -> None:
        self.published += dispatches


class _Lead:
    answered = True
    ask_s = 0.01

    def __init__(self, *, leads: bool) -> None:
        self.leads = leads

    def pause_s(self, every_s: float) -> float:
        return every_s


def test_only_the_leader_asks_and_the_others_help() -> None:
    """A full page of the one who helps is followed by another, as the leader's is."""
    for leads in (True, False):
        done: list[str] = []
        enough = threading.Event()

        def work(what: str, done: list[str] = done, enough: threading.Event = enough) -> Swept:
            done.append(what)
            if len(done) == 3:
                enough.set()
            return Swept(1, more=True)

        duty = Duty("work", Scope.CLUSTER, 60.0, lambda: work("page"), help=lambda: work("help"), help_s=60.0)
        loop = loop_of(duty, cast(WorkerState, _State()), cast(Leader, _Lead(leads=leads)))
        loop.start()
        assert enough.wait(60)
        loop.end()
        loop.join(60)
        assert set(done) == {"page" if leads else "help"}
