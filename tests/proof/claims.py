"""Who may work on a step, and whose result counts: I1, I3, I4, I11."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.proof import later, polls, reruns, settled, signals
from tests.proof.attempts import ends, gives
from tests.proof.history import Change, History, Place
from tests.proof.verdict import Violation


def i1_one_live_claim(history: History) -> Iterator[Violation]:
    """I1: no two unexpired claims of a step at any commit; versions strictly rise."""
    for place in history.places("flow_step_claims"):
        for change in history.at("flow_step_claims", place):
            if change.op != "update":
                continue
            old, new = change.old, change.new
            if new["version"] < old["version"]:
                yield _wrong("I1", place, f"the version falls from {old['version']} to {new['version']}", change)
            elif new["version"] > old["version"] and old.get("expires_at", 0) >= change.at:
                left_ms = (old["expires_at"] - change.at) / 1e6
                yield _wrong("I1", place, f"claimed while {old['owner']} still had it for {left_ms:.0f} ms", change)
            elif new["version"] == old["version"] and new["owner"] != old["owner"]:
                yield _wrong("I1", place, "a claim changes its owner without a new version", change)
            elif new["version"] == old["version"] and "expires_at" in new and "expires_at" not in old:
                yield _wrong("I1", place, "a claim that was over lives again", change)


def i3_one_completion(history: History) -> Iterator[Violation]:
    """I3: at most one committed completion per attempt, by the last claimer, of a handler that had come to its end."""
    for (run_id, step_key, attempt), changes in history.attempts():
        place = (run_id, step_key)
        completions = [change for change in changes if change.sets("status", "succeeded")]
        for extra in completions[1:]:
            yield _wrong("I3", place, f"attempt {attempt} is completed twice", extra)
        for change in completions:
            ended = [one for one in history.at("flow_step_claims", place) if one.xid == change.xid]
            if not any((ends(one) or _passes(one)) and one.old["version"] == change.new["version"] for one in ended):
                yield _wrong("I3", place, f"attempt {attempt} is completed without ending its own claim", change)
            if not _came_to_its_end(history, place, attempt, change.at):
                yield _wrong("I3", place, f"attempt {attempt} is completed, and no handler of it had ended", change)
    for place in history.places("flow_steps"):
        for change in history.at("flow_steps", place):
            done = change.sets("status", "succeeded") and change.new.get("type")
            otherwise = settled.by_hand(change.new) or reruns.KEPT.match(change.new.get("reason", ""))
            if done and not otherwise and not _recorded(history, change):
                yield _wrong("I3", place, "the step succeeds without an attempt that did", change)


def _passes(change: Change) -> bool:
    """A live claim becomes another one."""
    return change.op == "update" and gives(change) and "expires_at" in change.old


def _came_to_its_end(history: History, place: Place, attempt: int, at: int) -> bool:
    limit = at + history.limits.slack_ns
    return any(
        one.attempt == attempt and one.outcome == "end" and (one.ended_ns or 0) <= limit
        for one in history.invocations_of.get(place, ())
    )


def _recorded(history: History, change: Change) -> bool:
    return any(
        one.xid == change.xid and one.sets("status", "succeeded")
        for one in history.attempt(change.run_id, change.step_key, change.new["attempts"])
    )


def i4_nothing_from_the_superseded(history: History) -> Iterator[Violation]:
    """I4: no outcome is accepted from a version that was superseded, or whose claim was over."""
    for (run_id, step_key, attempt), changes in history.attempts():
        claims = history.at("flow_step_claims", (run_id, step_key))
        for change in changes:
            if not (change.sets("status", "succeeded") or change.sets("status", "failed")):
                continue
            before = [one for one in claims if one.seq < change.seq and one.xid != change.xid]
            latest = before[-1].new if before else {}
            if latest.get("version") != change.new["version"]:
                sentence = (
                    f"the outcome of version {change.new['version']} is taken, {latest.get('version')} is the last"
                )
                yield _wrong("I4", (run_id, step_key), sentence, change)
            elif "expires_at" not in latest:
                yield _wrong(
                    "I4", (run_id, step_key), f"the outcome of attempt {attempt} is taken after its claim", change
                )


def i11_attempts_are_counted(history: History) -> Iterator[Violation]:
    """I11: failures stay within the policy; the counter never falls but for a release; no back-off, poll or wait ends
    early, no run begins early; the clock of polls stands within an epoch; a claim that ends leaves its attempt, or
    takes it back."""
    yield from later.begin_in_time(history)
    yield from polls.asked_in_time(history)
    for (run_id, step_key, attempt), changes in history.attempts():
        for change in changes:
            if change.op == "delete" and not _counted_down(history, (run_id, step_key), change.xid):
                yield _wrong(
                    "I11", (run_id, step_key), f"attempt {attempt} is over, and nothing is known of it", change
                )
    for place in history.places("flow_steps"):
        for change in history.at("flow_steps", place):
            yield from _counter(history, place, change)
            if change.op == "update" and change.old.get("status") == "waiting":
                yield from _early(history, place, change)
            if change.op == "update" and _clock(change.old) and _clock(change.new) not in (None, _clock(change.old)):
                yield _wrong("I11", place, "the clock of its polls moves", change)
            if change.sets("status", "waiting") and "due_at" in change.new:
                yield from _pause(history, place, change)


def _clock(row: Mapping[str, Any]) -> int | None:
    found: int | None = row.get("started_at") if row.get("attempts") else None
    return found


def _early(history: History, place: Place, change: Change) -> Iterator[Violation]:
    """A wait that an operator settles, or that takes a signal, may be over at any time."""
    column = {"ready": "due_at", "succeeded": "wake_at", "failed": "wake_at"}.get(change.new["status"])
    if column is None or column not in change.old or settled.by_hand(change.new) or signals.taken_at(history, change):
        return
    early_ns = change.old[column] - change.at
    if early_ns > 0:
        what = "back-off, or the pause before its next poll," if column == "due_at" else "wait"
        yield _wrong("I11", place, f"its {what} ends {early_ns / 1e6:.0f} ms early", change)


def _counted_down(history: History, place: Place, xid: int) -> bool:
    return any(
        one.xid == xid and one.op == "update" and one.new.get("attempts", 0) < one.old.get("attempts", 0)
        for one in history.at("flow_steps", place)
    )


def _counter(history: History, place: Place, change: Change) -> Iterator[Violation]:
    fell = change.old.get("attempts", 0) - change.row.get("attempts", 0)
    if change.op == "update" and fell > 0:
        taken_back = [
            one
            for one in history.attempt(*place, change.old["attempts"])
            if one.op == "delete" and one.xid == change.xid
        ]
        if fell > 1 or not taken_back:
            yield _wrong("I11", place, f"the attempts fall by {fell}", change)
    policy = _policy(history, place)
    failures, most = change.row.get("failures", 0), policy.get("max_attempts", 1)
    if failures > most:
        yield _wrong("I11", place, f"{failures} failures, {most} attempts are allowed", change)
    crashes = change.row.get("crashes", 0)
    if crashes > history.limits.crash_limit + 1:
        yield _wrong("I11", place, f"lost {crashes} times, the limit is {history.limits.crash_limit}", change)


def _pause(history: History, place: Place, change: Change) -> Iterator[Violation]:
    if change.new.get("polls", 0) > change.old.get("polls", 0):
        if change.new.get("failures", 0):
            yield _wrong("I11", place, "a poll does not start its retries anew", change)
        return
    delays = _policy(history, place).get("backoff", {}).get("delays", [])
    if not delays:
        return
    wanted_ns = seconds(delays[min(change.new["failures"], len(delays)) - 1]) * 1e9
    given_ns = change.new["due_at"] - change.at
    if given_ns < wanted_ns - history.limits.stall_ns:
        yield _wrong("I11", place, f"it waits {given_ns / 1e9:.2f} s, its policy says {wanted_ns / 1e9:g} s", change)


def seconds(duration: str) -> float:
    """Of `PT1.5S`, which is how manifests write short times."""
    return float(duration.removeprefix("PT").removesuffix("S"))


def _policy(history: History, place: Place) -> Mapping[str, Any]:
    step = history.step_of(history.manifest_of(place[0])["steps"], place[1]) or {}
    policy: Mapping[str, Any] = step.get("retry", {})
    return policy


def _wrong(invariant: str, place: Place, sentence: str, change: Change) -> Violation:
    evidence = (
        f"seq {change.seq} xid {change.xid} {change.op} {change.table}",
        f"old {change.old}",
        f"new {change.new}",
    )
    return Violation(invariant, sentence, *place, evidence)
