"""What seeded steps ask beside their edges: joins, conditions, merges. Conditions read a flag of the input."""

import random
from collections.abc import Mapping
from typing import Any, Final

JOINS: Final = ("some", "some", "none_failed", "none_failed", "all_done")
FLAGS: Final[tuple[Any, ...]] = (True, True, True, False, False, "neither")
"""What a condition reads."""


def gates(rng: random.Random, key: str, step: Mapping[str, Any]) -> dict[str, Any]:
    """What a step asks beside its edges; half of them nothing. A loop asks for the list that it gets from another
    step."""
    found: dict[str, Any] = {}
    if step["run_after"] and "@steps" not in step.get("for_each", "") and rng.random() < 0.3:
        found["join"] = rng.choice(JOINS)
        if found["join"] == "all_done":
            found["run_after"] = {name: [] for name in step["run_after"]}
    if rng.random() < 0.15:
        found["when"] = f"@triggerBody().flags.{key}"
    if rng.random() < 0.1:
        found["may_fail"] = True
    return found


def merge(rng: random.Random, before: list[str]) -> dict[str, Any]:
    """Of whichever ran, or of the first one."""
    value = " ?? ".join(f"@steps('{key}').output" for key in before)
    join = rng.choice(("none_failed", "any", "any"))
    rest = {"rest": "leave"} if join == "any" and rng.random() < 0.3 else {}
    return {"value": value, "join": join, "run_after": {key: ["succeeded"] for key in before}, **rest}
