"""Small seeded flows, inputs that say what each handler does, and the handlers."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import text

from orchestrator import Context, Manifest, step
from orchestrator.errors import ManifestInvalid
from orchestrator.workers.state import AnyStep
from tests.support.gates import FLAGS, gates, merge

ACCEPTED: Final = (
    *(["succeeded"],) * 4,
    ["failed"],
    ["succeeded", "failed"],
    ["succeeded", "failed", "skipped"],
)
LOOPS: Final = 0.3
Fate = dict[str, Any]
"""`f`: attempts up to this number fail. `x`: fails for good at once. `either`: as the scheduler likes, each time.
`items`: what it returns for a loop. `says`: how it says that it is not ready, as an error or with what it returns;
`asks`: attempts up to this number do."""


class Hopeless(Exception):
    """No attempt will do."""


def manifest(rng: random.Random, name: str, *, more: bool) -> dict[str, Any]:
    """A few steps and loops, each after some of those before it; with `more`, also joins, conditions and merges."""
    while True:
        steps: dict[str, Any] = {}
        for n in range(rng.randint(1, 6)):
            before = rng.sample(list(steps), k=min(len(steps), rng.choice((0, 0, 1, 1, 2, 3))))
            run_after = {key: list(rng.choice(ACCEPTED)) for key in sorted(before)}
            if more and len(before) > 1 and rng.random() < 0.3:
                steps[f"s{n}"] = merge(rng, sorted(before))
                continue
            make = _loop if rng.random() < LOOPS else _call
            made = make(rng, f"s{n}", steps, run_after)
            steps[f"s{n}"] = {**made, **(gates(rng, f"s{n}", made) if more else {})}
        found: dict[str, Any] = {"name": name, "steps": steps}
        if rng.random() < 0.15:
            found["deadline"] = "PT50S"
        with suppress(ManifestInvalid):  # a step that could never run
            Manifest(**found)
            return found


def with_naps(rng: random.Random, found: dict[str, Any]) -> dict[str, Any]:
    """The same flow, which sleeps before some of its steps."""
    steps = {key: {**step_, "run_after": dict(step_["run_after"])} for key, step_ in found["steps"].items()}
    for key in rng.sample(list(steps), k=rng.randint(1, len(steps))):
        before = {name: accepted for name, accepted in steps[key]["run_after"].items() if rng.random() < 0.7}
        steps[key]["run_after"][f"nap_{key}"] = ["succeeded"]
        steps[f"nap_{key}"] = {"sleep": rng.choice(("PT1S", "PT5S", "PT30S")), "run_after": before}
    return {**found, "steps": steps}


NAMES: Final = ("go", "stop")
"""Of signals. Those of one name have one form."""
KEYS: Final = ("", "a")
FORM: Final = {"type": "object", "required": ["n"]}


def with_waits(rng: random.Random, found: dict[str, Any]) -> dict[str, Any]:
    """The same flow, which waits for signals and answers before some of its steps."""
    steps = {key: {**step_, "run_after": dict(step_["run_after"])} for key, step_ in found["steps"].items()}
    plain = [key for key, step_ in steps.items() if "join" not in step_]
    for key in rng.sample(plain, k=rng.randint(min(1, len(plain)), len(plain))):
        before = {name: accepted for name, accepted in steps[key]["run_after"].items() if rng.random() < 0.7}
        steps[key]["run_after"][f"ask_{key}"] = ["succeeded"]
        steps[f"ask_{key}"] = {**_asked(rng), "run_after": before}
    return {**found, "steps": steps}


def _asked(rng: random.Random) -> dict[str, Any]:
    limit = rng.choice((None, "PT5S", "PT30S"))
    default = {"n": 0} if limit and rng.random() < 0.5 else None
    if rng.random() < 0.3:
        late = {"within": limit, "late": default}
        return {"approval": {"title": "May it?", "to": "ada", "form": FORM, **_given(late)}}
    asked = {"name": rng.choice(NAMES), "key": rng.choice(KEYS), "timeout": limit, "default": default, "schema": FORM}
    return {"signal": _given(asked)}


def _given(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def with_polls(rng: random.Random, found: dict[str, Any]) -> dict[str, Any]:
    """The same flow, some of whose steps are asked until they are ready."""
    return {**found, "steps": {key: _polling(rng, step_) for key, step_ in found["steps"].items()}}


def _polling(rng: random.Random, step_: dict[str, Any]) -> dict[str, Any]:
    if "steps" in step_:
        return {**step_, "steps": {key: _polling(rng, inner) for key, inner in step_["steps"].items()}}
    if "type" not in step_ or "transactional" in step_ or rng.random() < 0.3:
        return step_
    until = rng.choice((None, "@output().ready"))
    least = rng.choice((None, None, None, 2))
    times = {"every": rng.choice(("PT1S", "PT1S", "PT5S")), "timeout": rng.choice(("PT3S", "PT20S", "PT120S"))}
    return {**step_, "poll": _given({**times, "min_attempts": least, "until": until})}


def with_calls(rng: random.Random, made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same flows, each of which calls some of those behind it before some of its steps."""
    found: list[dict[str, Any]] = []
    for n, one in reversed(list(enumerate(made))):
        steps = calling(rng, one["steps"], found) if n < len(made) - 1 else one["steps"]
        output = giving(rng, one).get("output")
        found = [{**one, "steps": steps, **({} if output is None else {"output": output})}, *found]
    return found


