"""What is printed, and kept, of a soak."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.proof import calls, figures, ticks
from tests.proof.history import SECOND, Change, History
from tests.proof.verdict import Verdict
from tests.soak import constructs

SHOWN = 20
"""Violations that are printed in full."""


@dataclass(frozen=True)
class Outcome:
    """A soak that is over."""

    seed: int
    minutes: float
    history: History
    verdict: Verdict
    seconds: Mapping[str, float]
    """How long each phase took."""
    pooler: str = "session"
    """Its mode."""

    @property
    def passed(self) -> bool:
        return not self.verdict.violations


def commit() -> str:
    """The commit under test, with a mark when the tree differs from it."""
    here = Path(__file__).parent
    asked = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(asked, cwd=here, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def render(outcome: Outcome) -> str:
    """Plain text, also fit for Markdown."""
    history, verdict = outcome.history, outcome.verdict
    lines = [
        f"soak seed {outcome.seed}, commit {commit()}, {outcome.minutes:g} min of faults, "
        f"{sum(outcome.seconds.values()):.0f} s in all: "
        + ", ".join(f"{name} {took:.0f}" for name, took in outcome.seconds.items()),
        f"command: make soak SEED={outcome.seed} MINUTES={outcome.minutes:g}{_pooler(outcome)}",
        "",
        *(f"{name:<28} {_number(value)}" for name, value in verdict.figures.items()),
        *(f"{name:<28} {count}" for name, count in sorted(history.notes.items())),
        f"{'quiet windows':<28} {len(history.quiet)}, longest {_longest(history):.1f} s",
        "",
        "played: " + ", ".join(f"{name} {count}" for name, count in constructs.played(history).items()),
        "faults: "
        + (", ".join(f"{name} {count}" for name, count in figures.faults_by_kind(history).items()) or "none"),
        "what the struck workers were at:",
        *(
            f"{kind:<24} " + ", ".join(f"{where} {count}" for where, count in sorted(counts.items()))
            for kind, counts in figures.moments(history).items()
        ),
        "recovery in seconds, from the fault to the last claim of what it held up:",
        *figures.table(figures.recoveries(history)),
        "failover in seconds, from the fault of a beat to the next tick that a beat announced:",
        *figures.table(ticks.failovers(history)),
        "",
        f"violations: {len(verdict.violations)}",
        *(str(violation) for violation in verdict.violations[:SHOWN]),
    ]
    return "\n".join(lines)


def nemesis_log(history: History) -> str:
    """One line per fault, by time since the first."""
    first = min((fault.from_ns for fault in history.faults), default=0)
    return "\n".join(
        f"{(fault.from_ns - first) / SECOND:7.2f} to {(fault.healed_ns - first) / SECOND:7.2f}  {fault.kind:<22}"
        f" {fault.target} {fault.detail}"
        for fault in sorted(history.faults, key=lambda fault: fault.from_ns)
    )


def wronged(outcome: Outcome) -> str:
    """What is recorded of the runs of which something is held against the engine, and of those that called them or were
    called by them."""
    history, found = outcome.history, []
    runs = list(dict.fromkeys(one.run_id for one in outcome.verdict.violations if one.run_id in history.runs))
    near = {run_id: _near(history, run_id) for run_id in runs[:SHOWN]}
    for run_id in dict.fromkeys(one for each in near.values() for one in each):
        found += ["", f"==== {run_id}", str(history.runs[run_id]), str(history.manifest_of(run_id))]
        found += [str(one) for one in (*history.calls, *history.sent) if one.run_id == run_id]
        found += [
            f"{one.at} {one.xid} {one.op} {one.table} {one.step_key} {_new(one)}"
            for one in history.changes
            if one.run_id == run_id
        ]
    return "\n".join(found)


def _near(history: History, run_id: str) -> list[str]:
    called = [one for (caller, _), runs in history.called.items() if caller == run_id for one in runs]
    return [run_id, *calls.above(history, run_id), *called]


def _new(change: Change) -> dict[str, object]:
    """What it changed."""
    return {name: value for name, value in change.row.items() if change.old.get(name) != value or change.op == "delete"}


def _longest(history: History) -> float:
    return max(((to_ns - from_ns) / SECOND for from_ns, to_ns in history.quiet), default=0.0)


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, int) else f"{value:.2f}"


def _pooler(outcome: Outcome) -> str:
    return "" if outcome.pooler == "session" else f" SOAK_ARGS='--pooler {outcome.pooler}'"
