"""Twelve ways to break the engine, from outside: other text for a statement, another function, another clock.

Workers apply one when they load the flows of a soak and TEST_MUTANT names it; scenarios apply it in their own process.
"""

import re
import socket
import time
from collections.abc import Callable
from typing import Any, Final

import psycopg
import pytest

from orchestrator.core.facts import Dispatch
from orchestrator.engine.webhooks import receive
from orchestrator.ledger import rows, starts, statements
from orchestrator.workers.state import WorkerState
from tests.edge.flows import HOOKED, MUTANT, ORDERED

VARIABLE: Final = MUTANT
_FENCE: Final = r"\s+AND (?:c\.)?(?:version = %\(version\)s|owner = %\(owner\)s|expires_at IS NOT NULL)"
_STALE_COUNT: Final = "(SELECT o.deps_open FROM flow_steps o WHERE o.run_id = s.run_id AND o.step_key = s.step_key)"

Patch = Callable[[pytest.MonkeyPatch], None]


def _statements(monkeypatch: pytest.MonkeyPatch, change: Callable[[str], str], *names: str) -> None:
    """Other text under these names; every one of them must differ."""
    original = statements.sql
    wrong = {name: change(original(name)) for name in names}
    for name, text in wrong.items():
        assert text != original(name), f"the mutant of {name} is the original"
    monkeypatch.setattr(rows, "sql", lambda name: wrong.get(name) or original(name))


def _no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A completion ends whatever claim there is."""
    _statements(
        monkeypatch, lambda text: re.sub(_FENCE, "", text, count=3), "finish_mid", "finish_sink", "finish_child"
    )


def _no_join_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A completion reads how many predecessors are open, and writes one less."""
    _statements(
        monkeypatch,
        lambda text: text.replace("s.deps_open", _STALE_COUNT).replace(f"SET {_STALE_COUNT} =", "SET deps_open ="),
        "finish_mid",
    )


def _release_without_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Giving back ends whoever's claim."""
    _statements(monkeypatch, lambda text: re.sub(_FENCE, "", text, count=2), "release")


def _no_redispatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost messages stay lost."""
    _statements(monkeypatch, lambda text: text.replace("LIMIT %(missing)s", "LIMIT 0 * %(missing)s::int"), "lost")


def _sweeper_without_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead worker's steps are put back without asking whose they are by now."""
    names = "JOIN flow_step_claims c USING (run_id, step_key, version)"
    _statements(monkeypatch, lambda text: text.replace(names, names.replace(", version", "")), "requeue_lost")


def _publish_before_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start sends its messages, and then commits."""
    original = starts.start

    def start(connection: Any, plan: Any, new: Any, **options: Any) -> Any:
        roots = [node for node in plan.roots() if node.plain]
        early([Dispatch(one.id, node.key, 1, node.task, node.queue, node.priority) for one in new for node in roots])
        time.sleep(0.1)
        return original(connection, plan, new, **options)

    monkeypatch.setattr(starts, "start", start)


def _host_as_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker of a machine has the same name."""
    monkeypatch.setattr(WorkerState, "owner", property(lambda self: socket.gethostname()))


def _stop_spares_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that stops at a failure leaves alone what only waits."""
    _stop(monkeypatch, "'blocked', 'ready'")


def _stop_takes_who_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends steps under their handlers, too."""
    _stop(monkeypatch, "'blocked', 'ready', 'waiting', 'running'")


def _stop(monkeypatch: pytest.MonkeyPatch, taken: str) -> None:
    idle = "'blocked', 'ready', 'waiting'"
    _statements(monkeypatch, lambda text: text.replace(idle, taken), "stop_loop", "stop_inside")


def _nonce_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a delivery is known by is committed first, and then its run."""
    original = receive._known

    def known(arrived: Any, tx: Any, run_id: Any) -> Any:
        with arrived.ledger.tx() as own:
            found = original(arrived, own, run_id)
        time.sleep(0.1)
        return found

    monkeypatch.setattr(receive, "_known", known)


def _replay_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery that is known starts another run."""
    monkeypatch.setattr(receive, "_known", lambda arrived, tx, run_id: None)


def _nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is done elsewhere."""


publish: list[Callable[[list[Any]], object]] = []
"""Where a start that publishes too early sends to: whoever starts runs puts it here."""


def early(dispatches: list[Any]) -> None:
    for send in publish:
        send(dispatches)


MUTANTS: Final[dict[str, Patch]] = {
    "no fence": _no_fence,
    "no join counter": _no_join_counter,
    "now() for clock_timestamp()": _nothing,
    "release without version": _release_without_version,
    "publish before commit": _publish_before_commit,
    "no re-dispatch": _no_redispatch,
    "sweeper without version": _sweeper_without_version,
    "owner is the host's name": _host_as_owner,
    "a stop spares who waits": _stop_spares_who_waits,
    "a stop takes who runs": _stop_takes_who_runs,
    "nonce before the run": _nonce_before_the_run,
    "a replay starts anew": _replay_starts_anew,
}
FAULTS: Final[dict[str, tuple[str, ...]]] = {
    "no fence": ("pause", "pause-child"),
    "no join counter": (),
    "now() for clock_timestamp()": ("pause",),
    "release without version": ("deploy-asleep",),
    "publish before commit": (),
    "no re-dispatch": ("messages-drop", "broker-flush"),
    "sweeper without version": ("kill-child", "pause", "link-database-swallow"),
    "owner is the host's name": ("kill-child", "messages-duplicate", "link-database-swallow"),
    "a stop spares who waits": ("messages-drop",),
    "a stop takes who runs": ("messages-drop",),
    "nonce before the run": ("api-kill", "api-kill-all", "postgres-restart"),
    "a replay starts anew": ("api-kill", "api-link-swallow"),
}
"""What a soak of it is tormented with; nothing named is everything."""
EDGE: Final = (HOOKED, ORDERED)
"""Where these are started alone, by HTTP too."""
LOADS: Final[dict[str, tuple[str, ...]]] = {
    "now() for clock_timestamp()": ("long_pay",),
    "release without version": ("long_work",),
    "a stop spares who waits": ("cut_short",),
    "a stop takes who runs": ("cut_short",),
    "nonce before the run": EDGE,
    "a replay starts anew": EDGE,
}
"""The flows that clients start in a soak of it; nothing named is all of them."""
SIGNS: Final[dict[str, frozenset[str]]] = {
    "no fence": frozenset({"I3", "I4", "I9", "I10"}),
    "no join counter": frozenset({"I7"}),
    "now() for clock_timestamp()": frozenset({"I2"}),
    "release without version": frozenset({"I2", "I3", "I4", "I6"}),
    "publish before commit": frozenset({"I17"}),
    "no re-dispatch": frozenset({"I7"}),
    "sweeper without version": frozenset({"I2"}),
    "owner is the host's name": frozenset({"I2", "I3"}),
    "a stop spares who waits": frozenset({"I6"}),
    "a stop takes who runs": frozenset({"I6"}),
    "nonce before the run": frozenset({"I7", "I15"}),
    "a replay starts anew": frozenset({"I15"}),
}
"""The invariants that this very mutant breaks in a soak: another violation would not mean that it was caught."""
STALE_CLOCK: Final = "now() for clock_timestamp()"


def apply(name: str, monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Break this process; for good, unless a monkeypatch undoes it."""
    MUTANTS[name](monkeypatch or pytest.MonkeyPatch())


def stop_clock(url: str) -> None:
    """The ledger's clock stands still within a transaction."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE OR REPLACE FUNCTION flow_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE"
            " AS 'SELECT now()'"
        )
