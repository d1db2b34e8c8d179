"""Schedules as the record tells them: which rule was in force when, and what became of each scheduled time.

Moments in here are on the wall clock, in nanoseconds since 1970, because that is what a rule is about.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import Any, Final

from tests.proof.due import due_times, length_ns
from tests.proof.history import FINAL_RUN, SECOND, Change, History, Row

EDGE_NS: Final = SECOND
"""Where a rule begins or ends, the times within this may be counted in or not: the engine reads the clock before it
writes."""
_NEVER: Final = 2**62


@dataclass(frozen=True)
class State:
    """From this change on. `trigger` is as the manifest has it, `expression` an operator's."""

    seq: int
    xid: int
    at: int
    live: bool
    trigger: Row
    expression: str | None

    @property
    def same(self) -> tuple[Any, ...]:
        return self.live, self.trigger, self.expression


@dataclass(frozen=True)
class Tick:
    """A row of a scheduled time, with its changes in order."""

    at: int
    changes: tuple[Change, ...]

    @property
    def inserted(self) -> Row:
        return self.changes[0].new

    @property
    def kind(self) -> str:
        return str(self.inserted["kind"])

    @property
    def outcome(self) -> str:
        return str(self.inserted["outcome"])

    @property
    def last(self) -> Row:
        return self.changes[-1].row

    @cached_property
    def started(self) -> Change | None:
        """The change that gave it its run."""
        return next((change for change in self.changes if change.sets("outcome", "started")), None)

    @property
    def run_id(self) -> str | None:
        return self.started.new.get("run_id") if self.started is not None else None


@dataclass(frozen=True)
class Span:
    """A time in which one rule was in force without a break, and the ticks that were decided in it."""

    from_ns: int
    to_ns: int
    begins_xid: int
    ends_xid: int | None
    """The transaction that ended it; None: it lasted until the end of the record."""
    trigger: Row
    expression: str | None
    ticks: tuple[Tick, ...] = ()

    @cached_property
    def due(self) -> list[int]:
        """The scheduled times, with those at its edges."""
        until = self.to_ns + EDGE_NS if self.ends_xid is not None else self.to_ns
        return due_times(self.trigger, self.expression, self.from_ns - EDGE_NS, until)

    @cached_property
    def required(self) -> list[int]:
        """Those of which something must have become."""
        return [at for at in self.due if self.from_ns + EDGE_NS < at < self.to_ns - EDGE_NS]

    def of(self, tick: Tick) -> list[int]:
        """The scheduled times that a row stands for."""
        before = [at for at in self.due if at <= tick.at]
        return before[-tick.inserted.get("count", 1) :] if tick.outcome == "missed" else [tick.at]

    @cached_property
    def decided(self) -> dict[int, Change]:
        """By scheduled time, the change that decided it first."""
        found: dict[int, Change] = {}
        for tick in self.ticks:
            for at in self.of(tick):
                found.setdefault(at, tick.changes[0])
        return found

    @property
    def jitter_ns(self) -> int:
        return length_ns(self.trigger.get("jitter"))

    def lost(self) -> list[int]:
        """Times of which nothing became."""
        return [at for at in self.required if at not in self.decided]


