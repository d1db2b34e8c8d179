"""What the handlers did: I2, I6, I9, I10, I16."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from tests.proof import calls, reruns, settled, signals, stops, windows
from tests.proof.history import FINAL, LOST, Change, Fault, History, Invocation, Place
from tests.proof.verdict import Violation

HARMLESS: Final = ("messages", "broker", "link-broker", "beat", "schedule", "api")
"""Faults that take no lease: what they lose is only hints."""
_REFERENCE: Final = re.compile(r"@steps\('([^']+)'\)")


@dataclass(frozen=True)
class Given:
    """A claim as it was given: the attempt's row, and how that ended."""

    claimed: Change
    ended: Change | None
    taken_back: Change | None

    @property
    def status(self) -> str:
        return self.ended.new["status"] if self.ended else "running"


def given(history: History, run_id: str, step_key: str, attempt: int) -> list[Given]:
    """The claims of this attempt's number: several when some were released unstarted."""
    found: list[Given] = []
    for change in history.attempt(run_id, step_key, attempt):
        if change.op == "insert":
            found.append(Given(change, None, None))
        elif found and change.op == "delete":
            found[-1] = Given(found[-1].claimed, found[-1].ended, change)
        elif found and change.new["status"] != change.old.get("status"):
            found[-1] = Given(found[-1].claimed, change, None)
    return found


def claim_of(history: History, one: Invocation) -> Given | None:
    """The claim under which a handler ran."""
    limit = one.started_ns + history.limits.slack_ns
    before = [each for each in given(history, *one.place, one.attempt) if each.claimed.at <= limit]
    return before[-1] if before else None


def i2_reruns_are_explained(history: History) -> Iterator[Violation]:
    """I2: a step runs again, or overlaps itself, only when the earlier claim was lost to a logged fault, to a timeout,
    or had failed. Unexplained re-executions are zero."""
    for place, invocations in history.invocations_of.items():
        for one in invocations:
            claim = claim_of(history, one)
            if claim is not None and claim.taken_back is not None:
                yield _of(one, "I2", "an attempt is given back although its handler had begun")
        for earlier, later in pairwise(invocations):
            yield from _again(history, place, earlier, later)
    for (run_id, step_key, attempt), _ in history.attempts():
        for claim in given(history, run_id, step_key, attempt):
            if claim.status == "released" and not _told_to_stop(history, claim):
                yield Violation("I2", f"attempt {attempt} is released by a deploy that never was", run_id, step_key)
            if claim.status in LOST and not explanations(history, claim):
                yield Violation(
                    "I2",
                    f"attempt {attempt} is lost without a fault",
                    run_id,
                    step_key,
                    (f"claim {claim.claimed.new}", f"lost at {claim.ended and claim.ended.at}"),
                )


def _again(history: History, place: Place, earlier: Invocation, later: Invocation) -> Iterator[Violation]:
    first, second = claim_of(history, earlier), claim_of(history, later)
    if first is None or second is None:
        return  # I6 tells
    if first.claimed.seq == second.claimed.seq:
        yield _of(later, "I2", f"attempt {later.attempt} runs twice under one claim")
        return
    if first.status in ("running", "succeeded"):
        yield _of(later, "I2", f"it runs again although attempt {earlier.attempt} is {first.status}")
    elif first.status == "failed" and (earlier.ended_ns is None or earlier.ended_ns > later.started_ns):
        yield _of(later, "I2", f"it overlaps attempt {earlier.attempt}, which had failed")
    elif first.ended is not None and first.ended.at > later.started_ns + history.limits.slack_ns:
        yield _of(later, "I2", f"it begins before attempt {earlier.attempt} was over")


def explanations(history: History, claim: Given) -> list[str]:
    """Why this claim was lost: faults that struck its worker while it was held, or the end of another claim of the same
    process by a timeout or a cancel."""
    assert claim.ended is not None
    pids = pids_of(claim.claimed.new["owner"])
    span = (claim.claimed.at - history.limits.slack_ns, claim.ended.at)
    faults = [
        fault.kind
        for fault in history.faults_between(*span)
        if explains(fault) and (not fault.pids or fault.pids & pids)
    ]
    return faults or _ended_neighbours(history, claim)


def cut_short(history: History, place: Place) -> bool:
    """Whether the step failed with no attempt that came to its handler: each was lost with its worker, or a fault held
    that up until the timeout had passed."""
    run_id, key = place
    row = history.steps[run_id].get(key, {})
    attempts = range(1, row.get("attempts", 0) + 1)
    claims = [one for n in attempts for one in given(history, run_id, key, n) if one.taken_back is None]
    return bool(claims) and row["status"] == "failed" and all(_lost_or_late(history, one) for one in claims)


