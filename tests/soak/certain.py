"""Small flows, each of which shows some constructs whatever the seed is, so that no soak goes without them."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tests.edge.flows import HOOKS, ORDERS_FIELDS, PAID
from tests.soak.items import approval, either, signal, when, work
from tests.soak.waits import FORM, OF_ITEMS

NEVER: Final = "never"
"""The signal that nobody sends."""
NOT_BY_HAND: Final = (NEVER, PAID)
"""Signals that no people send."""
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
_ORDERED: Final = {
    "s0": _work("s0"),
    "paid": {
        "signal": {"name": PAID, "timeout": "PT20S", "default": {"n": 0}, "schema": FORM},
        "run_after": _after("succeeded", "s0"),
    },
    "s1": _work("s1", "paid"),
}
"""Started by a delivery to a webhook, and gone on with by another one."""
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


_PARTS: Final = ("fates", "lists", "flags", "below", "naps", "times", "keys")
"""Of the input of a run."""


def _call(key: str, flow: str, *after: str, of: str = "", **fields: Any) -> dict[str, Any]:
    """`of`: where the input of the run that it calls stands; by itself in that of this run."""
    inputs = {name: f"{of or f'@triggerBody().below.{key}'}.{name}" for name in _PARTS}
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

_ASKS: Final = {"polls": 1, "says": "not yet"}

_ITEMS: Final = {
    "s0": _work("s0"),
    "each": {
        "for_each": "@steps('s0').output.items",
        "run_after": _after("succeeded", "s0"),
        "steps": {"do": work("do"), "other": work("other"), "then": work("then", "do", "other")},
        "output": "@steps('then').output",
        "concurrency": 2,
        "errors": "collect",
    },
    "s1": _work("s1", "each"),
}
"""A small graph for each item, one of which fails."""


def _each(steps: Mapping[str, Any], *given: Mapping[str, Any], **fields: Any) -> Certain:
    """A small graph for each of these."""
    each = {"for_each": "@steps('s0').output.items", "run_after": _after("succeeded", "s0"), "steps": steps}
    after = {"s0": _work("s0"), "each": {**each, "errors": "collect", **fields}, "s1": _work("s1", "each")}
    return Certain({"steps": after}, {"s0": {"items": [_whole(steps, item) for item in given]}})


def _whole(steps: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """An item that says something of each of its steps."""
    plain: dict[str, Any] = {key: {} for key, step in steps.items() if "type" in step}
    inside = {key: step["steps"] for key, step in steps.items() if len(step.get("steps", ())) > 1}
    return plain | {**item, **{key: [_whole(inner, one) for one in item[key]] for key, inner in inside.items()}}


_BRANCHES: Final = {
    "do": work("do", poll=_POLL),
    "yes": work("yes", "do", **when("yes")),
    "no": work("no", "do", **when("no")),
    "neither": work("neither", "do", may_fail=True, **when("neither")),
    "merged": either("none_failed", "yes", "no"),
    "some": work("some", join="some", run_after=_after("succeeded", "yes", "no")),
    "held": {"require": "@item().flags.held", "message": "it does not hold", "run_after": _after("succeeded", "do")},
    "made_up": work("made_up", run_after=_after("failed", "held")),
}
_RACES: Final = {
    "do": work("do"),
    "nap": {"sleep": "PT2S", "run_after": {}},
    "first": either("any", "do", "nap"),
    "then": work("then", "first"),
}
_BITS: Final = {
    "nap": {"sleep": "PT0.5S", "run_after": {}},
    "part": work("part", "nap"),
    "bits": {
        "for_each": "@item().bits",
        "run_after": _after("succeeded", "part"),
        "steps": {"bit": work("bit", inputs={"fate": "@item()", "seen": ["@steps('do').output"]})},
    },
}
_NESTED: Final = {
    "do": work("do"),
    "parts": {
        "for_each": "@item().parts",
        "run_after": _after("succeeded", "do"),
        "steps": _BITS,
        "output": "@steps('part').output",
        "concurrency": 2,
    },
    "then": work("then", "parts"),
}
"""Loops in items, and loops in items of those."""
_ANSWERS: Final = {
    "do": work("do"),
    "nap": {"sleep": "PT2S", "run_after": {}},
    "paid": signal("paid", "do", "nap"),
    "ask": approval("do"),
    "then": work("then", "paid", "ask"),
}
"""One item after the other, so that signals may well be there before their items."""
_SILENCE: Final = {
    "do": work("do"),
    "paid": {"signal": {"name": NEVER, "key": "@item().keys.paid", "timeout": "PT1S", "schema": FORM}, "run_after": {}},
    "refund": work("refund", run_after=_after("failed", "paid")),
    "told": {
        "signal": {"name": NEVER, "key": "@index()", "timeout": "PT1S", "default": {"n": 0}, "schema": FORM},
        "run_after": _after("succeeded", "do"),
    },
    "then": work("then", "told"),
}


def _input(**fates: Any) -> dict[str, Any]:
    """Of a run of `below`, or of one that it is the same to."""
    return {**{name: {} for name in _PARTS}, "fates": {"s0": {}, "s1": {}, **fates}}


_CALLING: Final = {
    "do": work("do"),
    "called": _call("called", "below", "do", of="@item().below", retry={"max_attempts": 2}),
    "then": work("then", "called"),
    "made_up": work("made_up", run_after=_after("failed", "called")),
}
_REQUIRED: Final = {
    "s0": _work("s0"),
    "held": {"require": "@triggerBody().flags.held", "message": "it holds", "run_after": _after("succeeded", "s0")},
    "s1": _work("s1", "held"),
    "broken": {"require": "@triggerBody().flags.broken", "message": "it does not", "run_after": {}},
    "made_up": _work("made_up", run_after=_after("failed", "broken")),
}
_HEADED: Final = {
    "s0": _work("s0", when="@triggerHeaders()['x-big'] == 'yes'"),
    "s1": _work("s1", when="@triggerHeaders()['x-small'] == null"),
}
"""Clients send the first one."""
_LONG: Final = {"pad": 3000}
_SEES_BOTH: Final = {"fate": "@item().then", "seen": ["@steps('do').output", "@steps('s0').output"]}
_STORED: Final = {
    "s0": _work("s0"),
    "s1": _work("s1", "s0"),
    "each": {
        "for_each": "@steps('s1').output.items",
        "run_after": _after("succeeded", "s1"),
        "steps": {"do": work("do"), "then": work("then", "do", inputs=_SEES_BOTH)},
        "output": "@steps('then').output",
    },
    "s2": _work("s2", "each", "s0"),
}
"""Long results, which are read from outside of the ledger."""
_ANEW: Final = {"called": _call("called", "hopeless")}
_FORCED: Final = {
    "s0": _work("s0"),
    "made_up": _work("made_up", run_after=_after("failed", "s0")),
    "s1": _work("s1", "made_up"),
}
"""What makes up for a failure has succeeded when an operator wants it again."""
_CUT_SHORT: Final = {"do": work("do"), "paid": signal("paid", "do", timeout="PT30S", default={"n": 0})}
"""When the loop stops, one item waits and another one runs."""
_RUNS: Final = {"run": _call("run", "below", of="@item()")}
"""Each item is a run of its own."""


CERTAIN: Final[Mapping[str, Certain]] = {
    "race": Certain({"steps": _RACE}),
    "choice": Certain({"steps": _CHOICE}, flags={"yes": True, "no": False, "neither": "neither"}),
    "unheard": Certain({"steps": _UNHEARD}),
    "early": Certain({"steps": _EARLY}),
    "collected": _loop({}, {"x": True}, {"f": 1}, errors="collect"),
    "cut_off": _loop({}, {"x": True}, {}, {}, stop_on_failure=True, concurrency=1),
    "cut_short": _loop(
        {"do": {}, "keys": {"paid": "a"}},
        {"do": {"s": 1.0}, "keys": {"paid": "b"}},
        {"do": {"s": 0.3, "x": True}, "keys": {"paid": "c"}},
        steps=_CUT_SHORT,
        stop_on_failure=True,
    ),
    "items": Certain(
        {"steps": _ITEMS},
        {"s0": {"items": [{"do": {}, "other": {}, "then": fate} for fate in ({}, {"f": 1}, {"x": True}, {}, {})]}},
    ),
    "branches": _each(
        _BRANCHES,
        *(
            {"flags": {"yes": held, "no": not held, "neither": "neither", "held": held}, "do": _ASKS}
            for held in (True, False)
        ),
    ),
    "races": _each(_RACES, {}, {"do": {"x": True}}, {"then": {"f": 1}}),
    "nested": _each(_NESTED, {"parts": [{"bits": [{}, {"f": 1}]}, {"bits": []}, {"bits": [{}]}]}, {"parts": []}),
    "answers": _each(_ANSWERS, *({"keys": {"paid": key}} for key in OF_ITEMS), concurrency=1),
    "silence": _each(_SILENCE, {"keys": {"paid": "a"}}, {"keys": {"paid": "b"}}),
    "calling": _each(_CALLING, {"below": _input()}, {"below": _input(s0={"x": True})}, {"below": _input(s1={"f": 1})}),
    "runs": _each(_RUNS, _input(), _input(s0={"s": 0.5}), output="@steps('run').output", concurrency=2),
    "required": Certain({"steps": _REQUIRED}, flags={"held": True, "broken": False}),
    "headed": Certain({"steps": _HEADED}, flags={"s0": True, "s1": True}),
    "stored": Certain(
        {"steps": _STORED, "output": "@steps('s2').output"},
        {"s0": _LONG, "s1": {"items": [{"do": _LONG, "then": _LONG}, {"do": {}, "then": {}}]}, "s2": _LONG},
    ),
    "anew": Certain({"steps": _ANEW}),
    "forced": Certain({"steps": _FORCED}, {"s0": {"x": True}, "s1": {"x": True}}),
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
    "hooked": Certain({"steps": {"s0": _work("s0")}, "triggers": HOOKS}),
    "ordered": Certain({"steps": _ORDERED, **ORDERS_FIELDS}),
    "overdue": Certain({"steps": _OVERDUE, "deadline": "PT2S"}),
}
"""By name."""
