"""Small flows, each of which shows some constructs whatever the seed is, so that no soak goes without them."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tests.soak.waits import FORM

NEVER: Final = "never"
"""The signal that nobody sends."""
_OK: Final = ["succeeded"]


class Certain(NamedTuple):
    """A flow, and what is the same in the input of all its runs."""

    manifest: Mapping[str, Any]
    fates: Mapping[str, Mapping[str, Any]] = {}
    flags: Mapping[str, Any] = {}


def _work(key: str, *after: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "work",
        "inputs": {"fate": f"@triggerBody().fates.{key}", "seen": [f"@steps('{name}').output" for name in after]},
        "run_after": dict.fromkeys(after, _OK),
        "retry": {"max_attempts": 2},
        **fields,
    }


def _after(end: str, *names: str) -> dict[str, list[str]]:
    return {name: [end] for name in names}


def _when(key: str) -> dict[str, str]:
    return {"when": f"@triggerBody().flags.{key}"}


_RACE: Final = {
    "s0": _work("s0"),
    "nap": {"sleep": "PT2S", "run_after": {}},
    "first": {
        "value": "@steps('s0').output ?? @steps('nap').output",
        "join": "any",
        "run_after": _after("succeeded", "s0", "nap"),
    },
    "s1": _work("s1", "first"),
}
"""A step against the clock. Whatever loses is withdrawn, or has ended too late to count."""
_CHOICE: Final = {
    "s0": _work("s0"),
    "yes": _work("yes", "s0", **_when("yes")),
    "no": _work("no", "s0", **_when("no")),
    "neither": _work("neither", "s0", may_fail=True, **_when("neither")),
    "merged": {
        "value": "@steps('yes').output ?? @steps('no').output",
        "join": "none_failed",
        "run_after": _after("succeeded", "yes", "no"),
    },
    "some": _work("some", join="some", run_after=_after("succeeded", "yes", "no")),
    "made_up": _work("made_up", run_after=_after("failed", "neither")),
}
"""A branch that is taken, one that is not, one of which nobody can tell, and what follows them."""
_UNHEARD: Final = {
    "paid": {"signal": {"name": NEVER, "timeout": "PT1S", "schema": FORM}, "run_after": {}},
    "refund": _work("refund", run_after=_after("failed", "paid")),
    "told": {
        "signal": {"name": NEVER, "key": "b", "timeout": "PT1S", "default": {"n": 0}, "schema": FORM},
        "run_after": _after("succeeded", "refund"),
    },
    "s1": _work("s1", "told"),
}
"""Waits that nobody ends."""
_EARLY: Final = {
    "nap": {"sleep": "PT3S", "run_after": {}},
    "paid": {"signal": {"name": "go", "key": "", "schema": FORM}, "run_after": _after("succeeded", "nap")},
    "s1": _work("s1", "paid"),
}
"""A signal may well be there before its wait."""
_OVERDUE: Final = {
    "s0": _work("s0"),
    "nap": {"sleep": "PT20S", "run_after": _after("succeeded", "s0")},
    "s1": _work("s1", run_after=_after("succeeded", "nap")),
}


def _loop(*items: Mapping[str, Any], **fields: Any) -> Certain:
    """Over these, with a step after it."""
    body = {"type": "work", "inputs": {"fate": "@item()"}, "retry": {"max_attempts": 2}}
    each = {"for_each": "@steps('s0').output.items", "steps": {"do": body}, "run_after": _after("succeeded", "s0")}
    after = (
        _work("s1", "each") if fields.get("errors") == "collect" else _work("s1", run_after=_after("failed", "each"))
    )
    return Certain({"steps": {"s0": _work("s0"), "each": {**each, **fields}, "s1": after}}, {"s0": {"items": [*items]}})


def _graph(key: str, *after: str) -> dict[str, Any]:
    """A step of an item."""
    return _work(key, *after) | {
        "inputs": {"fate": f"@item().{key}", "seen": [f"@steps('{name}').output" for name in after]}
    }


def _call(key: str, flow: str, *after: str, **fields: Any) -> dict[str, Any]:
    parts = ("fates", "lists", "flags", "below", "naps", "times", "keys")
    inputs = {name: f"@triggerBody().below.{key}.{name}" for name in parts}
    return {"flow": flow, "inputs": inputs, "run_after": dict.fromkeys(after, _OK), **fields}


_BELOW: Final = {
    "s0": _work("s0"),
    "nap": {"sleep": "PT1S", "run_after": _after("succeeded", "s0")},
    "s1": _work("s1", "s0", run_after=_after("succeeded", "s0", "nap")),
}
_CALLS: Final = {
    "s0": _work("s0"),
    "called": _call("called", "below", "s0", retry={"max_attempts": 2, "backoff": {"delays": ["PT1S"]}}),
    "alone": _call("alone", "below", detached=True),
    "s1": _work("s1", "called"),
}
"""A run of another flow, and one that nobody waits for."""
_DEEP: Final = {"called": _call("called", "calls"), "s1": _work("s1", "called")}
_BROKEN: Final = {
    "called": _call("called", "hopeless", retry={"max_attempts": 2, "backoff": {"delays": ["PT0.5S"]}}),
    "s1": _work("s1", run_after=_after("failed", "called")),
}
"""Two runs of a flow that fails, and what makes up for it."""

_POLL: Final = {"every": "PT1S", "timeout": "PT30S"}
_ASKED: Final = {
    "s0": _work("s0", poll=_POLL),
    "s1": _work("s1", "s0", poll={**_POLL, "until": "@output().ready"}),
    "s2": _work("s2", poll={**_POLL, "timeout": "PT1.5S"}),
}
"""One raises until it is ready, one returns until then, and one never is."""

_ITEMS: Final = {
    "s0": _work("s0"),
    "each": {
        "for_each": "@steps('s0').output.items",
        "run_after": _after("succeeded", "s0"),
        "steps": {"do": _graph("do"), "other": _graph("other"), "then": _graph("then", "do", "other")},
        "output": "@steps('then').output",
        "concurrency": 2,
        "errors": "collect",
    },
    "s1": _work("s1", "each"),
}
"""A small graph for each item, one of which fails."""

CERTAIN: Final[Mapping[str, Certain]] = {
    "race": Certain({"steps": _RACE}),
    "choice": Certain({"steps": _CHOICE}, flags={"yes": True, "no": False, "neither": "neither"}),
    "unheard": Certain({"steps": _UNHEARD}),
    "early": Certain({"steps": _EARLY}),
    "collected": _loop({}, {"x": True}, {"f": 1}, errors="collect"),
    "cut_off": _loop({}, {"x": True}, {}, {}, stop_on_failure=True, concurrency=1),
    "items": Certain(
        {"steps": _ITEMS},
        {"s0": {"items": [{"do": {}, "other": {}, "then": fate} for fate in ({}, {"f": 1}, {"x": True}, {}, {})]}},
    ),
    "below": Certain({"steps": _BELOW, "output": "@steps('s1').output"}),
    "calls": Certain({"steps": _CALLS, "output": "@steps('s1').output"}),
    "deep": Certain({"steps": _DEEP}),
    "hopeless": Certain({"steps": {"s0": _work("s0")}}, {"s0": {"x": True}}),
    "broken": Certain({"steps": _BROKEN}),
    "asked": Certain(
        {"steps": _ASKED},
        {
            "s0": {"polls": 2, "says": "not yet"},
            "s1": {"polls": 1, "says": "not ready"},
            "s2": {"polls": 99, "says": "not yet"},
        },
    ),
    "overdue": Certain({"steps": _OVERDUE, "deadline": "PT2S"}),
}
"""By name."""
