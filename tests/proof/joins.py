"""The rules of joins and conditions, written a second time: from every way in which predecessors may have ended."""

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import product
from typing import Any

Step = Mapping[str, Any]
Sure = Callable[[str], frozenset[str]]


def goes(join: str, ended: list[tuple[str, bool]]) -> bool:
    """Whether a step goes whose predecessors have ended so; each end with whether its edge asks for it."""
    met = [asked for _, asked in ended]
    match join:
        case "all":
            return all(met)
        case "any" | "some":
            return any(met)
        case "none_failed":
            return any(met) and all(asked or end == "skipped" for end, asked in ended)
        case "all_done":
            return True
    raise ValueError(f"there is no join {join!r}")


def decisions(step: Step, sure: Sure) -> set[bool]:
    """What its join may say, given how its predecessors may end."""
    before = step.get("run_after", {})
    ways = product(*(sorted(sure(name)) for name in before))
    return {
        goes(
            step.get("join", "all"),
            [(end, end in accepted) for end, accepted in zip(way, before.values(), strict=True)],
        )
        for way in ways
    }


def blamed(step: Step, sure: Sure) -> str:
    """How the reason of a step begins that its join skips for sure."""
    before = step.get("run_after", {})
    unmet = [name for name, accepted in before.items() if not sure(name) & set(accepted)]
    match step.get("join", "all"):
        case "all":
            return unmet[0]
        case "none_failed":
            failed = [name for name in unmet if "skipped" not in sure(name)]
            return failed[0] if failed else f"{', '.join(before)} were all" if len(before) > 1 else unmet[0]
    return "none of"


def lead_only_to(steps: Mapping[str, Step], race: str) -> set[str]:
    """The steps before a race that nobody else waits for."""
    after: dict[str, set[str]] = {key: set() for key in steps}
    for name, step in steps.items():
        for key in step.get("run_after", {}):
            after[key].add(name)
    found: set[str] = {race}
    while more := {key for key, targets in after.items() if key not in found and targets and targets <= found}:
        found |= more
    return found - {race}


def withdrawable(steps: Mapping[str, Step], sure: Sure, settled: Collection[str] = ()) -> Iterator[str]:
    """The steps that may be withdrawn because a race was decided by another one. Who settled a step did not wait for
    those before it: they have not ended for it."""
    for race, step in steps.items():
        if step.get("join") != "any" or step.get("rest") == "leave" or race in settled:
            continue
        ended = [before(steps, winner, sure, settled) for winner in _winners(step, sure)]
        yield from (key for key in lead_only_to(steps, race) if any(key not in each for each in ended))


def _winners(race: Step, sure: Sure) -> list[str]:
    return [name for name, accepted in race["run_after"].items() if sure(name) & set(accepted)]


def before(steps: Mapping[str, Step], key: str, sure: Sure, settled: Collection[str] = ()) -> set[str]:
    """The step and everything that has ended with it for sure, however far back; what was settled has waited for
    nothing, and a race for one of those before it only."""
    step = steps[key]
    if key in settled or not step.get("run_after"):
        return {key}
    race = step.get("join") == "any"
    found = [before(steps, name, sure, settled) for name in (_winners(step, sure) if race else step["run_after"])]
    return {key}.union(set.intersection(*found) if race and found else set().union(*found))
