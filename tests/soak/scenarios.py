"""One scenario for each mutant: harmless on the engine as it is, and not on the broken one."""

import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import psycopg

from orchestrator.engine import faults
from orchestrator.engine.steps import claim_step, release
from orchestrator.engine.sweeps import sweep
from orchestrator.errors import LeaseLost
from orchestrator.settings import Settings
from orchestrator.workers.state import WorkerState
from tests.soak import mutants
from tests.soak.hands import CHAIN, LEASE, Died, Hands
from tests.support.eventually import eventually
from tests.support.race import Later

A, B, C, KEEPER = 100, 200, 300, 400
Scenario = Callable[[Hands], None]


def _step(*after: str, **fields: Any) -> dict[str, Any]:
    inputs = {"seen": [f"@steps('{key}').output" for key in after]}
    return {"type": "work", "inputs": inputs, "run_after": {key: ["succeeded"] for key in after}, **fields}


def a_paused_worker_reports_late(hands: Hands) -> None:
    """Its lease was over, another runs the step."""
    hands.start({"a": _step()})
    late = hands.take(A)
    assert late is not None
    token = hands.begin(late, A)
    hands.expire()
    hands.fault("pause", A)
    lease = hands.take(B)
    assert lease is not None
    other = hands.begin(lease, B)
    with contextlib.suppress(LeaseLost):
        hands.finish(late, token)
    with contextlib.suppress(LeaseLost):
        hands.finish(lease, other)


def two_predecessors_end_together(hands: Hands) -> None:
    """Both commits wait for the row of the join, and go on together."""
    run_id = hands.start({"a": _step(), "b": _step(), "join": _step("a", "b")})
    leases = [hands.take(A), hands.take(B)]
    held = [(lease, hands.begin(lease, pid)) for lease, pid in zip(leases, (A, B), strict=True) if lease is not None]
    with psycopg.connect(hands.url) as other:
        other.execute("SELECT FROM flow_steps WHERE run_id = %s AND step_key = 'join' FOR UPDATE", [run_id])
        both = [Later(partial(hands.finish, *one), at_end=hands.ledger.release_thread) for one in held]
        eventually(lambda: _waiting(hands.url) == 2, message="both completions wait for the join")
    for later in both:
        later.result()
    hands.drain(A)