def _lost_or_late(history: History, claim: Given) -> bool:
    return claim.status in LOST or (claim.status == "timed_out" and bool(explanations(history, claim)))


def _told_to_stop(history: History, claim: Given) -> bool:
    """Whether a deploy had struck its worker before the claim was over."""
    assert claim.ended is not None
    pids, at = pids_of(claim.claimed.new["owner"]), claim.ended.at
    return any(one.kind.startswith("deploy") and one.from_ns <= at and one.pids & pids for one in history.faults)


def explains(fault: Fault) -> bool:
    """Whether this kind of fault can cost a worker its lease."""
    return not fault.kind.startswith(HARMLESS)


def pids_of(owner: str) -> set[int]:
    """The processes in an owner's name: host/pid/random, then the pool child."""
    parts = owner.split("/")
    return {int(part) for part in (*parts[1:2], *parts[3:]) if part.isdigit()}


def _ended_neighbours(history: History, claim: Given) -> list[str]:
    """A pool child is killed with its step; what it had taken up in that very moment goes with it."""
    assert claim.ended is not None
    owner, around = claim.claimed.new["owner"], 2 * 10**9
    return [
        f"{change.new['status']} neighbour"
        for change in history.of("flow_step_attempts")
        if change.op == "update"
        and change.new["owner"] == owner
        and change.new["status"] in ("timed_out", "cancelled")
        and claim.claimed.at - around <= change.at <= claim.ended.at
    ]


def i6_after_all_predecessors(history: History) -> Iterator[Violation]:
    """I6: every claim is after the terminal commits of all predecessors, every start after its claim; a join opens once
    per epoch; no more items of a loop are under way than it says, and none begins in one that stopped."""
    yield from windows.i6_windows_hold(history)
    yield from stops.i6_stopped_loops_begin_nothing(history)
    for place in history.places("flow_step_claims"):
        for change in history.at("flow_step_claims", place):
            if change.op == "insert" or change.new["version"] > change.old["version"]:
                yield from _predecessors_over(history, place, change)
    for one in history.invocations:
        if claim_of(history, one) is None:
            yield _of(one, "I6", f"attempt {one.attempt} begins without a claim")
    for place in history.places("flow_steps"):
        opened: dict[int, int] = defaultdict(int)
        for change in history.at("flow_steps", place):
            if _opens_loop(history, change):
                yield from _predecessors_over(history, place, change)
            if change.op == "update" and change.old["status"] == "blocked" and change.new["status"] != "blocked":
                opened[epoch_at(history, place[0], change)] += 1
        for epoch, times in opened.items():
            if times > 1:
                yield Violation("I6", f"it is opened {times} times in epoch {epoch}", *place)


def _opening(history: History, place: Place, change: Change) -> Change:
    """The change that let it go. Who was over then may have been opened again since, by an operator."""
    moves = (one for one in history.at("flow_steps", place) if one.seq < change.seq and one.op == "update")
    return [change, *(one for one in moves if one.old["status"] == "blocked" != one.new["status"])][-1]


def _predecessors_over(history: History, place: Place, change: Change) -> Iterator[Violation]:
    """At a claim, or at the opening of a loop. Children ask for their loop: its predecessors were asked when it opened,
    and an operator who retries both a predecessor and a child of it lets them run side by side."""
    run_id, step_key = place
    parts = step_key.split(".")
    for depth in range(1, len(parts)):
        around = run_id, ".".join(parts[:depth])
        status = status_at(history, around, change)
        unknown = status is None and depth % 2 == 0  # an item that is one plain step has no row
        if status != "running" and not unknown and not _ends_after(history, around, change):
            sentence = f"claimed while {around[1]} around it was {status}"
            yield Violation("I6", sentence, *place, (f"seq {change.seq} {change.new}",))
    step = history.step_of(history.manifest_of(run_id)["steps"], step_key)
    if step is None or step.get("join") == "any":
        return  # an item; or the first one was enough
    opened = _opening(history, place, change)
    for key in step.get("run_after", {}):
        before = run_id, beside(step_key, key)
        if status_at(history, before, change) not in FINAL and status_at(history, before, opened) not in FINAL:
            sentence = f"it begins while {beside(step_key, key)} is open"
            yield Violation("I6", sentence, *place, (f"seq {change.seq} {change.new}",))


