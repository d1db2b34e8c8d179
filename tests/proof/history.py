"""What happened in one experiment, as frozen facts. Who recorded it, or simulated it, does not matter here.

Every moment is in nanoseconds of one clock: the monotonic clock of the machine, or the clock of a simulation.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

from tests.proof.attempts import lives

SECOND: Final = 1_000_000_000
Row = Mapping[str, Any]
Place = tuple[str, str]
"""Run id and step key."""

FINAL: Final = frozenset({"succeeded", "failed", "skipped", "cancelled"})
FINAL_RUN: Final = frozenset({"succeeded", "failed", "cancelled", "timed_out"})

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "flow_runs": ("id",),
    "flow_steps": ("run_id", "step_key"),
    "flow_step_claims": ("run_id", "step_key"),
    "flow_step_attempts": ("run_id", "step_key", "attempt"),
    "flow_step_dispatches": ("run_id", "step_key", "dispatch_no"),
    "flow_outputs": ("run_id", "step_key"),
    "flow_run_controls": ("run_id",),
    "flow_signals": ("run_id", "name", "id"),
    "flow_signal_waiters": ("run_id", "step_key"),
    "flow_idempotency_keys": ("flow", "key"),
    "flow_definitions": ("name",),
    "flow_schedule_states": ("flow", "trigger_key"),
    "flow_schedule_ticks": ("flow", "trigger_key", "scheduled_at"),
}
"""The recorded tables, with what names a row."""


@dataclass(frozen=True)
class Invocation:
    """One run of a handler, from its own lines in the effects log."""

    run_id: str
    step_key: str
    attempt: int
    pid: int
    key: str
    """The idempotency key that the handler was given."""
    started_ns: int
    ended_ns: int | None = None
    """None: it wrote no end line."""
    outcome: Literal["end", "error"] | None = None
    token: str = ""
    """A random text of this very invocation; it is part of its output."""
    seen: tuple[str, ...] = ()
    """The tokens in its inputs: whose outputs it was given."""
    loop_index: int | None = None
    version: int | None = None
    """The claim's fence, if the handler knows it."""
    owner: str | None = None

    @property
    def place(self) -> Place:
        return self.run_id, self.step_key


@dataclass(frozen=True)
class Message:
    """A worker took a message for this dispatch from the queue and is about to act on it."""

    run_id: str
    step_key: str
    number: int
    pid: int
    at_ns: int


@dataclass(frozen=True)
class Call:
    """What a client asked for, and what it was told."""

    kind: Literal["start", "cancel", "retry", "settle"]
    flow: str
    begun_ns: int
    ended_ns: int
    reply: Literal["ok", "refused", "unknown"]
    key: str | None = None
    body: str = ""
    run_id: str | None = None
    step_key: str = ""
    """That was settled by hand, or from which on a run was run again."""
    options: frozenset[str] = frozenset()
    """Of a retry: `force`, `fresh`."""
    request: str | None = None
    """The key of the request and the place in it, where one request starts many."""
    asked: str = ""
    """All that such a request says."""
    ended_as: str | None = None
    """What the run was, as the answer to a start told that waited for its end."""


@dataclass(frozen=True)
class Sent:
    """A signal, or the answer to an approval, that somebody sent, and what they were told. The same `id` may be sent
    again."""

    run_id: str
    name: str
    id: str
    payload: Any
    reply: Literal["delivered", "kept", "refused", "unknown"]
    key: str = ""
    step: str | None = None
    """That took it, as they were told."""
    begun_ns: int = 0
    ended_ns: int = 0


@dataclass(frozen=True)
class Delivery:
    """What a publisher sent to a webhook, once, and what it was told. The same `event` may be sent again."""

    slug: str
    flow: str
    event: str
    body: str
    begun_ns: int
    ended_ns: int
    reply: Literal["new", "seen", "refused", "unknown"]
    run_id: str | None = None
    """As it was told."""
    signal: str = ""
    """That it is; otherwise it starts a run."""
    order: str = ""
    """For which run: the one whose input names that order."""
    genuine: bool = True
    """Whether the publisher signed it, with the key that it shares with us."""
    insists: bool = False
    """Whether it is sent until it is acknowledged."""


