"""A condition that the worker of the step before can see: what it costs beside a plain step."""

import time
from statistics import median
from typing import Any, Final

from benchmarks import flows, when_flows
from benchmarks.alone import Ground
from benchmarks.contenders import CHAIN, Ours, succeeded
from benchmarks.figures import number
from benchmarks.report import Result
from benchmarks.workloads import Say, Sizes

_REST_S: Final = 0.6


def when(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """Chains of five in turn, plain ones and such in which each step but the first has a condition that holds."""
    ratios: dict[str, list[float]] = {"wall": [], "CPU": []}
    with ground.ours(ground.database("foreseen"), 13, "foreseen", flows="benchmarks.when_flows") as ours:
        for flow in (flows.chain, when_flows.asked):
            spent(ours, flow, 100)
        for turn in range(max(sizes.rounds, 5)):
            pair = (flows.chain, when_flows.asked)
            in_turn = pair if turn % 2 == 0 else pair[::-1]
            found = {flow.name: spent(ours, flow, sizes.when_runs) for flow in in_turn}
            for name, values in ratios.items():
                values.append(found["asked"][name] / found["chain"][name])
            say(
                f"when {turn + 1}: plain {number(found['chain']['CPU'])} ms of CPU a step, with a condition "
                f"{number(found['asked']['CPU'])}: {ratios['CPU'][-1]:.3f}; wall {ratios['wall'][-1]:.3f}"
            )
    notes = [
        f"a step with a condition to a plain one, {name}: **{median(values):.3f} times** "
        f"({min(values):.3f} to {max(values):.3f})"
        for name, values in ratios.items()
    ]
    return Result(f"Conditions that can be foreseen, {sizes.when_runs:,} chains a round", notes=notes)


def spent(ours: Ours, flow: Any, count: int) -> dict[str, float]:
    """Milliseconds a step: of the clock, and of all processes."""
    before, began = ours.cpu(), time.perf_counter()
    for handle in ours.client.start_many(flow, [{"value": value} for value in range(count)]):
        succeeded(handle)
    wall_s = time.perf_counter() - began
    time.sleep(_REST_S)
    return {"wall": wall_s * 1000 / count / CHAIN, "CPU": (ours.cpu() - before).total * 1000 / count / CHAIN}