def giving(rng: random.Random, one: dict[str, Any]) -> dict[str, Any]:
    """The same flow, which gives what one of two of its steps did."""
    given = [f"@steps('{key}').output" for key, step_ in one["steps"].items() if "type" in step_]
    return {**one, "output": " ?? ".join([*rng.sample(given, k=min(2, len(given))), "null"])} if given else one


def parts(flow: Mapping[str, Any]) -> list[str]:
    """Of the input of a flow."""
    return ["fates", "lists", "flags", *(["calls"] if any("flow" in one for one in flow["steps"].values()) else [])]


def calling(rng: random.Random, steps: Mapping[str, Any], others: list[dict[str, Any]]) -> dict[str, Any]:
    """The same steps, some of which wait for a flow that is called before."""
    made = {key: {**step_, "run_after": dict(step_["run_after"])} for key, step_ in steps.items()}
    plain = [key for key, step_ in made.items() if "join" not in step_]
    for key in rng.sample(plain, k=min(len(plain), rng.choice((1, 1, 2)))):
        other, name = rng.choice(others), f"call_{key}"
        before = {one: accepted for one, accepted in made[key]["run_after"].items() if rng.random() < 0.5}
        made[key]["run_after"][name] = list(rng.choice(ACCEPTED))
        if "fate" in made[key].get("inputs", {}) and made[key]["run_after"][name] == ["succeeded"]:
            inputs = made[key]["inputs"]
            made[key]["inputs"] = {**inputs, "seen": [*inputs["seen"], f"@steps('{name}').output"]}
        made[name] = {
            "flow": other["name"],
            "inputs": {part: f"@triggerBody().calls.{name}.{part}" for part in parts(other)},
            "run_after": before,
            "retry": _policy(rng)["retry"],
            **({"detached": True} if rng.random() < 0.15 else {}),
        }
    return made


def _policy(rng: random.Random) -> dict[str, Any]:
    attempts = rng.choice((1, 2, 2, 3))
    policy: dict[str, Any] = {"retry": {"max_attempts": attempts, "backoff": {"delays": ["PT1S", "PT3S"]}}}
    if rng.random() < 0.15:
        policy["timeout"] = "PT40S"
    if rng.random() < 0.1:
        policy["queue_timeout"] = "PT45S"
    if rng.random() < 0.1:
        policy["priority"] = 9
    return policy


def _call(rng: random.Random, key: str, steps: Mapping[str, Any], run_after: dict[str, list[str]]) -> dict[str, Any]:
    seen = [f"@steps('{name}').output" for name, accepted in run_after.items() if accepted == ["succeeded"]]
    policy = _policy(rng)
    pays = "timeout" not in policy and rng.random() < 0.2
    return {
        "type": "pay" if pays else "work",
        "inputs": {"fate": f"@triggerBody().fates.{key}", "seen": seen},
        "run_after": run_after,
        **({"transactional": True} if pays else {}),
        **policy,
    }


def _loop(rng: random.Random, key: str, steps: Mapping[str, Any], run_after: dict[str, list[str]]) -> dict[str, Any]:
    plain = [name for name, accepted in run_after.items() if accepted == ["succeeded"] and "type" in steps[name]]
    given = {step["for_each"] for step in steps.values() if "steps" in step}
    plain = [name for name in plain if f"@steps('{name}').output.items" not in given]
    window = rng.choice((None, 1, 2))
    return {
        "for_each": f"@steps('{plain[0]}').output.items" if plain else f"@triggerBody().lists.{key}",
        "run_after": run_after,
        **({"concurrency": window} if window else {}),
        "steps": {"do": {"type": "work", "inputs": {"fate": "@item()"}, **_policy(rng)}},
    }


