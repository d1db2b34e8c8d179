"""What is held against a history that is over."""

from typing import Final

from tests.proof import recorder
from tests.proof.checker import check
from tests.proof.executions import claim_of, status_at
from tests.proof.history import LOST, SECOND, History, Limits
from tests.proof.verdict import Violation
from tests.simulation.world import World

_LIMITS: Final = Limits(crash_limit=2, grace_ns=15 * SECOND, slack_ns=SECOND // 1000)
_ONE_CLOCK: Final = recorder.Offset(0, 0)
_QUEUE_TIMEOUT: Final = "no worker claimed it within its queue_timeout"


def history_of(world: World) -> History:
    """As the checker knows it."""
    url, people = world.arena.url, world.people
    return History(
        invocations=tuple(world.invocations.values()),
        calls=tuple(people.calls),
        faults=tuple(world.faults),
        changes=tuple(recorder.changes(url, _ONE_CLOCK)),
        messages=tuple(world.messages),
        final=recorder.final_rows(url, _ONE_CLOCK),
        manifests=recorder.manifests(url),
        effects=recorder.effects(url),
        limits=_LIMITS,
        ended_ns=world.arena.now_ns(),
    )


def violations(history: History) -> list[Violation]:
    """What the checker says, but for three things that it has no word for."""
    meant = (_unstarted, _on_its_way, _late_start)
    return [one for one in check(history).violations if not any(why(history, one) for why in meant)]


def _unstarted(history: History, one: Violation) -> bool:
    """A step that failed by its queue timeout: whether it does is not in its fate."""
    changes = history.at("flow_steps", (one.run_id, one.step_key))
    return one.invariant == "I5" and any(change.row.get("reason", "").startswith(_QUEUE_TIMEOUT) for change in changes)


def _on_its_way(history: History, one: Violation) -> bool:
    """A step that was on its way already when an operator retried a predecessor whose end it takes up: it stays so."""
    epochs = [change for change in history.at("flow_runs", (one.run_id, "")) if change.new["epoch"] > 1]
    moving = any(status_at(history, (one.run_id, one.step_key), epoch) in ("ready", "waiting") for epoch in epochs)
    return one.invariant == "I6" and one.sentence.startswith("it begins while") and moving


def _late_start(history: History, one: Violation) -> bool:
    """A handler whose claim was lost, for a reason that I2 has asked for, before the worker woke up and started it: it
    may come after the attempt that took its place."""
    if one.invariant != "I2" or " lost " in one.sentence:
        return False
    late = [each for each in history.invocations_of[one.run_id, one.step_key] if str(each) in one.evidence]
    claims = [claim_of(history, each) for each in late]
    return bool(claims) and all(
        claim is not None and claim.status in LOST and claim.ended is not None and claim.ended.at < each.started_ns
        for claim, each in zip(claims, late, strict=True)
    )
