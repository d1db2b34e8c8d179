"""What seeded loops do for each of their items, beside plain steps: conditions, races, waits, loops again."""

import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.soak.waits import FORM

Policy = Callable[[random.Random], dict[str, Any]]
FEW: Final = 5
"""Items of a loop that waits for people, or has loops inside."""
_OK: Final = ["succeeded"]


def work(key: str, *after: str, **fields: Any) -> dict[str, Any]:
    """A step of an item: it does what the item says for it, and is given what those before it gave."""
    inputs = {"fate": f"@item().{key}", "seen": [f"@steps('{name}').output" for name in after]}
    plain = {"type": "work", "inputs": inputs, "run_after": dict.fromkeys(after, _OK)}
    return {**plain, "retry": {"max_attempts": 2}, **fields}


def either(join: str, *names: str) -> dict[str, Any]:
    """What one of these gives."""
    value = " ?? ".join(f"@steps('{name}').output" for name in names)
    return {"value": value, "join": join, "run_after": dict.fromkeys(names, _OK)}


def when(key: str) -> dict[str, str]:
    return {"when": f"@item().flags.{key}"}


def signal(key: str, *after: str, **fields: Any) -> dict[str, Any]:
    asked = {"name": "go", "key": f"@item().keys.{key}", "schema": FORM, **fields}
    return {"signal": asked, "run_after": dict.fromkeys(after, _OK)}


def approval(*after: str, **fields: Any) -> dict[str, Any]:
    return {
        "approval": {"title": "May it?", "to": "ada", "form": FORM, **fields},
        "run_after": dict.fromkeys(after, _OK),
    }


def body(rng: random.Random, policy: Policy) -> dict[str, Any]:
    """One of them."""
    return rng.choice(_BODIES)(rng, policy)


def _choice(rng: random.Random, policy: Policy) -> dict[str, Any]:
    steps = {
        "do": work("do", **policy(rng)),
        "yes": work("yes", "do", **when("yes"), **policy(rng)),
        "no": work("no", "do", **when("no"), **({"may_fail": True} if rng.random() < 0.5 else {})),
        "merged": either("none_failed", "yes", "no"),
        "some": work("some", join=rng.choice(("some", "none_failed")), run_after=dict.fromkeys(("yes", "no"), _OK)),
    }
    return {"steps": steps, "output": "@steps('merged').output"}


def _race(rng: random.Random, policy: Policy) -> dict[str, Any]:
    rest = {"rest": "leave"} if rng.random() < 0.3 else {}
    steps = {
        "do": work("do", **policy(rng)),
        "nap": {"sleep": rng.choice(("PT0.5S", "PT1S", "@item().naps.nap")), "run_after": {}},
        "slow": work("slow", "nap"),
        "first": {**either("any", "do", "slow"), **rest},
        "then": work("then", "first", **policy(rng)),
    }
    return {"steps": steps, "output": "@steps('then').output"}


def _nested(rng: random.Random, policy: Policy) -> dict[str, Any]:
    failures: dict[str, Any] = rng.choice(({}, {}, {"errors": "collect"}, {"stop_on_failure": True}))
    part = {"type": "work", "inputs": {"fate": "@item()", "seen": ["@steps('do').output"]}, **policy(rng)}
    if rng.random() < 0.5:
        inner = {"steps": {"part": work("part", **policy(rng)), "more": work("more", "part", **when("more"))}}
    else:
        inner = {"steps": {"part": part}}
    window = {"concurrency": rng.choice((1, 2))} if rng.random() < 0.5 else {}
    parts = {"for_each": "@item().parts", "run_after": {"do": _OK}, **inner, **failures, **window}
    return {
        "steps": {"do": work("do"), "parts": parts, "then": work("then", "parts")},
        "output": "@steps('then').output",
    }


def _asks(rng: random.Random, policy: Policy) -> dict[str, Any]:
    late: dict[str, Any] = {"default": {"n": 0}} if rng.random() < 0.5 else {}
    steps = {
        "do": work("do", **policy(rng)),
        "paid": signal("paid", "do", timeout="PT3S", **late),
        "ask": approval("do", within="PT3S", late={"n": 0}),
        "then": work("then", "paid", "ask"),
        "refund": work("refund", run_after={"paid": ["failed"]}),
    }
    return {"steps": steps, "output": "@steps('do').output"}


_BODIES: Final = (_choice, _race, _nested, _asks)


def most(loop: Mapping[str, Any]) -> int:
    """Items that a loop is given: a soak of minutes must drain."""
    slow = any({"steps", "signal", "approval", "sleep"}.intersection(step) for step in loop["steps"].values())
    return FEW if slow else 200