@dataclass(frozen=True)
class Heard:
    """An event, as somebody was told who listens to all of them."""

    id: int
    run_id: str
    type: str


@dataclass(frozen=True)
class Fault:
    """What the nemesis did. `pids`: the processes that were struck; empty: everybody."""

    kind: str
    target: str
    from_ns: int
    healed_ns: int
    pids: frozenset[int] = frozenset()
    detail: str = ""


@dataclass(frozen=True)
class Change:
    """A committed insert, update or delete of one row. Moments in `old` and `new` are nanoseconds; nulls are out."""

    seq: int
    at: int
    xid: int
    table: str
    op: Literal["insert", "update", "delete"]
    old: Row
    new: Row
    run_id: str = ""
    step_key: str = ""
    wall: int = 0
    """`at` on the wall clock, in nanoseconds since 1970."""

    @property
    def place(self) -> Place:
        return self.run_id, self.step_key

    @property
    def row(self) -> Row:
        """What there is after it; before it, when it deleted."""
        return self.old if self.op == "delete" else self.new

    def sets(self, column: str, value: object) -> bool:
        """Whether the column has this value now and had another before."""
        return self.op != "delete" and self.new.get(column) == value and self.old.get(column) != value


STALL: Final = "machine-stall"
"""The fault of a machine that stood still for everybody."""
LOST: Final = frozenset({"crashed", "released"})
"""Attempts that ended with their worker: lost, or killed after it was told to stop."""


@dataclass(frozen=True)
class Limits:
    """The settings that the invariants are about, and the bounds an experiment promises."""

    lease_ns: int = 30 * SECOND
    crash_limit: int = 3
    grace_ns: int = 5 * SECOND
    liveness_ns: int = 35 * SECOND
    """In a quiet window, what can go on does so within this."""
    slack_ns: int = SECOND // 10
    """Between a moment of the database and one of a handler: the two clocks are read one after the other. And for two
    moments that are a length of time apart: the clock is slewed meanwhile, one way or the other."""
    stall_ns: int = SECOND
    """From the moment a statement acts by to its writing: it may wait for a lock, and the machine may stand still."""