def body(rng: random.Random, steps: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The input of one run: a fate for every step, a list of fates for every loop over the input, what conditions
    read, and the inputs of the flows that it calls, which are among the `others`, by name."""
    fates = {key: _fate(rng, step) for key, step in steps.items() if "type" in step}
    flags = {key: rng.choice(FLAGS) for key, step in steps.items() if "when" in step}
    lists: dict[str, list[Fate]] = {}
    for key, step_ in steps.items():
        if "steps" not in step_:
            continue
        inner, source = step_["steps"], step_["for_each"]
        count = rng.choice((0, 1, 2, 3, 4))
        items = [_fate(rng, inner["do"]) if "do" in inner else _item(rng, inner, others) for _ in range(count)]
        if "@steps" in source:
            fates[source.split("'")[1]]["items"] = items
        else:
            lists[key] = items
    awaited = [key for key, step_ in steps.items() if str(step_.get("signal", {}).get("key")).startswith("@")]
    keys = {"keys": {key: rng.choice(KEYS) for key in awaited}} if awaited else {}
    called = {key: others[step_["flow"]]["steps"] for key, step_ in steps.items() if "flow" in step_}
    calls = {"calls": {key: body(rng, inner, others) for key, inner in called.items()}} if called else {}
    return {"fates": fates, "lists": lists, "flags": flags, **keys, **calls}


def _item(rng: random.Random, steps: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The fates of its steps and the lists of its loops by their keys, and what else they read."""
    made = body(rng, steps, others)
    return {**made.pop("fates"), **made.pop("lists"), **made}


def steps_of(flow: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Of a flow, those in items too."""
    for step_ in flow["steps"].values():
        yield step_
        yield from steps_of(step_) if "steps" in step_ else ()


def _fate(rng: random.Random, step_: Mapping[str, Any]) -> Fate:
    attempts = step_["retry"]["max_attempts"]
    found: Fate = rng.choice(
        (
            dict,
            dict,
            lambda: {"f": rng.randint(0, attempts - 1)},
            lambda: {"f": attempts, "either": True},
            lambda: {"f": attempts, "either": True},
            lambda: {"x": True},
        )
    )()
    if "poll" in step_:
        found |= {"says": "not ready" if "until" in step_["poll"] else "not yet", "asks": rng.choice((0, 1, 2, 4, 8))}
    return found


def may(fate: Fate, attempt: int, how: str) -> bool:
    """Whether the handler of this attempt may `finish`, `fail`, or say that what it is asked for is not there
    (`poll`)."""
    if how == "poll":
        return "says" in fate and not fate.get("x")
    if how == "finish" and attempt <= fate.get("asks", 0):
        return False
    fails = bool(fate.get("x")) or attempt <= fate.get("f", 0)
    return bool(fate.get("either")) or fails is (how == "fail")


def tokens(value: object) -> Iterator[str]:
    """Of all outputs within a structure."""
    if isinstance(value, dict):
        if "token" in value:
            yield value["token"]
        for part in value.values():
            yield from tokens(part)
    elif isinstance(value, list):
        for part in value:
            yield from tokens(part)


Handle = Callable[[Context, Fate, Any], dict[str, Any]]


def _pays(ctx: Context) -> None:
    effect = {"key": ctx.idempotency_key, "attempt": ctx.attempt}
    ctx.tx.execute(text("INSERT INTO proof_effects (key, attempt) VALUES (:key, :attempt)"), effect)


def handlers(handle: Handle) -> dict[str, AnyStep]:
    """By type. What they do is up to `handle`."""

    @step(never_retry=(Hopeless,))
    def work(ctx: Context, fate: dict[str, Any], seen: list[Any] = []) -> dict[str, Any]:  # noqa: B006  never changed
        return handle(ctx, fate, seen)

    @step(transactional=True, never_retry=(Hopeless,))
    def pay(ctx: Context, fate: dict[str, Any], seen: list[Any] = []) -> dict[str, Any]:  # noqa: B006
        _pays(ctx)
        return handle(ctx, fate, seen)

    return {"work": work, "pay": pay}


def newer_handlers(handle: Handle) -> dict[str, AnyStep]:
    """Of the release that has one parameter more; they run steps of both versions."""

    @step(never_retry=(Hopeless,))
    def work(ctx: Context, fate: dict[str, Any], seen: list[Any] = [], more: str = "") -> dict[str, Any]:  # noqa: B006
        return handle(ctx, fate, seen)

    @step(transactional=True, never_retry=(Hopeless,))
    def pay(ctx: Context, fate: dict[str, Any], seen: list[Any] = [], more: str = "") -> dict[str, Any]:  # noqa: B006
        _pays(ctx)
        return handle(ctx, fate, seen)

    return {"work": work, "pay": pay}
