"""What is held against a history that is over."""

from collections.abc import Iterator
from typing import Final

from tests.proof import recorder
from tests.proof.checker import check
from tests.proof.executions import claim_of
from tests.proof.history import LOST, SECOND, History, Limits
from tests.proof.verdict import Violation
from tests.simulation.world import World
from tests.soak import strangers

_LIMITS: Final = Limits(crash_limit=2, grace_ns=15 * SECOND, slack_ns=SECOND // 1000, stall_ns=SECOND // 1000)
_ONE_CLOCK: Final = recorder.Offset(0, 0)
_UNSTARTED: Final = "no worker claimed it within its queue_timeout"


def history_of(world: World) -> History:
    """As the checker knows it."""
    url, people = world.arena.url, world.people
    final, manifests = strangers.left_out(
        recorder.final_rows(url, _ONE_CLOCK), recorder.manifests(url), world.strangers
    )
    return History(
        invocations=tuple(world.invocations.values()),
        calls=tuple(people.calls),
        sent=tuple(people.sent),
        faults=tuple(world.faults),
        changes=tuple(recorder.changes(url, _ONE_CLOCK)),
        messages=tuple(world.messages),
        final=final,
        manifests=manifests,
        effects=recorder.effects(url),
        limits=_LIMITS,
        ended_ns=world.arena.now_ns(),
    )


def wrong(world: World) -> list[str]:
    """Everything that is held against it."""
    history = history_of(world)
    return [*map(str, violations(history)), *_trespasses(world, history)]


def _trespasses(world: World, history: History) -> Iterator[str]:
    """A worker claims only what its code can run, no version comes back by itself, and nobody touches a stranger."""
    versions = {manifest.hash: n for n, code in enumerate(world.codes) for manifest in code.manifests}
    current: dict[str, str] = {}
    for change in history.changes:
        if change.run_id in world.strangers:
            yield f"a run that nobody here can read was touched: {change}"
        if change.table == "flow_step_claims" and change.op != "delete" and change.sets("owner", change.new["owner"]):
            code = world.codes_of[change.new["owner"].rpartition("/")[0]]
            hash_ = history.runs[change.run_id]["manifest_hash"]
            if versions[hash_] > world.codes.index(code):
                yield f"{change.new['owner']} of the {code.release} release claimed a step of a newer version: {change}"
        if change.table == "flow_definitions" and change.op != "delete":
            name, hash_ = change.new["name"], change.new["manifest_hash"]
            if versions.get(hash_, 0) < versions.get(current.get(name, ""), 0):
                yield f"the current version of {name} went back: {change}"
            current[name] = hash_


def violations(history: History) -> list[Violation]:
    """What the checker says, but for two things that it has no word for."""
    meant = (_unstarted, _late_start)
    return [one for one in check(history).violations if not any(why(history, one) for why in meant)]


def _unstarted(history: History, one: Violation) -> bool:
    """A step that failed by its queue timeout: whether it does is not in its fate."""
    changes = history.at("flow_steps", (one.run_id, one.step_key))
    return one.invariant == "I5" and any(change.row.get("reason", "").startswith(_UNSTARTED) for change in changes)


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
