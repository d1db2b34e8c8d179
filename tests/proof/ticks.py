"""Every scheduled time has one run, or a reason: I13."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from tests.proof.due import length_ns
from tests.proof.history import FINAL_RUN, SECOND, Change, History
from tests.proof.timeline import EDGE_NS, Schedule, Tick, schedules
from tests.proof.verdict import Violation

GRACE_NS: Final = 60 * SECOND
"""A tick that is later was missed: the documented bound of `missed: skip`."""
LATE_NS: Final = 5 * SECOND
"""Between the clock that a decision reads and its commit, unless a fault held it up."""
_TYPES: Final = {"cron": "cron", "manual": "cron", "backfill": "backfill"}


def i13_ticks_and_runs(history: History) -> Iterator[Violation]:
    """I13: a tick that started has one run and a run of a schedule has one tick, in one commit; every scheduled time of
    a live schedule was decided once, inside its policies for misfires and overlaps, and nothing was decided while it
    was disabled, paused or deleted; what is due in a quiet window is decided within the limit."""
    yield from _pairs(history)
    for one in schedules(history):
        for check in _CHECKS:
            yield from check(history, one)


def doubled(history: History) -> list[str]:
    """Runs of schedules beside the one that their tick names."""
    named = Counter(row["run_id"] for row in history.final.get("flow_schedule_ticks", ()) if "run_id" in row)
    of_schedules = [id for id, run in history.runs.items() if run.get("trigger_type") in ("cron", "backfill")]
    return [id for id in of_schedules if named[id] != 1]


def _wrong(one: Schedule, sentence: str, tick: Tick | None = None, change: Change | None = None) -> Violation:
    if tick is None:
        return Violation("I13", f"{one.name}: {sentence}")
    change = change or tick.changes[0]
    evidence = (f"seq {change.seq} xid {change.xid} at {change.at}: {change.row}",)
    return Violation("I13", f"{one.name}: {_shown(tick.at)} {sentence}", tick.run_id or "", evidence=evidence)


def _shown(at: int) -> str:
    return f"the tick of {at / SECOND:.0f}"


def _pairs(history: History) -> Iterator[Violation]:
    for row in history.final.get("flow_schedule_ticks", ()):
        name = f"{row['flow']}/{row['trigger_key']}: {_shown(row['scheduled_at'])}"
        if (row["outcome"] == "started") != ("run_id" in row):
            yield Violation("I13", f"{name} is {row['outcome']}, with run {row.get('run_id')}")
        if "run_id" not in row:
            continue
        run = history.runs.get(row["run_id"])
        if run is None:
            yield Violation("I13", f"{name} has no run", row["run_id"])
            continue
        meant = (row["flow"], row["scheduled_at"], _TYPES[row["kind"]])
        if meant != (run["flow"], run.get("scheduled_for"), run.get("trigger_type")):
            yield Violation("I13", f"{name} has a run that is of another", run["id"], evidence=(str(run),))
    for run_id in doubled(history):
        yield Violation("I13", "a run of a schedule that is no tick's, or several ticks'", run_id)


def _one_commit(history: History, one: Schedule) -> Iterator[Violation]:
    for tick in one.ticks:
        began = history.at("flow_runs", (tick.run_id or "", ""))
        if tick.started is not None and began and began[0].xid != tick.started.xid:
            yield _wrong(one, "and its run are two commits", tick, tick.started)


def _only_live(history: History, one: Schedule) -> Iterator[Violation]:
    for tick in one.ticks:
        for change in tick.changes:
            decides = change.op == "insert" or change.sets("outcome", "started")
            if change.new.get("kind") != "cron" or not decides:
                continue
            state = one.before(change)
            if state is None or not state.live:
                yield _wrong(one, f"is {change.new['outcome']} while it is disabled, paused or deleted", tick, change)
            if change.wall < tick.at - history.limits.slack_ns:
                yield _wrong(one, "is decided before its time", tick, change)


def _complete(history: History, one: Schedule) -> Iterator[Violation]:
    for span in one.spans:
        counted: Counter[int] = Counter()
        for tick in span.ticks:
            times = span.of(tick)
            if tick.at not in span.due:
                yield _wrong(one, "is no time of its rule, or one from before it was live", tick)
            elif len(times) < tick.inserted.get("count", 1):
                yield _wrong(one, f"stands for {tick.inserted['count']}, there were {len(times)}", tick)
            counted.update(times)
        for at, count in counted.items():
            if count > 1:
                yield _wrong(one, f"{_shown(at)} is decided {count} times")
        if lost := span.lost():
            first = ", ".join(f"{at / SECOND:.0f}" for at in lost[:5])
            yield _wrong(one, f"{len(lost)} ticks are lost: {first}")


def _made_up_for(history: History, one: Schedule) -> Iterator[Violation]:
    """`missed`, and its window."""
    for span in one.spans:
        policy, window = span.trigger.get("missed", "latest"), length_ns(span.trigger.get("window"))
        started = Counter(tick.changes[0].xid for tick in span.ticks if tick.outcome != "missed")
        for tick in span.ticks:
            change = tick.changes[0]
            at = change.wall
            behind = any(tick.at < later <= at + history.limits.slack_ns for later in span.due)
            if tick.kind != "cron" or change.xid == span.ends_xid:
                continue  # what is left when a rule ends is missed under every policy
            if tick.outcome == "missed":
                old = bool(window) and tick.at + window < at + EDGE_NS
                late = policy == "skip" and tick.at + GRACE_NS < at + EDGE_NS
                if not old and (policy == "all" or not (behind or late)):
                    yield _wrong(one, f"is missed, its policy is {policy}", tick)
                continue
            if policy != "all" and started[change.xid] > 1:
                yield _wrong(one, f"is one of {started[change.xid]} at once, its policy is {policy}", tick)
            limit = min((GRACE_NS + span.jitter_ns) if policy == "skip" else 2**62, window or 2**62)
            if at - tick.at > limit + LATE_NS and not _held_up(history, at - LATE_NS * 2, at):
                yield _wrong(one, f"starts {(at - tick.at) / SECOND:.1f} s late, which is missed by its policy", tick)


def _held_up(history: History, from_ns: int, to_ns: int) -> bool:
    """Whether a fault lay between reading the clock and the commit."""
    return bool(history.faults_between(from_ns - history.wall_ns, to_ns - history.wall_ns))


# ---- overlaps ----


def _overlaps(history: History, one: Schedule) -> Iterator[Violation]:
    for tick in one.ticks:
        for change in tick.changes:
            state = one.before(change)
            if change.new.get("kind") != "cron" or state is None:
                continue
            policy = state.trigger.get("overlap", "allow")
            if change.sets("outcome", "started") and policy in ("skip", "queue"):
                for run_id in _others(one, tick, change):
                    yield _wrong(one, f"starts beside {run_id}, its policy is {policy}", tick, change)
            elif change.sets("outcome", "started") and policy == "cancel":
                yield from _cancelled(one, tick, change)
            elif change.sets("outcome", "queued") and policy != "queue":
                yield _wrong(one, f"is queued, its policy is {policy}", tick, change)
            elif change.sets("outcome", "skipped"):
                yield from _skipped(history, one, tick, change, policy)
    yield from _one_queued(one)


def _others(one: Schedule, tick: Tick, change: Change) -> list[str]:
    """The schedule's runs that are open beside this tick's."""
    return [run_id for run_id in one.runs if run_id != tick.run_id and one.open_at(run_id, change.seq)]


def _cancelled(one: Schedule, tick: Tick, change: Change) -> Iterator[Violation]:
    for run_id in _others(one, tick, change):
        within = [each for each in one.runs[run_id] if each.seq < change.seq or each.xid == change.xid]
        after = [each for each in one.runs[run_id] if each.seq > change.seq and each.xid != change.xid]
        begins = one.runs[tick.run_id or ""][0].seq
        ended = bool(after) and after[0].seq < begins and after[0].new.get("status") in FINAL_RUN
        if "halt" not in within[-1].new and not ended:
            yield _wrong(one, f"starts beside {run_id}, which it does not cancel", tick, change)


def _skipped(history: History, one: Schedule, tick: Tick, change: Change, policy: str) -> Iterator[Violation]:
    beside = [each for each in one.ticks if each is not tick and any(c.xid == change.xid for c in each.changes)]
    stops = any(span.ends_xid == change.xid for span in one.spans)
    if policy == "allow":
        yield _wrong(one, "is skipped, its policy is allow", tick, change)
    elif not beside and not stops and not _was_busy(history, one, tick, change):
        yield _wrong(one, f"is skipped, its policy is {policy}, and nothing was open", tick, change)


def _was_busy(history: History, one: Schedule, tick: Tick, change: Change) -> bool:
    """Whether a run was open, or ended in this very moment, or something was queued."""
    for run_id, changes in one.runs.items():
        before = [each for each in changes if each.seq < change.seq]
        if before and (one.open_at(run_id, change.seq) or change.at - before[-1].at < LATE_NS):
            return True
    return any(
        each is not tick and any(c.seq < change.seq and c.row["outcome"] == "queued" for c in each.changes)
        for each in one.ticks
    )


def _one_queued(one: Schedule) -> Iterator[Violation]:
    queued: set[int] = set()
    of_xid: dict[int, list[tuple[Tick, Change]]] = {}
    for tick in one.ticks:
        for change in tick.changes:
            of_xid.setdefault(change.xid, []).append((tick, change))
    for changes in sorted(of_xid.values(), key=lambda pairs: max(change.seq for _, change in pairs)):
        for tick, change in changes:
            queued.discard(tick.at)
            if change.row["outcome"] == "queued" and change.op != "delete":
                queued.add(tick.at)
        if len(queued) > 1:
            yield _wrong(one, f"{len(queued)} ticks are queued", *changes[0])
    for tick in one.ticks:
        waits_for = one.runs.get(str(tick.last.get("waits_for")), ())
        over = not waits_for or waits_for[-1].new.get("status") in FINAL_RUN
        if tick.last["outcome"] == "queued" and over:
            yield _wrong(one, "is queued after the drain, behind nothing", tick, tick.changes[-1])


# ---- time and counters ----


def _prompt(history: History, one: Schedule) -> Iterator[Violation]:
    """What is due in a quiet window does not wait."""
    for span in one.spans:
        for begun, over in ((begun + history.wall_ns, over + history.wall_ns) for begun, over in history.quiet):
            for at in span.required:
                change = span.decided.get(at)
                until = min(over, span.to_ns, change.wall if change is not None else 2**62)
                waited_ns = until - max(at + span.jitter_ns, begun, span.from_ns)
                if waited_ns > history.limits.liveness_ns:
                    sentence = f"{_shown(at)} is due since {waited_ns / SECOND:.1f} s of a quiet window"
                    yield _wrong(one, sentence)


def _counters(history: History, one: Schedule) -> Iterator[Violation]:
    """The counters that people see are the sums of the rows."""
    if any(tick.kind == "backfill" for tick in one.ticks) or not one.states:
        return
    rows = [tick.last for tick in one.ticks]
    for row in history.final.get("flow_schedule_states", ()):
        if (row["flow"], row["trigger_key"]) != (one.flow, one.key):
            continue
        for name, outcome in (("fired", "started"), ("missed", "missed"), ("skipped", "skipped")):
            there = sum(each.get("count", 1) for each in rows if each["outcome"] == outcome)
            if row.get(name, 0) != there:
                yield _wrong(one, f"it counts {row.get(name, 0)} {name}, there are {there}")


Check = Callable[[History, Schedule], Iterator[Violation]]
_CHECKS: Final[tuple[Check, ...]] = (_one_commit, _only_live, _complete, _made_up_for, _overlaps, _prompt, _counters)


def lost(history: History) -> int:
    """Scheduled times of live schedules of which nothing became."""
    return sum(len(span.lost()) for one in schedules(history) for span in one.spans)


def lags(history: History, by: str | None = None) -> list[float]:
    """Seconds from the time that was scheduled to the commit that decided it, of ticks without jitter that were not
    skipped or missed."""
    return [
        (tick.changes[0].wall - tick.at) / SECOND
        for one in schedules(history)
        for span in one.spans
        if not span.jitter_ns
        for tick in span.ticks
        if tick.kind == "cron" and tick.outcome in ("started", "queued") and by in (None, tick.inserted.get("by"))
    ]


def failovers(history: History) -> dict[str, list[float]]:
    """By kind of fault of beats, in seconds: from the fault to the next tick that a beat announced. A scheduled time
    has to come first, so that is up to a second more than the beats needed."""
    announced = sorted(
        (tick.at, tick.changes[0].wall)
        for one in schedules(history)
        for tick in one.ticks
        if tick.inserted.get("by") == "beat"
    )
    found: dict[str, list[float]] = {}
    for fault in history.faults:
        if fault.kind.startswith("beat"):
            since = fault.from_ns + history.wall_ns
            decided = [at for scheduled, at in announced if scheduled > since]
            if decided:
                found.setdefault(fault.kind, []).append((min(decided) - since) / SECOND)
    return dict(sorted(found.items()))
