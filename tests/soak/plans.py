"""Seeded flows and inputs. The graph is a manifest in plain dicts; what each handler does comes with the input."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.proof.interpreter import runs_a_graph
from tests.soak import items, waits
from tests.soak.certain import CERTAIN
from tests.support.gates import FLAGS, gates, merge

Fate = dict[str, Any]
"""`s`: seconds it works. `f`: its attempts up to this number fail. `x`: fails for good at once. `hang`: seconds the
first attempt hangs. `items`: what it returns for a loop. `polls`: so often it is not ready, which it says (`says`) by
an error or by what it returns. `pad`: by so many bytes what it returns is longer."""

ALWAYS: Final = 1_000_000
WIDE: Final = 13
HELD: Final = (True, True, True, False)
"""What a requirement reads."""
LONG_S: Final = 5.0
"""Longer than a lease of the soak, so that renewals count."""
PLAIN: Final = ("work", "work", "wait")
PRIORITIES: Final = (None, None, None, 0, 9)
ACCEPTED: Final = (
    *(["succeeded"],) * 5,
    ["failed"],
    ["succeeded", "failed"],
    ["succeeded", "failed", "skipped"],
)
SHAPES: Final = ("chain", "diamond", "fan", "random", "random", "random")
FAILURES: Final[Sequence[dict[str, Any]]] = ({}, {}, {}, {"errors": "collect"}, {"stop_on_failure": True})
"""What becomes of a loop some of whose items fail."""
WAITS: Final[Mapping[int, Sequence[waits.Make]]] = {
    0: (waits.until,),
    3: (waits.nap, waits.until),
    4: (waits.signal, waits.signal),
    6: (waits.nap, waits.signal),
    7: (waits.approval, waits.approval),
    9: (waits.approval, waits.nap, waits.signal),
    10: (waits.until, waits.approval),
    12: (waits.signal, waits.nap, waits.approval),
    13: (waits.signal, waits.nap, waits.until),
}
"""By the number of a flow, what it waits for."""


@dataclass(frozen=True)
class Plan:
    """A flow: its manifest, and how to make inputs for it."""

    name: str
    manifest: dict[str, Any]
    fates: Mapping[str, Fate] = field(default_factory=dict)
    """Of steps that have the same in every run."""
    flags: Mapping[str, Any] = field(default_factory=dict)
    """Of steps whose condition reads the same in every run."""
    called: Mapping[str, "Plan"] = field(default_factory=dict)
    """By step that calls a flow: an input of its own is in that of the run."""

    def body(self, rng: random.Random) -> dict[str, Any]:
        """The input of one run: a fate for every step, a list of fates for every loop over the input, and what
        conditions and waits read."""
        steps = self.manifest["steps"]
        fates = {key: _fate(rng, step) for key, step in steps.items() if "type" in step}
        flags = flags_of(rng, steps) | dict(self.flags)
        lists = {}
        for key, step in steps.items():
            if "steps" not in step:
                continue
            source = step["for_each"]
            width = _width(rng, step.get("concurrency", WIDE))
            given = [_item(rng, step, wide=width > WIDE) for _ in range(min(width, items.most(step)))]
            if source.startswith("@triggerBody()"):
                lists[key] = given
            else:
                fates[source.split("'")[1]]["items"] = given
        fates |= self.fates
        below = {key: plan.body(rng) for key, plan in self.called.items()}
        return {"fates": fates, "lists": lists, "flags": flags, "below": below, **waits.inputs(rng, steps)}


def plans(seed: int, count: int = 14) -> list[Plan]:
    """The flows of a soak: the same for the same seed, in every process."""
    rng = random.Random(f"plans {seed}")
    made = [_plan(rng, f"soak{n}", SHAPES[n % len(SHAPES)]) for n in range(count)]
    return [*(_waiting(plan, WAITS.get(n, ()), seed) for n, plan in enumerate(made)), *long(), *certain()]


def _waiting(plan: Plan, makes: Sequence[waits.Make], seed: int) -> Plan:
    steps = waits.before_some(random.Random(f"waits {plan.name} {seed}"), plan.manifest["steps"], makes)
    return replace(plan, manifest={**plan.manifest, "steps": steps})


def certain() -> list[Plan]:
    """Flows that are the same for every seed."""
    return [_certain(name) for name in CERTAIN]


def _certain(name: str) -> Plan:
    manifest, fates, flags = CERTAIN[name]
    called = {key: _certain(step["flow"]) for key, step in manifest["steps"].items() if "flow" in step}
    same = {key: dict(fate) for key, fate in fates.items()}
    return Plan(name, {"name": name, **manifest}, same, flags, called)


def long() -> list[Plan]:
    """A transaction longer than a lease, with a step after it; and one long step by itself."""
    pay = {"type": "pay", "transactional": True, **_plain("s0", [], {})}
    after = {"type": "work", **_plain("s1", ["@steps('s0').output"], {"s0": ["succeeded"]})}
    alone = {"type": "work", **_plain("s0", [], {})}
    return [
        Plan("long_pay", {"name": "long_pay", "steps": {"s0": pay, "s1": after}}, _fates(LONG_S, 1.5)),
        Plan("long_work", {"name": "long_work", "steps": {"s0": alone}}, _fates(LONG_S)),
    ]


def _plain(key: str, seen: list[str], run_after: dict[str, list[str]]) -> dict[str, Any]:
    inputs = {"fate": f"@triggerBody().fates.{key}", "seen": seen}
    return {"inputs": inputs, "run_after": run_after, "retry": {"max_attempts": 2}}


def _fates(*seconds: float) -> dict[str, Fate]:
    return {f"s{n}": {"s": each} for n, each in enumerate(seconds)}


def timed(steady: int = 1) -> list[Plan]:
    """Flows that only their schedules start: every policy, and `steady` schedules that fire each second and make up for
    everything; without any there is no flow at all."""
    if not steady:
        return []
    every = {f"every{n}": _every("PT1S", missed="all") for n in range(steady)}
    jitter = _every("PT2S", missed="all", jitter="PT1S")
    minute = {"type": "cron", "expression": "* * * * *", "missed": "all", "input": _input([0])}
    return [
        _timed("timed_all", [0], every | {"jitter": jitter, "minute": minute}),
        _timed("timed_skip", [0.6, 0.6], {"two": _every("PT2S", [0.6, 0.6], overlap="skip")}),
        _timed("timed_queue", [0.5, 0.5], {"two": _every("PT2S", [0.5, 0.5], missed="all", overlap="queue")}),
        _timed("timed_cancel", [0.5] * 3, {"three": _every("PT3S", [0.5] * 3, overlap="cancel")}),
        _timed("timed_window", [0], {"three": _every("PT3S", missed="all", window="PT4S")}),
        _timed("timed_late", [0], {"four": _every("PT4S", missed="skip")}),
    ]


def _input(seconds: Sequence[float]) -> dict[str, Any]:
    return {"fates": _fates(*seconds), "lists": {}}


def _every(interval: str, seconds: Sequence[float] = (0,), **options: Any) -> dict[str, Any]:
    return {"type": "every", "interval": interval, "input": _input(seconds), **options}


def _timed(name: str, seconds: Sequence[float], triggers: dict[str, Any]) -> Plan:
    """A chain of so many steps."""
    steps: dict[str, Any] = {}
    for n in range(len(seconds)):
        after = {f"s{n - 1}": ["succeeded"]} if n else {}
        inputs = {"fate": f"@triggerBody().fates.s{n}", "seen": _seen(steps, after)}
        steps[f"s{n}"] = {"type": "work", "inputs": inputs, "run_after": after, "retry": {"max_attempts": 2}}
    return Plan(name, {"name": name, "steps": steps, "triggers": triggers})


def _plan(rng: random.Random, name: str, shape: str) -> Plan:
    edges = _SHAPES[shape](rng)
    steps: dict[str, Any] = {}
    for n, before in enumerate(edges):
        loop = (shape == "fan" and n == 1) or (shape == "random" and rng.random() < 0.3)
        run_after = {f"s{m}": list(rng.choice(ACCEPTED) if shape == "random" else ["succeeded"]) for m in before}
        if shape == "random" and len(before) > 1 and rng.random() < 0.4:
            steps[f"s{n}"] = merge(rng, [f"s{m}" for m in before])
            continue
        made = _loop(rng, f"s{n}", steps, run_after) if loop else _call(rng, f"s{n}", steps, run_after)
        steps[f"s{n}"] = {**made, **(gates(rng, f"s{n}", made) if shape == "random" else {})}
    manifest: dict[str, Any] = {"name": name, "steps": steps}
    if rng.random() < 0.25:
        manifest["deadline"] = f"PT{rng.choice((3, 6))}S"
    return Plan(name, manifest)


def _chain(rng: random.Random) -> list[list[int]]:
    return [[n - 1] if n else [] for n in range(rng.randint(3, 8))]


def _diamond(rng: random.Random) -> list[list[int]]:
    width = rng.randint(2, 6)
    return [[], *([0] for _ in range(width)), list(range(1, width + 1))]


def _fan(rng: random.Random) -> list[list[int]]:
    return [[], [0], [1]]


def _random(rng: random.Random) -> list[list[int]]:
    return [sorted(rng.sample(range(n), k=min(n, rng.choice((0, 1, 1, 2, 2, 3))))) for n in range(rng.randint(3, 9))]


_SHAPES: Final = {"chain": _chain, "diamond": _diamond, "fan": _fan, "random": _random}


def _seen(steps: Mapping[str, Any], run_after: Mapping[str, list[str]]) -> list[str]:
    """References to the outputs of those predecessors that must have one."""
    return [f"@steps('{key}').output" for key, accepted in run_after.items() if accepted == ["succeeded"]]


def _policy(rng: random.Random) -> dict[str, Any]:
    attempts = rng.choice((1, 1, 2, 3, 4))
    delays = [f"PT{rng.choice((0.1, 0.3, 1.0))}S" for _ in range(rng.randint(1, 3))]
    policy: dict[str, Any] = {"retry": {"max_attempts": attempts, "backoff": {"delays": delays}}}
    if attempts >= 3 and rng.random() < 0.4:
        policy["timeout"] = "PT1.5S"
    if (priority := rng.choice(PRIORITIES)) is not None:
        policy["priority"] = priority
    return policy


def _call(rng: random.Random, key: str, steps: Mapping[str, Any], run_after: Mapping[str, list[str]]) -> dict[str, Any]:
    policy = _policy(rng)
    pays = "timeout" not in policy and rng.random() < 0.2
    if not pays and rng.random() < 0.15:
        policy["poll"] = _poll(rng)
    return {
        "type": "pay" if pays else rng.choice(PLAIN),
        "inputs": {"fate": f"@triggerBody().fates.{key}", "seen": _seen(steps, run_after)},
        "run_after": dict(run_after),
        **({"transactional": True} if pays else {}),
        **policy,
    }


def _poll(rng: random.Random) -> dict[str, Any]:
    until = {"until": "@output().ready"} if rng.random() < 0.5 else {}
    return {"every": "PT1S", "timeout": rng.choice(("PT2S", "PT30S", "PT30S")), **until}


def _loop(rng: random.Random, key: str, steps: Mapping[str, Any], run_after: dict[str, list[str]]) -> dict[str, Any]:
    plain = [name for name, accepted in run_after.items() if accepted == ["succeeded"] and "type" in steps[name]]
    source = rng.choice(plain) if plain and rng.random() < 0.7 and not _feeds(steps, plain) else None
    window = rng.choice((None, None, 1, 2, 8))
    return {
        "for_each": f"@steps('{source}').output.items" if source else f"@triggerBody().lists.{key}",
        "run_after": dict(run_after),
        **({"concurrency": window} if window else {}),
        **rng.choice(FAILURES),
        **_body(rng),
    }


def _body(rng: random.Random) -> dict[str, Any]:
    """One step for each item, or a small graph."""
    polls = {"poll": _poll(rng)} if rng.random() < 0.1 else {}
    do = {"type": rng.choice(PLAIN), "inputs": {"fate": "@item()"}, **_policy(rng), **polls}
    luck = rng.random()
    if luck < 0.5:
        return {"steps": {"do": do}}
    if luck < 0.8:
        return items.body(rng, _policy)
    do["inputs"] = {"fate": "@item().do"}
    seen = {"fate": "@item().then", "seen": ["@steps('do').output"]}
    then = {"type": rng.choice(PLAIN), "inputs": seen, "run_after": {"do": ["succeeded"]}, **_policy(rng)}
    alone = {"type": "work", "inputs": {"fate": "@item().alone"}, "retry": {"max_attempts": 2}}
    more = {"alone": alone} if rng.random() < 0.5 else {}
    return {"steps": {"do": do, "then": then, **more}, "output": "@steps('then').output"}


def _feeds(steps: Mapping[str, Any], names: list[str]) -> bool:
    """Whether one of these gives a list to a loop already: each gives one list only."""
    return any(f"@steps('{name}')" in str(step.get("for_each", "")) for step in steps.values() for name in names)


def _width(rng: random.Random, window: int) -> int:
    """A narrow window means a short list: a soak of minutes must drain."""
    return rng.choice((0, 1, 2, 3, 5, 5, 8, 8, WIDE, rng.randint(20, 200) if window >= WIDE else 4))


def _item(rng: random.Random, loop: Mapping[str, Any], *, wide: bool = False) -> Fate:
    """What each of its steps does and reads; of the only one it is the item itself."""
    body = loop["steps"]
    fates = {key: _fate(rng, step, wide=wide) for key, step in body.items() if "type" in step}
    if not runs_a_graph(loop):
        return next(iter(fates.values()))
    lists = {key: [_item(rng, step) for _ in range(rng.randint(0, 3))] for key, step in body.items() if "steps" in step}
    flags, read = flags_of(rng, body), waits.inputs(rng, body, waits.OF_ITEMS)
    return {
        **fates,
        **lists,
        **({"flags": flags} if flags else {}),
        **{name: each for name, each in read.items() if each},
    }


def flags_of(rng: random.Random, steps: Mapping[str, Any]) -> dict[str, Any]:
    """What conditions and requirements of a graph read."""
    asked = {key: FLAGS for key, step in steps.items() if "when" in step}
    held = {key: HELD for key, step in steps.items() if "require" in step}
    return {key: rng.choice(values) for key, values in (asked | held).items()}


def _fate(rng: random.Random, step: Mapping[str, Any], *, wide: bool = False) -> Fate:
    attempts = step["retry"]["max_attempts"]
    fate: Fate = {"s": 0 if wide else rng.choice((0, 0, 0, 0, 0.02, 0.1, rng.uniform(0.2, 1.0)))}
    luck = rng.random() * (4 if wide else 1)
    if luck < 0.12:
        fate["f"] = rng.randint(1, attempts - 1) if attempts > 1 else 0
    elif luck < 0.15:
        fate["f"] = ALWAYS
    elif luck < 0.17:
        fate["x"] = True
    elif luck < 0.19:
        fate["f"] = 2 * attempts  # fails the first epoch; later ones may mend it
    elif luck < 0.24 and "timeout" in step:
        fate["hang"] = 3.0
    elif luck < 0.25 and not wide:
        fate["s"] = LONG_S
    if rng.random() < (0.01 if wide else 0.04):
        fate["pad"] = rng.choice((500, 2000, 20_000))
    if "poll" in step:
        fate |= {"polls": rng.randint(0, 3), "says": "not ready" if "until" in step["poll"] else "not yet"}
    return fate
