"""What people, workers and keepers do to one run, each a real call of the engine, with the steps that it needs."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from orchestrator.core.facts import Chain, Claimant, Failure, Lease, LeaseBeat, StartRequest, Success
from orchestrator.core.settling import Settle
from orchestrator.engine.runs import cancel_run, rerun, start_run
from orchestrator.engine.runs.rerun import Again
from orchestrator.engine.steps import claim_step, fail_step, finish_step, release, renew, retry_step, settle_step
from orchestrator.engine.sweeps import sweep
from orchestrator.ledger.tx import Ledger
from tests.support.factories import BOOM, LEASE, Lab, after, call, loop, retry

GRACE: Final = timedelta(seconds=10)
CRASH_LIMIT: Final = 3
PIECES: Final[Mapping[str, Mapping[str, Any]]] = {
    "join": {"a": call(retry=retry(2, 1)), "b": call(), "join": after("a", "b")},
    "ready": {"d": call(queue_timeout="PT10S")},
    "sink": {"s": call()},
    "open": {"h": call(), "i": loop("@steps('h').output"), "j": after("i")},
    "loop": {"e": loop([0, 1]), "k": after("e")},
    "last": {"l": loop([0, 1])},
    "window": {"w": loop([0, 1, 2], concurrency=2)},
    "failed": {"f": call(), "g": after("f")},
    "parked": {"p": call(retry=retry(3, 1))},
}
"""Steps by name; `set_up` brings each into the state that its acts begin in."""
HELD: Final = {
    "join": ("a", "b"),
    "sink": ("s",),
    "open": ("h",),
    "loop": ("e.0.do", "e.1.do"),
    "last": ("l.1.do",),
    "window": ("w.0.do", "w.1.do"),
}


@dataclass
class Scene:
    """A run, and the leases that workers hold on it."""

    lab: Lab
    run_id: UUID
    held: dict[str, Lease] = field(default_factory=dict)


def set_up(lab: Lab, pieces: set[str], *, late: bool) -> Scene:
    """A run of these pieces. `late`: every lease has run out, and every other time too."""
    steps = {key: step for name in sorted(pieces) for key, step in PIECES[name].items()}
    scene = Scene(lab, lab.run(steps or PIECES["ready"]))
    for name in sorted(pieces):
        for key in HELD.get(name, ()):
            scene.held[key] = lab.take(scene.run_id, key, owner=f"host/1/{key}")
    if "failed" in pieces:
        lab.do_fail(scene.run_id, "f")
    if "last" in pieces:
        lab.do_fail(scene.run_id, "l.0.do")
    if "parked" in pieces:
        lab.fail(lab.take(scene.run_id, "p"))
    if late:
        lab.forward(LEASE * 2)
    return scene


@dataclass(frozen=True)
class Act:
    """`late`: it is about something that is overdue."""

    name: str
    needs: str | None
    do: Callable[[Ledger, Scene], Any]
    late: bool = False


def _finish(key: str, *, chain: bool = False, output: Any = None) -> Callable[[Ledger, Scene], Any]:
    def do(ledger: Ledger, scene: Scene) -> Any:
        lease = scene.held[key]
        offer = Chain(LEASE, frozenset({lease.task})) if chain else None
        return finish_step.finish(ledger, lease, Success(json.dumps(output or key), chain=offer))

    return do


def _fail(key: str, *, retryable: bool) -> Callable[[Ledger, Scene], Any]:
    return lambda ledger, scene: fail_step.fail(ledger, scene.held[key], Failure(BOOM, retryable))


def _renew(ledger: Ledger, scene: Scene) -> Any:
    lease = scene.held["a"]
    return renew.renew(ledger, [LeaseBeat(lease.run_id, lease.step_key, lease.fence)], LEASE)


def _claim(owner: str) -> Callable[[Ledger, Scene], Any]:
    return lambda ledger, scene: claim_step.claim(ledger, scene.run_id, "d", 1, Claimant(owner, LEASE))


def _start(body: str) -> Callable[[Ledger, Scene], Any]:
    return lambda ledger, scene: start_run.start(ledger, [StartRequest("demo", body, key="k")])


def _settle(key: str, output: str | None) -> Callable[[Ledger, Scene], Any]:
    return lambda ledger, scene: settle_step.settle(ledger, Settle(scene.run_id, key, "op", "by hand", output))


def _cancel(ledger: Ledger, scene: Scene) -> Any:
    return cancel_run.cancel(ledger, scene.run_id, by="op", reason="enough", grace=GRACE)


ACTS: Final = {
    act.name: act
    for act in (
        Act("claim", "ready", _claim("host/1/x")),
        Act("claim2", "ready", _claim("host/2/x")),
        Act("finish_a", "join", _finish("a", chain=True)),
        Act("again_a", "join", _finish("a")),
        Act("finish_b", "join", _finish("b")),
        Act("fail_a", "join", _fail("a", retryable=False)),
        Act("back_off_a", "join", _fail("a", retryable=True)),
        Act("renew_a", "join", _renew),
        Act("release_a", "join", lambda ledger, scene: release.release(ledger, scene.held["a"])),
        Act("sink", "sink", _finish("s")),
        Act("open", "open", _finish("h", chain=True, output=[0, 1])),
        Act("child_0", "loop", _finish("e.0.do", chain=True)),
        Act("child_1", "loop", _finish("e.1.do")),
        Act("child_1_fails", "loop", _fail("e.1.do", retryable=False)),
        Act("last_child", "last", _finish("l.1.do")),
        Act("window_0", "window", _finish("w.0.do", chain=True)),
        Act("window_1", "window", _finish("w.1.do")),
        Act("window_1_fails", "window", _fail("w.1.do", retryable=False)),
        Act("sweep", None, lambda ledger, scene: sweep.expired(ledger, crash_limit=CRASH_LIMIT), late=True),
        Act("sweep2", None, lambda ledger, scene: sweep.expired(ledger, crash_limit=CRASH_LIMIT), late=True),
        Act("due", "parked", lambda ledger, scene: sweep.due(ledger), late=True),
        Act("due2", "parked", lambda ledger, scene: sweep.due(ledger), late=True),
        Act("queue_timeout", "ready", lambda ledger, scene: sweep.queue_timeouts(ledger), late=True),
        Act("cancel", None, _cancel),
        Act("cancel2", None, _cancel),
        Act("retry", "failed", lambda ledger, scene: retry_step.retry(ledger, scene.run_id, "f", by="op")),
        Act("retry_all", "failed", lambda ledger, scene: retry_step.retry(ledger, scene.run_id, None, by="op")),
        Act("skip", "ready", _settle("d", None)),
        Act("mark", "ready", _settle("d", '"by hand"')),
        Act("skip_join", "join", _settle("join", None)),
        Act("mark_join", "join", _settle("join", '"by hand"')),
        Act("mark_parked", "parked", _settle("p", '"by hand"'), late=True),
        Act("mark_failed", "failed", _settle("f", '"by hand"')),
        Act("skip_failed", "failed", _settle("f", None)),
        Act("rerun", None, lambda ledger, scene: rerun.start(ledger, Again(scene.run_id), by="op")),
        Act("start", None, _start('{"n": 1}')),
        Act("start2", None, _start('{"n": 1}')),
        Act("start_other", None, _start('{"n": 2}')),
    )
}
