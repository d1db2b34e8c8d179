"""The figures of an experiment, from its history alone."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from tests.proof.executions import Given, claim_of, explains, explanations, given, pids_of
from tests.proof.history import FINAL_RUN, LOST, STALL, Fault, History
from tests.proof.liveness import waits
from tests.proof.ticks import doubled, lags, lost

OPERATORS: Final = "schedule"
"""The kinds of what operators do begin with it; they are not faults, and stand in the log beside them."""


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that this share of all does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def figures(history: History) -> dict[str, float]:
    """By name, in the order of the report."""
    runs = history.runs.values()
    again = _re_executions(history)
    told = {call.run_id for call in history.calls if call.kind == "start" and call.reply == "ok"}
    waited = [(to_ns - from_ns) / 1e9 for from_ns, to_ns in _waits(history)]
    return {
        "runs": len(history.runs),
        **{f"runs {status}": count for status, count in sorted(Counter(run["status"] for run in runs).items())},
        "steps": len(history.final.get("flow_steps", ())),
        "invocations": len(history.invocations),
        "changes recorded": len(history.changes),
        "messages taken": len(history.messages),
        "messages suppressed": sum(row.get("suppressed", 0) for row in history.final.get("flow_step_dispatches", ())),
        "dispatches sent again": sum(
            row.get("publish_count", 0) > 1 for row in history.final.get("flow_step_dispatches", ())
        ),
        "stale completions refused": history.notes.get("stale", 0),
        "re-executions explained": again["explained"],
        "re-executions unexplained": again["unexplained"],
        "attempts lost": sum(row["status"] in LOST for row in history.final.get("flow_step_attempts", ())),
        "faults": sum(not fault.kind.startswith((OPERATORS, STALL)) for fault in history.faults),
        "acts of operators": sum(fault.kind.startswith(OPERATORS) for fault in history.faults),
        "queue age p50 s": quantile(waited, 0.5),
        "queue age p99 s": quantile(waited, 0.99),
        **_ticks(history),
        **_edge(history),
        "lost": len(told - history.runs.keys()),
        "stuck": sum(run["status"] not in FINAL_RUN for run in runs),
    }


def _edge(history: History) -> dict[str, float]:
    """Of those who come by HTTP; nothing where nobody does."""
    if not history.deliveries and not history.listening_ns:
        return {}
    told = Counter(one.reply for one in history.deliveries)
    return {
        "deliveries": len(history.deliveries),
        "deliveries new": told["new"],
        "deliveries known": told["seen"],
        "deliveries refused": told["refused"],
        "deliveries unanswered": told["unknown"],
        "events told": len(history.heard),
        "events told again": len(history.heard) - len(set(history.heard)),
    }


def _ticks(history: History) -> dict[str, float]:
    """Of schedules; nothing where there are none."""
    rows = history.final.get("flow_schedule_ticks", ())
    if not rows:
        return {}
    outcomes: Counter[str] = Counter()
    for row in rows:
        outcomes[row["outcome"]] += row.get("count", 1)
    late = lags(history)
    return {
        "ticks": sum(outcomes.values()),
        **{f"ticks {outcome}": count for outcome, count in sorted(outcomes.items())},
        "ticks decided by a watchdog": sum(row.get("by") == "watchdog" for row in rows),
        "tick doubles suppressed": sum(row.get("doubles", 0) for row in history.final.get("flow_schedule_states", ())),
        "tick doubles": len(doubled(history)),
        "ticks lost": lost(history),
        "tick lag p50 s": quantile(late, 0.5),
        "tick lag p99 s": quantile(late, 0.99),
    }


def _waits(history: History) -> list[tuple[int, int]]:
    found = [span for place in history.places("flow_steps") for span in waits(history, place)]
    return [(from_ns, min(to_ns, history.ended_ns or to_ns)) for from_ns, to_ns in found]


def _re_executions(history: History) -> Counter[str]:
    """Handlers that ran again after a claim was lost."""
    found: Counter[str] = Counter()
    for invocations in history.invocations_of.values():
        for earlier, _ in pairwise(invocations):
            claim = claim_of(history, earlier)
            if claim is None or claim.status not in LOST | {"running", "succeeded"}:
                continue
            known = claim.status in LOST and bool(explanations(history, claim))
            found["explained" if known else "unexplained"] += 1
    return found


def faults_by_kind(history: History) -> dict[str, int]:
    """How often each was done."""
    return dict(sorted(Counter(fault.kind for fault in history.faults).items()))


def moments(history: History) -> dict[str, Counter[str]]:
    """By kind of fault that strikes a worker: where the steps were that it had at that moment."""
    held = [
        (pids_of(claim.claimed.new["owner"]), claim, (run_id, step_key, attempt))
        for (run_id, step_key, attempt), _ in history.attempts()
        for claim in given(history, run_id, step_key, attempt)
    ]
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for fault in history.faults:
        if not explains(fault) or fault.kind == STALL or all(pid < 0 for pid in fault.pids):
            continue
        hit = [
            _moment(history, place, fault.from_ns)
            for pids, claim, place in held
            if pids & fault.pids and claim.claimed.at <= fault.from_ns < (claim.ended.at if claim.ended else 2**62)
        ]
        found[fault.kind].update(hit or ["idle"])
    return dict(sorted(found.items()))


def _moment(history: History, place: tuple[str, str, int], at: int) -> str:
    """Of a claim that is held at this moment."""
    run_id, step_key, attempt = place
    begun = [
        one
        for one in history.invocations_of.get((run_id, step_key), ())
        if one.attempt == attempt and one.started_ns <= at
    ]
    if not begun:
        return "before the handler"
    return "in the handler" if begun[-1].ended_ns is None or begun[-1].ended_ns > at else "after the handler"


def recoveries(history: History) -> dict[str, Sequence[float]]:
    """By kind of fault, in seconds: from the fault until the last step that it took from its worker, or kept in a
    queue, was claimed again."""
    lost = _lost(history)
    spans = _waits(history)
    found: dict[str, list[float]] = defaultdict(list)
    for fault in history.faults:
        if fault.kind.startswith((OPERATORS, "beat", "api")):
            continue  # no step of a worker is held up
        late = [at for claim, at in lost if _hit(fault, claim)]
        late += [to_ns for from_ns, to_ns in spans if from_ns <= fault.healed_ns < to_ns]
        if late:
            found[fault.kind].append((max(late) - fault.from_ns) / 1e9)
    return dict(sorted(found.items()))


def _lost(history: History) -> list[tuple[Given, int]]:
    """Claims that were lost, each with the moment of the step's next claim."""
    found = []
    for (run_id, step_key, attempt), _ in history.attempts():
        for claim in given(history, run_id, step_key, attempt):
            following = given(history, run_id, step_key, attempt + 1)
            if claim.status in LOST and following:
                found.append((claim, following[0].claimed.at))
    return found


def _hit(fault: Fault, claim: Given) -> bool:
    assert claim.ended is not None
    there = fault.from_ns <= claim.ended.at and fault.healed_ns >= claim.claimed.at
    mine = not fault.pids or bool(fault.pids & pids_of(claim.claimed.new["owner"]))
    return explains(fault) and there and mine


def table(rows: Mapping[str, Sequence[float]]) -> list[str]:
    """Lines of count, median, p99 and maximum."""
    return [
        f"{name:<24} {len(values):>4}  p50 {quantile(values, 0.5):6.2f}  p99 {quantile(values, 0.99):6.2f}"
        f"  max {max(values):6.2f}"
        for name, values in rows.items()
    ]