@dataclass(frozen=True)
class History:
    """Everything the checker knows."""

    invocations: tuple[Invocation, ...] = ()
    calls: tuple[Call, ...] = ()
    sent: tuple[Sent, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    heard: tuple[Heard, ...] = ()
    listening_ns: int = 0
    """Since when somebody listened to every event; 0: nobody did."""
    lost_places: int = 0
    """How often that one was told that events may have been left out."""
    faults: tuple[Fault, ...] = ()
    changes: tuple[Change, ...] = ()
    messages: tuple[Message, ...] = ()
    final: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)
    """The rows of every table of the ledger after the drain, read from the tables and not from the changes."""
    manifests: Mapping[str, Row] = field(default_factory=dict)
    """By hash."""
    effects: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """What transactional steps wrote: key to the attempts whose effect is there."""
    quiet: tuple[tuple[int, int], ...] = ()
    """Windows without a fault, from the end of healing on."""
    limits: Limits = Limits()
    ended_ns: int = 0
    """When the drain was over."""
    wall_ns: int = 0
    """What a moment lacks to the wall clock, but for its drift: schedules are about that clock."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """Figures that only the field knows, such as lines of the workers' logs."""

    @cached_property
    def by_table(self) -> Mapping[str, list[Change]]:
        found: dict[str, list[Change]] = defaultdict(list)
        for change in self.changes:
            found[change.table].append(change)
        return found

    def of(self, table: str) -> list[Change]:
        """The changes of a table, in order."""
        return self.by_table.get(table, [])

    @cached_property
    def _of_places(self) -> Mapping[tuple[str, Place], list[Change]]:
        found: dict[tuple[str, Place], list[Change]] = defaultdict(list)
        for change in self.changes:
            found[change.table, change.place].append(change)
        return found

    def at(self, table: str, place: Place) -> list[Change]:
        """The changes of a table for one step, in order."""
        return self._of_places.get((table, place), [])

    def places(self, table: str) -> list[Place]:
        """The steps for which a table has changes."""
        return [place for name, place in self._of_places if name == table]

    @cached_property
    def runs(self) -> Mapping[str, Row]:
        """The final rows of the runs."""
        return {row["id"]: row for row in self.final.get("flow_runs", ())}

    @cached_property
    def steps(self) -> Mapping[str, Mapping[str, Row]]:
        """The final rows of the steps, by run and key."""
        found: dict[str, dict[str, Row]] = defaultdict(dict)
        for row in self.final.get("flow_steps", ()):
            found[row["run_id"]][row["step_key"]] = row
        return found

    @cached_property
    def called(self) -> Mapping[Place, list[str]]:
        """By step of another run, the runs that it called."""
        found: dict[Place, list[str]] = defaultdict(list)
        for run_id, run in self.runs.items():
            if run.get("parent_run_id") in self.runs:
                found[run["parent_run_id"], run["parent_step_key"]].append(run_id)
        return found

    @cached_property
    def invocations_of(self) -> Mapping[Place, list[Invocation]]:
        """By step, in the order they began."""
        found: dict[Place, list[Invocation]] = defaultdict(list)
        for one in sorted(self.invocations, key=lambda one: one.started_ns):
            found[one.place].append(one)
        return found

    @cached_property
    def _attempts(self) -> Mapping[tuple[str, str, int], list[Change]]:
        return lives(self.changes)

    def attempt(self, run_id: str, step_key: str, number: int) -> list[Change]:
        """What became of one attempt, in order: see `lives`."""
        return self._attempts.get((run_id, step_key, number), [])

    def attempts(self) -> Iterator[tuple[tuple[str, str, int], list[Change]]]:
        """Every attempt there was, with what became of it."""
        yield from self._attempts.items()

    def faults_between(self, from_ns: int, to_ns: int) -> list[Fault]:
        """Those under way at some moment of this span."""
        return [fault for fault in self.faults if fault.from_ns <= to_ns and fault.healed_ns >= from_ns]

    def stalled_ns(self, from_ns: int, to_ns: int) -> int:
        """How long the machine stood still within a span."""
        found = [fault for fault in self.faults_between(from_ns, to_ns) if fault.kind == STALL]
        return sum(min(fault.healed_ns, to_ns) - max(fault.from_ns, from_ns) for fault in found)

    def loops_around(self, run_id: str, key: str) -> Iterator[Row]:
        """What the manifest says of each loop that a step is in, the outermost first."""
        steps, parts = self.manifest_of(run_id)["steps"], key.split(".")
        for loop in parts[:-1:2]:
            yield steps[loop]
            steps = steps[loop]["steps"]

    @staticmethod
    def step_of(steps: Mapping[str, Any], key: str) -> Row | None:
        """What a manifest says of a step, or of one in an item of a loop; None of an item itself."""
        loop, dot, rest = key.partition(".")
        step: Row = steps[loop]
        if not dot:
            return step
        _, _, inner = rest.partition(".")
        return History.step_of(step["steps"], inner) if inner else None

    def manifest_of(self, run_id: str) -> Row:
        return self.manifests[self.runs[run_id]["manifest_hash"]]


def with_old(changes: Iterable[Change]) -> list[Change]:
    """The same, in order, with `old` taken from the change before where an update came without it."""
    rows: dict[tuple[str, ...], Row] = {}
    found = []
    for change in sorted(changes, key=lambda change: change.seq):
        key = (change.table, *(str(change.row[name]) for name in KEYS[change.table]))
        if change.op == "update" and not change.old:
            change = Change(**{**change.__dict__, "old": rows.get(key, {})})
        if change.op == "delete":
            rows.pop(key, None)
        else:
            rows[key] = change.new
        found.append(change)
    return found


def stripped(value: Any) -> Any:
    """As the recorder gives it: members that are null are left out."""
    if isinstance(value, dict):
        return {name: stripped(one) for name, one in value.items() if one is not None}
    return [stripped(one) for one in value] if isinstance(value, list) else value