def beside(key: str, name: str) -> str:
    """The key of a step next to the one of this key."""
    return key[: key.rfind(".") + 1] + name


def _ends_after(history: History, around: Place, change: Change) -> bool:
    """Whether that ended later in the same transaction: a loop over nothing ends at once, and its item with it."""
    later = [one for one in history.at("flow_steps", around) if one.xid == change.xid and one.seq > change.seq]
    return bool(later) and later[0].old.get("status") == "running"


def _opens_loop(history: History, change: Change) -> bool:
    """A loop begins, and does not just go on with the children it has."""
    if change.op != "update" or change.old["status"] != "blocked" or not change.sets("status", "running"):
        return False
    if "type" in change.new:
        return False
    step = history.step_of(history.manifest_of(change.run_id)["steps"], change.step_key)
    if step is None or not step.get("steps"):
        return False
    first = f"{change.step_key}.0"
    keys = first, *(f"{first}.{key}" for key in step["steps"])
    rows = [one for key in keys for one in history.at("flow_steps", (change.run_id, key))[:1]]
    return all(one.seq > change.seq or one.xid == change.xid for one in rows)


def status_at(history: History, place: Place, change: Change) -> str | None:
    """A step's status as the transaction of `change` saw it."""
    last = None
    for one in history.at("flow_steps", place):
        if one.seq > change.seq and one.xid != change.xid:
            break
        last = one.new.get("status")
    return last


def epoch_at(history: History, run_id: str, change: Change) -> int:
    """A run's epoch as the transaction of `change` saw it."""
    epoch = 1
    for one in history.at("flow_runs", (run_id, "")):
        if one.seq > change.seq and one.xid != change.xid:
            break
        epoch = one.new["epoch"]
    return epoch


def i9_outputs_are_of_the_winner(history: History) -> Iterator[Violation]:
    """I9: a stored output is that of the invocation whose completion was recorded, that of a merge is one of a step
    before it; inputs are the outputs as they were stored when the step was claimed."""
    by_token = {one.token: one for one in history.invocations if one.token}
    for change in history.of("flow_outputs"):
        token = _token(change.row.get("output"))
        if token is None or change.op == "delete" or change.step_key in reruns.kept(history, change.run_id):
            continue  # what is kept is held against its source, by I5
        if signals.is_wait(history, change.place):
            continue  # what it gives is held against what was sent, by I14
        step = history.step_of(history.manifest_of(change.run_id)["steps"], change.step_key)
        if step is None:
            if token not in _within(history, change):
                yield Violation("I9", "an output that no step of the item gave", *change.place, (str(change.new),))
            continue
        if calls.is_call(history, change.place):
            if not any(token in _tokens(output) for output in calls.outputs(history, change.place)):
                yield Violation("I9", "an output that no run that it called has", *change.place, (str(change.new),))
            continue
        if "value" in step:
            if token not in _given(history, change):
                yield Violation("I9", "a value that no step before it gave", *change.place, (str(change.new),))
            continue
        one = by_token.get(token)
        if one is None or one.place != change.place:
            yield Violation("I9", "an output that none of its handlers gave", *change.place, (str(change.new),))
            continue
        won = [each for each in history.attempt(*one.place, one.attempt) if each.xid == change.xid]
        if not any(each.sets("status", "succeeded") for each in won):
            yield _of(one, "I9", f"the output is of attempt {one.attempt}, which is not the one recorded")
    for one in history.invocations:
        claim = claim_of(history, one)
        if claim is not None and set(one.seen) != (expected := _inputs(history, one.place, claim.claimed)):
            yield _of(one, "I9", f"it was given {sorted(one.seen)}, stored were {sorted(expected)}")


def _given(history: History, merge: Change) -> set[str]:
    """The tokens of the outputs that a merge could take, when it was decided."""
    before = (history.step_of(history.manifest_of(merge.run_id)["steps"], merge.step_key) or {})["run_after"]
    places = [(merge.run_id, beside(merge.step_key, name)) for name in before]
    outputs = [one for place in places for one in history.at("flow_outputs", place)]
    return {token for one in outputs if one.seq < merge.seq for token in _tokens(one.new.get("output"))}


def _within(history: History, item: Change) -> set[str]:
    """The tokens of what steps of an item gave."""
    keys = [key for key in history.steps.get(item.run_id, {}) if key.rpartition(".")[0] == item.step_key]
    outputs = [one.new.get("output") for key in keys for one in history.at("flow_outputs", (item.run_id, key))]
    return {token for output in outputs for token in _tokens(output)}


