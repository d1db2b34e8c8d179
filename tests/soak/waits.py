"""What flows of a soak wait for before some of their steps: a while, a time, a signal, somebody's answer."""

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

Step = dict[str, Any]
Make = Callable[[random.Random, str], Step]
"""A wait, given its key."""

SIGNALS: Final = ("go", "stop")
"""Names. Those of one name have one form."""
KEYS: Final = ("", "a")
OF_ITEMS: Final = ("a", "b", "c")
"""Keys of signals for items."""
FORM: Final = {"type": "object", "required": ["n"]}
_LENGTHS: Final = ("PT0.5S", "PT1S", "PT2S", "PT4S")
_LIMITS: Final = (None, "PT2S", "PT5S")


def nap(rng: random.Random, key: str) -> Step:
    return {"sleep": rng.choice((*_LENGTHS, f"@triggerBody().naps.{key}"))}


def until(rng: random.Random, key: str) -> Step:
    return {"until": f"@triggerBody().times.{key}"}


def signal(rng: random.Random, key: str) -> Step:
    limit = rng.choice(_LIMITS)
    facts = {
        "name": rng.choice(SIGNALS),
        "key": rng.choice((*KEYS, f"@triggerBody().keys.{key}")),
        "timeout": limit,
        "default": {"n": 0} if limit and rng.random() < 0.5 else None,
        "schema": FORM,
    }
    return {"signal": _given(facts)}


def approval(rng: random.Random, key: str) -> Step:
    limit = rng.choice(_LIMITS)
    late = {"n": 0} if limit and rng.random() < 0.5 else None
    return {"approval": _given({"title": "May it?", "to": "ada", "form": FORM, "within": limit, "late": late})}


def _given(facts: Mapping[str, Any]) -> Step:
    return {name: value for name, value in facts.items() if value is not None}


def before_some(rng: random.Random, steps: Mapping[str, Step], makes: Sequence[Make]) -> dict[str, Step]:
    """The same graph, each of these before some step or other wait: the first before one that nothing is before, so
    that it is reached. A handler is given what its step waited for."""
    found = {key: {**step, "run_after": dict(step["run_after"])} for key, step in steps.items()}
    free = [key for key, step in steps.items() if "join" not in step]
    roots = [key for key in free if not steps[key]["run_after"]]
    for n, make in enumerate(makes):
        key = rng.choice([*free, *(key for key in found if key not in steps)] if n else roots)
        wait = f"{make.__name__}{n}"
        before = {name: accepted for name, accepted in found[key]["run_after"].items() if rng.random() < 0.7}
        found[wait] = {**make(rng, wait), "run_after": before}
        found[key]["run_after"][wait] = ["succeeded"]
        if "inputs" in found[key]:
            inputs = found[key]["inputs"]
            found[key]["inputs"] = {**inputs, "seen": [*inputs["seen"], f"@steps('{wait}').output"]}
    return found


def inputs(rng: random.Random, steps: Mapping[str, Step], among: Sequence[str] = KEYS) -> dict[str, dict[str, Any]]:
    """What the waits of a graph read of the input; its keys are `among` these."""
    naps = {key: rng.choice(("0.5s", "1s", 1.5)) for key, step in steps.items() if "sleep" in step}
    keys = {key: rng.choice(among) for key, step in steps.items() if "signal" in step}
    return {"naps": naps, "times": {key: _soon(rng) for key, step in steps.items() if "until" in step}, "keys": keys}


def _soon(rng: random.Random) -> str:
    """Some are past."""
    return (datetime.now(UTC) + timedelta(seconds=rng.uniform(-1, 4))).isoformat()