def _waiting(url: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def a_long_transaction_chains_the_next_step(hands: Hands) -> None:
    """A transactional step took longer than a lease; the step that its completion claims has its whole lease."""
    hands.start({"a": _step(transactional=True), "b": _step("a")})
    lease = hands.take(A)
    assert lease is not None
    with hands.ledger.tx() as tx:
        tx.exec_driver_sql("INSERT INTO proof_effects VALUES (%s, 1)", (f"{lease.run_id}:a",))
        token = hands.begin(lease, A)
        ends = time.monotonic() + 1.2 * LEASE.total_seconds()
        while time.monotonic() < ends:
            time.sleep(LEASE.total_seconds() / 4)
            hands.renew(lease)
        following = hands.finish(lease, token, chain=CHAIN, tx=tx).next
    assert following is not None
    token = hands.begin(following, A)
    hands.queue += sweep.expired(hands.ledger, crash_limit=3).dispatches
    hands.drain(B)
    with contextlib.suppress(LeaseLost):
        hands.finish(following, token)


def a_stale_worker_gives_back(hands: Hands) -> None:
    """It slept between its claim and its handler, and is told to shut down when it wakes."""
    hands.start({"a": _step()})
    stale = hands.take(A)
    assert stale is not None
    hands.expire()
    hands.fault("pause", A)
    lease = hands.take(B)
    assert lease is not None
    token = hands.begin(lease, B)
    hands.queue += release.release(hands.ledger, stale)
    hands.drain(C)
    with contextlib.suppress(LeaseLost):
        hands.finish(lease, token)


def a_worker_is_quick(hands: Hands) -> None:
    """It acts on every message at once; what it finds nothing for is sent again."""
    mutants.publish[:] = [lambda dispatches: [hands.act(one, A) for one in dispatches]]
    hands.introduce()
    hands.start({"a": _step(), "b": _step("a")})
    hands.drain(A)
    _until_over(hands)


def a_message_is_lost(hands: Hands) -> None:
    """A keeper notices."""
    hands.introduce()
    hands.start({"a": _step()})
    hands.fault("messages-drop", A)
    hands.queue.clear()
    _until_over(hands)


def _until_over(hands: Hands) -> None:
    """A drain: bounded, because a mutant may never get there."""
    ends = time.monotonic() + 2.0
    while time.monotonic() < ends and hands.open_runs():
        hands.send_again()
        hands.drain(B)
        time.sleep(0.05)


def a_keeper_sleeps_over_a_dead_worker(hands: Hands) -> None:
    """It read what the dead one held; when it wakes, another worker runs that."""
    hands.start({"a": _step()})
    dead = hands.take(A)
    assert dead is not None
    hands.begin(dead, A)
    held: list[Any] = []

    def sleep() -> None:
        faults.disarm()
        hands.expire()
        hands.fault("kill", A)
        lease = hands.take(B)
        assert lease is not None
        held.append((lease, hands.begin(lease, B)))

    faults.arm("sweep.selected", sleep)
    try:
        hands.queue += release.end_owned(hands.ledger, dead.owner, crash_limit=3)
    finally:
        faults.disarm()
    hands.drain(C)
    with contextlib.suppress(LeaseLost):
        hands.finish(*held[0])


def a_duplicate_meets_a_lost_reply(hands: Hands) -> None:
    """Another worker gets the same message, and its claim's reply is lost: was it us?"""
    one, other = WorkerState(None, Settings()), WorkerState(None, Settings())
    run_id = hands.start({"a": _step()})
    message = hands.queue[0]
    lease = hands.take(A, one.owner)
    assert lease is not None
    token = hands.begin(lease, A)
    assert hands.act(message, B, other.owner) is None
    twin = claim_step.owned(hands.ledger, run_id, "a", other.owner)
    if twin is not None:
        second = hands.begin(twin, B)
        hands.finish(twin, second)
    with contextlib.suppress(LeaseLost):
        hands.finish(lease, token)


def a_loop_stops(hands: Hands) -> None:
    """One item waits for what nobody sends, the handler of another runs, and the third one fails."""
    do = {"type": "work", "inputs": {"fate": "@item().do"}, "retry": {"max_attempts": 1}}
    asked = {"signal": {"name": "go", "key": "@index()"}, "run_after": {"do": ["succeeded"]}}
    each = {"for_each": "@triggerBody().lists.each", "steps": {"do": do, "asked": asked}, "stop_on_failure": True}
    hands.start({"each": each}, each=[{"do": {}}, {"do": {}}, {"do": {"x": True}}])
    hands.do(A)
    going, failing = hands.take(A), hands.take(B)
    assert going is not None
    assert failing is not None
    token = hands.begin(going, A)
    hands.fail(failing, hands.begin(failing, B))
    with contextlib.suppress(LeaseLost):
        hands.finish(going, token)


def a_server_dies_over_a_delivery(hands: Hands) -> None:
    """Before its run is committed; the publisher sends it again."""

    def die() -> None:
        faults.disarm()
        raise Died

    faults.arm("webhook.kept", die)
    try:
        hands.deliver("evt")
    finally:
        faults.disarm()
    hands.deliver("evt")
    hands.drain(A)


def an_answer_to_a_publisher_is_lost(hands: Hands) -> None:
    """It sends the same again."""
    hands.deliver("evt")
    hands.deliver("evt")
    hands.drain(A)


SCENARIOS: Final[dict[str, Scenario]] = {
    "no fence": a_paused_worker_reports_late,
    "no join counter": two_predecessors_end_together,
    "now() for clock_timestamp()": a_long_transaction_chains_the_next_step,
    "release without version": a_stale_worker_gives_back,
    "publish before commit": a_worker_is_quick,
    "no re-dispatch": a_message_is_lost,
    "sweeper without version": a_keeper_sleeps_over_a_dead_worker,
    "owner is the host's name": a_duplicate_meets_a_lost_reply,
    "a stop spares who waits": a_loop_stops,
    "a stop takes who runs": a_loop_stops,
    "nonce before the run": a_server_dies_over_a_delivery,
    "a replay starts anew": an_answer_to_a_publisher_is_lost,
}

CAUGHT_BY: Final = {
    "no fence": {"I9"},
    "no join counter": {"I7"},
    "now() for clock_timestamp()": {"I2"},
    "release without version": {"I2"},
    "publish before commit": {"I17"},
    "no re-dispatch": {"I7", "I17"},
    "sweeper without version": {"I2"},
    "owner is the host's name": {"I2"},
    "a stop spares who waits": {"I6", "I7"},
    "a stop takes who runs": {"I6"},
    "nonce before the run": {"I7", "I15"},
    "a replay starts anew": {"I15"},
}
"""At least these invariants."""
