"""The rules of a flow, walked once over its graph: what must, may and must not run, and how it may end.

Small and slow on purpose. It knows plain dicts, no counters, claims or SQL.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.proof import joins

Steps = Mapping[str, Mapping[str, Any]]
Statuses = frozenset[str]
SUCCEEDED: Final = frozenset({"succeeded"})
FAILED: Final = frozenset({"failed"})
EITHER: Final = SUCCEEDED | FAILED
SKIPPED: Final = frozenset({"skipped"})
CANCELLED: Final = frozenset({"cancelled"})
_OVER: Final = SKIPPED | CANCELLED


@dataclass(frozen=True)
class Reference:
    """`legal`: how each step may end; `run`: how the run may. Every step is in exactly one of the other three."""

    legal: Mapping[str, Statuses]
    run: Statuses
    must: frozenset[str]
    may: frozenset[str]
    must_not: frozenset[str]
    blame: Mapping[str, str] = field(default_factory=dict)
    """Of a step that is skipped for one cause only: how its reason begins."""
    withdrawn: frozenset[str] = frozenset()
    """The steps that may have been withdrawn instead, whatever became of those before them."""
    stopped: frozenset[str] = frozenset()
    """The items, and steps of items, that may have been ended because their loop stopped."""


def end_of(fate: Mapping[str, Any], step: Mapping[str, Any]) -> Statuses:
    """How a handler with this fate ends when nothing disturbs it.

    `x`: fails for good at once. `f`: attempts up to this number fail. Where a timeout may strike a step that the
    machine keeps waiting, or where only a lost attempt decides, both ends are legal.
    """
    attempts = step.get("retry", {}).get("max_attempts", 1)
    failing = fate.get("f", 0)
    if fate.get("x"):
        return EITHER if "timeout" in step and failing < attempts else FAILED
    if failing >= 1_000_000:
        return FAILED
    if "timeout" in step or failing >= attempts:
        return EITHER
    return SUCCEEDED


def children(steps: Steps, items: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """The keys of the steps of all items, each with its loop; not of those inside of loops in them."""
    for key, step in steps.items():
        for body in step.get("steps", {}):
            for n in range(items.get(key, 0)):
                yield f"{key}.{n}.{body}", key


def interpret(
    steps: Steps,
    ends: Mapping[str, Statuses],
    items: Mapping[str, int | None],
    *,
    known: Mapping[str, str] | None = None,
    halted: bool = False,
    excused: Collection[str] = (),
    format: int = 1,
    conditions: Mapping[str, Statuses] | None = None,
    when_errors: str = "fail",
    settled: Collection[str] = (),
) -> Reference:
    """`steps`: those of a manifest. `ends`: by plain step or child, how its handler ends, by requirement how that ends.
    `items`: by loop, how many; None when its list is none. What is inside of items has the keys of the run.

    `known` are statuses that are certain: what follows from them is then certain too. `halted`: the run was cancelled
    or passed its deadline, so that whatever had not ended by then was cancelled. `excused`: steps that may have failed
    for reasons outside of their handlers. `format`: of the manifest. `conditions`: by step, what its `when` may give:
    "true", "false", "error"; each of them where nothing is said. `when_errors`: of the manifest. `settled`: steps that
    an operator ended, as `known` says.
    """
    legal: dict[str, Statuses] = {}
    must: set[str] = set()
    must_not: set[str] = set()
    blame: dict[str, str] = {}
    withdrawn_: set[str] = set()
    context = _Context(ends, known or {}, halted, excused, settled, items, conditions or {}, when_errors)
    stopped: set[str] = set()

    def settle(key: str, ended: Statuses) -> None:
        legal[key] = ended | (CANCELLED if halted else frozenset())

    def sure(key: str) -> Statuses:
        return frozenset({known[key]}) if known and key in known else legal[key]

    for key in in_order(steps):
        step = steps[key]
        joined = joins.decisions(step, sure)
        asked = _asked(step, (conditions or {}).get(key, _ANY_RESULT), when_errors) if True in joined else frozenset()
        stays = False in joined or "stays" in asked
        ended = SKIPPED if stays else frozenset()
        if "fails" in asked:
            ended |= FAILED
        is_loop = bool(step.get("steps"))
        own = [child for child, _ in children({key: step}, _counts(items))] if is_loop else [key]
        inside = _inside(step, key, items, context) if is_loop and "goes" in asked else []
        for one in inside:
            legal.update(one.legal)
            blame.update(one.blame)
            withdrawn_.update(one.withdrawn)
            stopped.update(one.stopped)
        if inside and stops(step, [one.run for one in inside]):
            cut = {each for one in inside for each in one.legal} | {f"{key}.{n}" for n in range(len(inside))}
            stopped.update(cut)
            legal.update({each: legal[each] | SKIPPED for each in cut & legal.keys()})
        if inside:
            ended |= _of_items(key, step, inside, settled, settle, sure)
        elif "goes" in asked:
            by_hand = {child: sure(child) for child in own if child in settled and known and child in known}
            ended |= _end(key, step, {**ends, **by_hand} if by_hand else ends, items, settle, sure, excused)
        settle(key, sure(key) if key in settled else ended)
        if key in settled:
            continue
        if "goes" not in asked or ("type" not in step and not is_loop):
            must_not.update({key, *own})
        elif asked == {"goes"} and not stays and not halted:
            if inside:
                cut = stops(step, [one.run for one in inside])
                must.update(child for one in inside for child in one.must if not cut)
            else:
                must.update(child for child in own if child not in settled and "skipped" not in legal[child])
        if is_loop:
            each = [f"{key}.{n}" for n in range(len(inside))] or own
            blame.update(
                {child: _blamed(child, step, sure, known) for child in each if "skipped" in legal.get(child, ())}
            )
        if joined == {False}:
            blame[key] = joins.blamed(step, sure)
        elif joined == {True} and stays:
            blame[key] = "when:"
    withdrawn = set(joins.withdrawable(steps, sure, settled)) | withdrawn_
    for key in withdrawn:
        legal[key] |= SKIPPED
        must -= {one for one in must if one == key or one.startswith(f"{key}.")}
    return Reference(
        legal=legal,
        run=_run(_handlers(steps, format), sure, halted),
        must=frozenset(must),
        may=frozenset(set(legal) - must - must_not),
        must_not=frozenset(must_not),
        blame=blame,
        withdrawn=frozenset(withdrawn),
        stopped=frozenset(stopped),
    )


_ANY_RESULT: Final = frozenset({"true", "false", "error"})


def _asked(step: Mapping[str, Any], results: Statuses, when_errors: str) -> Statuses:
    """What becomes of a step that its join lets go."""
    if "when" not in step:
        return frozenset({"goes"})
    error = "stays" if when_errors == "skip" else "fails"
    return frozenset({"true": "goes", "false": "stays", "error": error}[one] for one in results)


@dataclass(frozen=True)
class _Context:
    """What is known of a run, also of what is inside of its loops."""

    ends: Mapping[str, Statuses]
    known: Mapping[str, str]
    halted: bool
    excused: Collection[str]
    settled: Collection[str]
    items: Mapping[str, int | None]
    conditions: Mapping[str, Statuses]
    when_errors: str

    def within(self, item: str) -> "_Context":
        """By the keys that steps have in an item."""
        start = len(item) + 1

        def own(keys: Iterable[str]) -> list[str]:
            return [key[start:] for key in keys if key.startswith(f"{item}.")]

        return _Context(
            {key: self.ends[f"{item}.{key}"] for key in own(self.ends)},
            {key: self.known[f"{item}.{key}"] for key in own(self.known)},
            self.halted,
            own(self.excused),
            own(self.settled),
            {key: self.items[f"{item}.{key}"] for key in own(self.items)},
            {key: self.conditions[f"{item}.{key}"] for key in own(self.conditions)},
            self.when_errors,
        )


def runs_a_graph(loop: Mapping[str, Any]) -> bool:
    """Whether each item of a loop is a small graph with a row of its own, and not one plain step."""
    inner = loop.get("steps", {})
    plain = all("type" in one and not {"when", "join", "may_fail"}.intersection(one) for one in inner.values())
    return len(inner) > 1 or "output" in loop or not plain


def _inside(loop: Mapping[str, Any], key: str, items: Mapping[str, int | None], context: _Context) -> list[Reference]:
    """Of a loop with a graph, what each item may do, by the keys of the run."""
    if not loop.get("steps") or not runs_a_graph(loop):
        return []
    keys = [f"{key}.{n}" for n in range(items.get(key) or 0)]
    found = [_in_item(loop["steps"], item, context) for item in keys]
    if not stops(loop, [one.run for one in found]):
        return found
    tried_once = replace(context, excused=context.ends)
    return [_in_item(loop["steps"], item, tried_once) for item in keys]


def _in_item(steps: Steps, item: str, context: _Context) -> Reference:
    own = context.within(item)
    found = interpret(
        steps,
        own.ends,
        own.items,
        known=own.known,
        halted=own.halted,
        excused=own.excused,
        format=2,
        conditions=own.conditions,
        when_errors=own.when_errors,
        settled=own.settled,
    )
    return Reference(
        legal={f"{item}.{key}": ends for key, ends in found.legal.items()},
        run=found.run & EITHER,
        must=frozenset(f"{item}.{key}" for key in found.must),
        may=frozenset(f"{item}.{key}" for key in found.may),
        must_not=frozenset(f"{item}.{key}" for key in found.must_not),
        blame={f"{item}.{key}": _placed(reason, steps, item) for key, reason in found.blame.items()},
        withdrawn=frozenset(f"{item}.{key}" for key in found.withdrawn),
        stopped=frozenset(f"{item}.{key}" for key in found.stopped),
    )


def _placed(reason: str, steps: Steps, item: str) -> str:
    """With the steps that it names as the run has them."""
    names, were, rest = reason.partition(" were all")
    known = all(name.partition(".")[0] in steps for name in names.split(", "))
    return ", ".join(f"{item}.{name}" for name in names.split(", ")) + were + rest if known else reason


def _of_items(
    key: str, loop: Mapping[str, Any], inside: list[Reference], settled: Collection[str], settle: Any, sure: Any
) -> Statuses:
    """Of a loop whose items end as runs do, in the small; of one whose steps were all skipped it is said so."""
    cut = SKIPPED if stops(loop, [one.run for one in inside]) else frozenset()
    for n, one in enumerate(inside):
        item = f"{key}.{n}"
        idle = SKIPPED if all("skipped" in sure(f"{item}.{name}") for name in loop["steps"]) else frozenset()
        settle(item, sure(item) if item in settled else one.run | idle | cut)
    if loop.get("errors") == "collect":
        return SUCCEEDED
    found = [sure(f"{key}.{n}") for n in range(len(inside))]
    failed = FAILED if any("failed" in ends for ends in found) else frozenset()
    return failed | (SUCCEEDED if all(ends & (SUCCEEDED | SKIPPED) for ends in found) else frozenset()) or FAILED


def _blamed(child: str, loop: Mapping[str, Any], sure: Any, known: Mapping[str, str] | None) -> str:
    """Of an item, or the only step of one, that was skipped: what was let in goes on to its end when the loop stops."""
    own = [f"{child}.{name}" for name in loop["steps"]]
    idle = runs_a_graph(loop) and all(sure(key) == SKIPPED and (not known or key in known) for key in own)
    return "all of its steps were" if idle else "the loop stopped:"


def _counts(items: Mapping[str, int | None]) -> dict[str, int]:
    return {key: count or 0 for key, count in items.items()}


def _end(
    key: str,
    step: Mapping[str, Any],
    ends: Mapping[str, Statuses],
    items: Mapping[str, int | None],
    settle: Any,
    sure: Any,
    excused: Collection[str],
) -> Statuses:
    """Of a step that runs."""
    if "value" in step or "sleep" in step or "until" in step:
        return SUCCEEDED
    if "signal" in step or "approval" in step:
        return _awaited(step.get("signal") or step["approval"])
    if not step.get("steps"):
        return ends[key] | (FAILED if key in excused else frozenset())
    if items.get(key) is None:
        return FAILED
    own = [child for child, _ in children({key: step}, _counts(items))]
    alone = {child: ends[child] | (FAILED if child in excused else frozenset()) for child in own}
    cut_off = SKIPPED | FAILED if stops(step, alone.values()) else frozenset()
    for child in own:
        settle(child, alone[child] | cut_off)
    if step.get("errors") == "collect":
        return SUCCEEDED
    found: set[str] = set()
    if any("failed" in sure(child) for child in own):
        found.add("failed")
    if all("succeeded" in sure(child) or ends[child] == SKIPPED for child in own):  # an operator may leave one out
        found.add("succeeded")
    return frozenset(found) or FAILED


def stops(loop: Mapping[str, Any], ends: Iterable[Statuses]) -> bool:
    """Whether items of a loop may not begin, or not be tried again, because another one failed."""
    return bool(loop.get("stop_on_failure")) and any("failed" in end for end in ends)


def _awaited(asked: Mapping[str, Any]) -> Statuses:
    """Of a wait for a signal or an answer: one that comes too late, or never, fails it, unless something was said for
    that case."""
    limited = not {"timeout", "until", "within"}.isdisjoint(asked)
    return EITHER if limited and "default" not in asked and "late" not in asked else SUCCEEDED


def _handlers(steps: Steps, format: int) -> dict[str, list[str]]:
    """By step that must not fail, those that take up its failure: what asks for it and, from the second format on, for
    no success; and what is content with another one."""
    found: dict[str, list[str]] = {key: [] for key, step in steps.items() if not step.get("may_fail")}
    for name, step in steps.items():
        for key, accepted in step.get("run_after", {}).items():
            asks = "failed" in accepted and (format == 1 or "succeeded" not in accepted)
            if key in found and (asks or step.get("join") in ("any", "some")):
                found[key].append(name)
    return found


def _run(handlers_of: Mapping[str, list[str]], sure: Any, halted: bool) -> Statuses:
    """A run fails when a step failed whose failure no other step took up: one that asks for it, and was not skipped."""
    surely = possibly = False
    for key, handlers in handlers_of.items():
        if "failed" not in sure(key):
            continue
        handled_surely = any(not sure(name) & _OVER for name in handlers)
        handled_maybe = any(sure(name) - _OVER for name in handlers)
        possibly |= not handled_surely
        surely |= sure(key) == FAILED and not handled_maybe
    found = FAILED if surely else EITHER if possibly else SUCCEEDED
    return found | (frozenset({"cancelled", "timed_out"}) if halted else frozenset())


def in_order(steps: Steps) -> Iterator[str]:
    """Keys, each after all its predecessors."""
    left = {key: set(step.get("run_after", {})) for key, step in steps.items()}
    while left:
        free = [key for key, before in left.items() if not before & left.keys()]
        if not free:
            raise ValueError(f"a cycle among {sorted(left)}")
        yield from free
        for key in free:
            del left[key]
