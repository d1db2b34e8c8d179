"""The judge: every invariant on one history. It knows what happened, and nothing of how the engine works."""

from collections.abc import Callable, Iterator
from typing import Final

from tests.proof import claims, deliveries, executions, heard, liveness, outcomes, reports, signals, ticks
from tests.proof.figures import figures
from tests.proof.history import History
from tests.proof.verdict import Verdict, Violation

Invariant = Callable[[History], Iterator[Violation]]

INVARIANTS: Final[dict[str, Invariant]] = {
    "I1": claims.i1_one_live_claim,
    "I2": executions.i2_reruns_are_explained,
    "I3": claims.i3_one_completion,
    "I4": claims.i4_nothing_from_the_superseded,
    "I5": outcomes.i5_what_must_run_ran,
    "I6": executions.i6_after_all_predecessors,
    "I7": outcomes.i7_accepted_runs_end,
    "I8": outcomes.i8_terminal_is_final,
    "I9": executions.i9_outputs_are_of_the_winner,
    "I10": executions.i10_effects_happen_once,
    "I11": claims.i11_attempts_are_counted,
    "I12": outcomes.i12_keys_name_one_run,
    "I13": ticks.i13_ticks_and_runs,
    "I14": signals.i14_signals_are_taken_once,
    "I15": deliveries.i15_deliveries_are_taken_once,
    "I16": executions.i16_nothing_starts_after_a_cancel,
    "I17": liveness.i17_the_outbox_empties,
    "I19": outcomes.i19_everything_is_accounted_for,
    "I20": liveness.i20_progress_after_healing,
    "I22": reports.i22_calls_end_as_their_runs,
    "I23": heard.i23_events_are_heard,
}
"""Without those about limits and secrets, which have tests of their own."""


def check(history: History) -> Verdict:
    """Hold everything against everything."""
    found = [violation for invariant in INVARIANTS.values() for violation in invariant(history)]
    return Verdict(tuple(found), figures(history))
