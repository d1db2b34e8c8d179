"""Seeded flows and inputs. The graph is a manifest in plain dicts; what each handler does comes with the input."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Fate = dict[str, Any]
"""`s`: seconds it works. `f`: its attempts up to this number fail. `x`: fails for good at once. `hang`: seconds the
first attempt hangs. `items`: how many items it returns for a loop."""

ALWAYS: Final = 1_000_000
WIDE: Final = 13
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


@dataclass(frozen=True)
class Plan:
    """A flow: its manifest, and how to make inputs for it."""

    name: str
    manifest: dict[str, Any]

    def body(self, rng: random.Random) -> dict[str, Any]:
        """The input of one run: a fate for every step, a list of fates for every loop over the input."""
        steps = self.manifest["steps"]
        fates = {key: _fate(rng, step) for key, step in steps.items() if "steps" not in step}
        lists = {}
        for key, step in steps.items():
            if "steps" not in step:
                continue
            source = step["for_each"]
            width = _width(rng, step.get("concurrency", WIDE))
            items = [_fate(rng, step["steps"]["do"], wide=width > WIDE) for _ in range(width)]
            if source.startswith("@triggerBody()"):
                lists[key] = items
            else:
                fates[source.split("'")[1]]["items"] = items
        return {"fates": fates, "lists": lists}


def plans(seed: int, count: int = 14) -> list[Plan]:
    """The flows of a soak: the same for the same seed, in every process."""
    rng = random.Random(f"plans {seed}")
    return [_plan(rng, f"soak{n}", SHAPES[n % len(SHAPES)]) for n in range(count)]


def _plan(rng: random.Random, name: str, shape: str) -> Plan:
    edges = _SHAPES[shape](rng)
    steps: dict[str, Any] = {}
    for n, before in enumerate(edges):
        loop = (shape == "fan" and n == 1) or (shape == "random" and rng.random() < 0.3)
        run_after = {f"s{m}": list(rng.choice(ACCEPTED) if shape == "random" else ["succeeded"]) for m in before}
        steps[f"s{n}"] = _loop(rng, f"s{n}", steps, run_after) if loop else _call(rng, f"s{n}", steps, run_after)
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
    return {
        "type": "pay" if pays else rng.choice(PLAIN),
        "inputs": {"fate": f"@triggerBody().fates.{key}", "seen": _seen(steps, run_after)},
        "run_after": dict(run_after),
        **({"transactional": True} if pays else {}),
        **policy,
    }


def _loop(rng: random.Random, key: str, steps: Mapping[str, Any], run_after: dict[str, list[str]]) -> dict[str, Any]:
    plain = [name for name, accepted in run_after.items() if accepted == ["succeeded"] and "steps" not in steps[name]]
    source = rng.choice(plain) if plain and rng.random() < 0.7 and not _feeds(steps, plain) else None
    window = rng.choice((None, None, 1, 2, 8))
    return {
        "for_each": f"@steps('{source}').output.items" if source else f"@triggerBody().lists.{key}",
        "run_after": dict(run_after),
        **({"concurrency": window} if window else {}),
        "steps": {"do": {"type": rng.choice(PLAIN), "inputs": {"fate": "@item()"}, **_policy(rng)}},
    }


def _feeds(steps: Mapping[str, Any], names: list[str]) -> bool:
    """Whether one of these gives a list to a loop already: each gives one list only."""
    return any(f"@steps('{name}')" in str(step.get("for_each", "")) for step in steps.values() for name in names)


def _width(rng: random.Random, window: int) -> int:
    """A narrow window means a short list: a soak of minutes must drain."""
    return rng.choice((0, 1, 2, 3, 5, 5, 8, 8, WIDE, rng.randint(20, 200) if window >= WIDE else 4))


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
    return fate
