"""What is printed of a load."""

from collections import Counter

from tests.edge import figures
from tests.edge_load.run import Outcome
from tests.proof.history import SECOND
from tests.soak.report import SHOWN, commit, nemesis_log


def figures_of(outcome: Outcome) -> dict[str, float]:
    """By name, in the order of the report; requests are those under faults."""
    history = outcome.history
    inside = [one for one in outcome.exchanges if outcome.span[0] <= one.begun_ns <= outcome.span[1]]
    ends = Counter(run["status"] for run in history.runs.values())
    return {
        **figures.figures(inside),
        **{name: outcome.verdict.figures[name] for name in ("events told", "events told again")},
        "runs": len(history.runs),
        **{f"runs {status}": count for status, count in sorted(ends.items())},
        "signals": len(history.final.get("flow_signals", ())),
    }


def render(outcome: Outcome) -> str:
    """Plain text, also fit for Markdown."""
    length_s = (outcome.span[1] - outcome.span[0]) / SECOND
    lines = [
        f"edge load seed {outcome.seed}, commit {commit()}: {length_s:.0f} s of faults, "
        f"drained in {outcome.drained_s:.1f} s",
        f"command: python -m tests.edge_load --seed {outcome.seed} --seconds {outcome.seconds:g}",
        "",
        *(f"{name:<28} {round(value, 1):g}" for name, value in figures_of(outcome).items()),
        "",
        "faults, in seconds from the first:",
        nemesis_log(outcome.history),
        "",
        f"violations: {len(outcome.verdict.violations)}",
        *(str(violation) for violation in outcome.verdict.violations[:SHOWN]),
    ]
    return "\n".join(lines)
