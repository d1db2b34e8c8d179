"""Loops whose items are small flows: in seeded worlds they have what flows have, loops of their own among it."""

import json
import random
import re
from collections.abc import Callable
from typing import Any, Final

from tests.simulation import flows

Made = dict[str, Any]
Inside = Callable[[random.Random, Made], Made]
"""What is added to the small flow of an item."""
NESTED: Final = 0.25
_READ_OF: Final = {"fates": "", "lists": "", "flags": "flags.", "keys": "keys.", "calls": "calls."}
"""By part of the input of a run, where an item has it."""
_NAME: Final = re.compile(r"(?<![a-z])([s-y])(\d)\b")
"""Of a step: `s0` in a flow, `t0` in an item, `u0` in an item of a loop that stands there."""


def plain(rng: random.Random, inner: Made) -> Made:
    """Steps, loops, joins and conditions."""
    return inner


def waits(rng: random.Random, inner: Made) -> Made:
    """Signals and answers; the key of a signal comes with the item."""
    steps = flows.with_waits(rng, inner)["steps"]
    for key, step in steps.items():
        if "signal" in step:
            step["signal"]["key"] = f"@triggerBody().keys.{key}"
    return {**inner, "steps": steps}


def naps(rng: random.Random, inner: Made) -> Made:
    """Sleeps, in a flow with nothing but edges and loops."""
    return flows.with_naps(rng, flows.manifest(rng, "inner", more=False))


def with_items(rng: random.Random, found: Made, inside: Inside = plain, nested: float = NESTED) -> Made:
    """The same flow, with a loop that runs a small flow for each of its items. What becomes of a loop some of whose
    items fail is said by some."""
    steps = {key: {**step, **_failures(rng)} if "steps" in step else step for key, step in found["steps"].items()}
    inner = inside(rng, flows.manifest(rng, "inner", more=True))
    if rng.random() < nested:
        inner = with_items(rng, inner, inside, nested=0)
    before = rng.sample(list(steps), k=min(len(steps), rng.choice((0, 0, 1))))
    steps["s9"] = {
        "for_each": "@triggerBody().lists.s9",
        "run_after": {key: list(rng.choice(flows.ACCEPTED)) for key in before},
        **_body(rng, inner),
        **({"concurrency": rng.choice((1, 2))} if rng.random() < 0.4 else {}),
        **_failures(rng),
    }
    return {**found, "steps": steps}


def _body(rng: random.Random, inner: Made) -> dict[str, Any]:
    """With names of its own: no step inside hides one that stands around it."""
    given = [f"@steps('{key}').output" for key, step in inner["steps"].items() if "type" in step]
    output = " ?? ".join([*rng.sample(given, k=min(1, len(given))), "null"]) if given else "none"
    text = json.dumps({"steps": inner["steps"], "output": output})
    for place, instead in _READ_OF.items():
        text = text.replace(f"@triggerBody().{place}.", f"@item().{instead}")
    body: dict[str, Any] = json.loads(_NAME.sub(lambda found: f"{chr(ord(found[1]) + 1)}{found[2]}", text))
    return body


def _failures(rng: random.Random) -> dict[str, Any]:
    return rng.choice(({}, {}, {"errors": "collect"}, {"stop_on_failure": True}))


def over_flows(rng: random.Random, found: Made, others: list[Made]) -> Made:
    """The same flow, with a loop that calls one of these flows for each item."""
    other = rng.choice(others)
    inputs = {part: f"@item().calls.run.{part}" for part in flows.parts(other)}
    call = {"flow": other["name"], "inputs": inputs, "retry": {"max_attempts": rng.choice((1, 2))}}
    loop = {
        "for_each": "@triggerBody().lists.s8",
        "steps": {"run": call},
        "output": "@steps('run').output",
        **({"concurrency": rng.choice((1, 2))} if rng.random() < 0.5 else {}),
        **_failures(rng),
    }
    return {**found, "steps": {**found["steps"], "s8": loop}}


def with_calls(rng: random.Random, made: list[Made]) -> list[Made]:
    """The same flows, each of which calls some of those behind it in items."""
    found: list[Made] = []
    for one in reversed(made):
        called = list(found)
        if called and rng.random() < 0.5:
            one = over_flows(rng, one, called)
        elif called:
            one = with_items(rng, one, lambda rng, inner: _calling(rng, inner, called), nested=0)  # noqa: B023
        found = [flows.giving(rng, one), *found]
    return found


def _calling(rng: random.Random, inner: Made, others: list[Made]) -> Made:
    return {**inner, "steps": flows.calling(rng, inner["steps"], others)}