def _token(output: Any) -> str | None:
    return output.get("token") if isinstance(output, dict) else None


def _tokens(output: Any) -> set[str]:
    """Also within the outcomes that a loop collects."""
    if isinstance(output, list):
        return {token for part in output for token in _tokens(part)}
    token = _token(output)
    return {token} if token else _tokens(output["value"]) if isinstance(output, dict) and "value" in output else set()


def _inputs(history: History, place: Place, claimed: Change) -> set[str]:
    """The tokens of the outputs that a step's inputs name, as they stood at its claim."""
    run_id, key = place
    step = history.step_of(history.manifest_of(run_id)["steps"], key) or {}
    around = [*history.loops_around(run_id, key)]
    found: set[str] = set()
    for read in _REFERENCE.findall(str(step.get("inputs"))):
        depth = max((n for n, loop in enumerate(around, 1) if read in loop["steps"]), default=0)
        name = ".".join([*key.split(".")[: 2 * depth], read])
        stored = [
            one for one in history.at("flow_outputs", (run_id, name)) if one.seq < claimed.seq or one.xid == claimed.xid
        ]
        found |= _tokens(stored[-1].new.get("output")) if stored else set()
    return found


def i10_effects_happen_once(history: History) -> Iterator[Violation]:
    """I10: the key of a step is the same for every attempt and nobody else's; a transactional step's effect is there
    exactly once if it succeeded, from the attempt that was recorded, and not at all if not."""
    places: dict[str, Place] = {}
    keys: dict[Place, str] = {}
    for one in history.invocations:
        if places.setdefault(one.key, one.place) != one.place:
            yield _of(one, "I10", f"its key {one.key} is that of {places[one.key]}")
        if keys.setdefault(one.place, one.key) != one.key:
            yield _of(one, "I10", f"its key was {keys[one.place]} and is {one.key} now")
    for run_id, steps in history.steps.items():
        for key, row in steps.items():
            if not (history.step_of(history.manifest_of(run_id)["steps"], key) or {}).get("transactional"):
                continue
            if settled.by_hand(row) or reruns.KEPT.match(row.get("reason", "")):
                continue
            there = history.effects.get(keys.get((run_id, key), ""), ())
            wanted = (row["attempts"],) if row["status"] == "succeeded" else ()
            if there != wanted:
                sentence = f"it is {row['status']}, its effect is there from attempts {there}, expected {wanted}"
                yield Violation("I10", sentence, run_id, key)


def i16_nothing_starts_after_a_cancel(history: History) -> Iterator[Violation]:
    """I16: no claim after the commit of a cancel or a deadline, and no start line later than a lease after it."""
    for run_id in history.runs:
        for from_change, until in _halts(history, run_id):
            for key in history.steps.get(run_id, {}):
                for change in history.at("flow_step_claims", (run_id, key)):
                    new_claim = change.op == "insert" or change.new["version"] > change.old["version"]
                    if new_claim and from_change.seq < change.seq < until.seq:
                        yield Violation("I16", "claimed after the run was stopped", run_id, key, (str(change.new),))
                for one in history.invocations_of.get((run_id, key), ()):
                    late_ns = one.started_ns - from_change.at - history.limits.lease_ns
                    if late_ns > 0 and one.started_ns < until.at and not _slept(history, one):
                        yield _of(one, "I16", f"it starts {late_ns / 1e9:.1f} s too late after the run was stopped")


_NEVER: Final = Change(2**62, 2**62, 0, "", "update", {}, {})


def _halts(history: History, run_id: str) -> Iterator[tuple[Change, Change]]:
    """Each halt of a run, with the operator's retry that lifted it."""
    halted: Change | None = None
    for change in history.at("flow_runs", (run_id, "")):
        if halted is None and change.new.get("halt"):
            halted = change
        elif halted is not None and not change.new.get("halt"):
            yield halted, change
            halted = None
    if halted is not None:
        yield halted, _NEVER


def _slept(history: History, one: Invocation) -> bool:
    """Whether its process was paused between its last look at the lease and its first line."""
    span = (one.started_ns - 60 * 10**9, one.started_ns)
    return any(fault.kind.startswith("pause") and one.pid in fault.pids for fault in history.faults_between(*span))


def _of(one: Invocation, invariant: str, sentence: str) -> Violation:
    return Violation(invariant, sentence, *one.place, (str(one),))