@dataclass(frozen=True)
class Schedule:
    """One schedule of one flow."""

    flow: str
    key: str
    states: tuple[State, ...]
    ticks: tuple[Tick, ...]
    ended_ns: int
    runs: dict[str, list[Change]] = field(default_factory=dict)
    """The changes of the runs that its ticks started, backfills left out."""

    @property
    def name(self) -> str:
        return f"{self.flow}/{self.key}"

    def before(self, change: Change) -> State | None:
        """What was in force when this was written. A transaction that stops a schedule settles it first."""
        found = None
        for state in self.states:
            if state.seq >= change.seq:
                break
            found = state
        return found

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """When it was live."""
        found = []
        for n, state in enumerate(self.states):
            after = self.states[n + 1] if n + 1 < len(self.states) else None
            if not state.live:
                continue
            ticks = tuple(
                tick
                for tick in self.ticks
                if tick.kind != "manual"
                and state.seq < tick.changes[0].seq < (after.seq if after is not None else _NEVER)
            )
            to_ns, ends = (after.at, after.xid) if after is not None else (self.ended_ns, None)
            found.append(Span(state.at, to_ns, state.xid, ends, state.trigger, state.expression, ticks))
        return tuple(found)

    def open_at(self, run_id: str, seq: int) -> bool:
        """Whether a run had begun and not ended when this change was written."""
        before = [change for change in self.runs.get(run_id, ()) if change.seq < seq]
        return bool(before) and before[-1].new.get("status") not in FINAL_RUN


def schedules(history: History) -> list[Schedule]:
    """Everything the record has of each."""
    states: dict[tuple[str, str], list[Change]] = defaultdict(list)
    ticks: dict[tuple[str, str], dict[int, list[Change]]] = defaultdict(lambda: defaultdict(list))
    for change in history.of("flow_schedule_states"):
        states[change.row["flow"], change.row["trigger_key"]].append(change)
    for change in history.of("flow_schedule_ticks"):
        row = change.row
        ticks[row["flow"], row["trigger_key"]][row["scheduled_at"]].append(change)
    found = []
    for name in sorted(states.keys() | ticks.keys()):
        rows = tuple(Tick(at, tuple(changes)) for at, changes in sorted(ticks[name].items()))
        own = [tick.run_id for tick in rows if tick.kind != "backfill" and tick.run_id is not None]
        found.append(
            Schedule(
                *name,
                states=tuple(_states(history, name[0], states[name])),
                ticks=rows,
                ended_ns=history.ended_ns + history.wall_ns - history.limits.liveness_ns,
                runs={run_id: history.at("flow_runs", (run_id, "")) for run_id in own},
            )
        )
    return found


def _states(history: History, flow: str, changes: list[Change]) -> Iterator[State]:
    """One per transaction that made a difference. The flow's switch counts from where the same transaction reaches the
    schedule, because until then somebody else may hold that and write before."""
    groups = [list(group) for _, group in groupby(changes, key=lambda change: change.xid)]
    lasts = {group[-1].xid: group[-1] for group in groups}
    switches = [change for change in history.of("flow_definitions") if change.row["name"] == flow]
    moved = [one for one in switches if one.new.get("enabled") != one.old.get("enabled")]
    events: list[tuple[int, Change, bool | None]] = [(group[-1].seq, group[-1], None) for group in groups]
    events += [(lasts.get(one.xid, one).seq, one, bool(one.new.get("enabled"))) for one in moved]
    row: Row = {}
    enabled, last = True, None
    for seq, change, switch in sorted(events, key=lambda event: (event[0], event[2] is not None)):
        if switch is None:
            row = change.new
        else:
            enabled = switch
        if not row and change.op != "delete":
            continue  # the flow was there before its schedule
        live = bool(row.get("active")) and "paused_at" not in row and enabled
        at = lasts.get(change.xid, change).wall
        state = State(seq, change.xid, at, live, row.get("definition", {}), row.get("expression"))
        if last is not None and last.seq == seq:
            state = replace(state, at=last.at)
        if last is None or last.same != state.same:
            yield state
        last = state


def replaced(history: History) -> set[str]:
    """Runs that may have been cancelled because the next tick of their schedule came."""
    found: set[str] = set()
    for one in schedules(history):
        if any(state.trigger.get("overlap") == "cancel" for state in one.states):
            started = [tick.run_id for tick in one.ticks if tick.run_id is not None]
            found.update(started[:-1])
    return found


def scheduled(history: History) -> set[str]:
    """The runs that ticks name."""
    return {row["run_id"] for row in history.final.get("flow_schedule_ticks", ()) if "run_id" in row}
