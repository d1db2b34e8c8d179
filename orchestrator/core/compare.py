"""Two versions of a flow, compared by what the newer one does to callers and to runs in flight. Pure."""

from collections.abc import Container, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

from pydantic import JsonValue

from orchestrator.core.manifest import Manifest, StepDef
from orchestrator.core.results import Reading, callers, readings
from orchestrator.core.schema_change import narrowed
from orchestrator.core.signals import awaited
from orchestrator.core.stored_inputs import type_misfit
from orchestrator.core.wording import counted


class Verdict(StrEnum):
    """What a change does."""

    SAFE = "safe"  # nothing: runs in flight are pinned to their version
    WARN = "warn"  # something that is rarely meant
    UNKNOWN = "unknown"  # it depends on what is not known here
    BREAK = "break"  # runs in flight, or callers, fail or wait for ever


_ORDER: Final = list(Verdict)


@dataclass(frozen=True, slots=True)
class Finding:
    """One change, in a sentence, and what to do about it."""

    verdict: Verdict
    what: str
    fix: str | None = None


class Handler(Protocol):
    """What the code has for a type of step."""

    def misfit(self, names: AbstractSet[str], /) -> str | None:
        """Why it does not take inputs of these names; None: it does."""
        ...

    @property
    def takes(self) -> Mapping[str, Any]:
        """The JSON Schema of its parameters."""
        ...


@dataclass(frozen=True, slots=True)
class Need:
    """A step that runs of a version have yet to end. `open_runs` is None where nobody knows how many there are."""

    step: str
    type: str
    open_runs: int | None
    why: str
    """Why the code cannot run it."""


def worst(findings: Iterable[Finding]) -> Verdict:
    """Of all; nothing is safe."""
    return max((one.verdict for one in findings), key=_ORDER.index, default=Verdict.SAFE)


def changes(old: Manifest, new: Manifest, handlers: Mapping[str, Handler]) -> Iterator[Finding]:
    """What differs between two versions of a flow, whatever runs of it there are."""
    if old.hash == new.hash:
        return
    yield from _steps(old, new, handlers)
    if (why := narrowed(old.input_schema, new.input_schema)) is not None:
        yield Finding(
            Verdict.BREAK,
            f"the input: {why}. Callers, schedules and flows that start it as before are refused",
            "give the parameter a default, or a type that takes what the old one took",
        )
    elif old.input_schema != new.input_schema:
        yield Finding(Verdict.SAFE, "the input: it takes all that it took")
    before, now = old.output_schema or {}, new.output_schema or {}
    if before != now and narrowed(now, before) is not None:
        what = "the result may be one that it could not be before"
        yield Finding(Verdict.WARN, what, "see to it that whoever reads it takes the new one")


def alone(new: Manifest) -> Iterator[Finding]:
    """What is rarely meant, whatever there was before."""
    for key, step in _every(new.steps):
        wait = awaited(key, step)
        if wait is not None and wait.timeout is None and wait.until is None:
            what = f"step {key} waits for {wait.what} without an end: if it never comes, its run stays open for ever"
            yield Finding(Verdict.WARN, what, "give it a time, such as `timeout`")
        if step.flow == new.name:
            yield Finding(Verdict.WARN, f"step {key} calls its own flow", "see to it that this comes to an end")


def nowhere(new: Manifest, known: Container[str]) -> Iterator[Finding]:
    """Calls of flows that nobody knows."""
    for key, step in _every(new.steps):
        if step.flow is not None and step.flow not in known:
            what = f"step {key} calls flow {step.flow}, which is not there: it would fail with `FlowNotFound`"
            yield Finding(Verdict.WARN, what, "register it first, or correct its name")


def parked(old: Manifest, new: Manifest, open_runs: Mapping[str, int]) -> Iterator[Finding]:
    """Waits of runs in flight for what is another now. `open_runs`: by step that they have yet to end."""
    for top in open_runs.keys() & old.steps.keys() & new.steps.keys():
        later = dict(_every({top: new.steps[top]}))
        for key, step in _every({top: old.steps[top]}):
            before, now = awaited(key, step), awaited(key, later[key]) if key in later else None
            if before is not None and now is not None and before.form != now.form:
                runs = counted(open_runs[top], "open run")
                known = f"the schema of {before.what}, which {runs} may wait for,"
                what = f"{known} is another: they go on with the one before"
                yield Finding(Verdict.WARN, what, "let those who send it know both until they have ended")


def pending(reading: Reading, open_runs: int | None) -> Finding:
    """A step of runs of a version has yet to give what the function that reads it may not take. `open_runs`: how many
    of them there are; None: nobody knows."""
    what = (
        f"step {reading.step} (type `{reading.type}`) of an older version takes as `{reading.parameter}` what step "
        f"{reading.source} gives, and does not take all that it may be now"
    )
    fix = "let the parameter take that, or give the changed functions other keys"
    if open_runs is None:
        return Finding(Verdict.UNKNOWN, f"{what}: that matters if there are open runs", fix)
    verb = "has" if open_runs == 1 else "have"
    return Finding(Verdict.BREAK, f"{what}: {counted(open_runs, 'open run')} {verb} yet to run that", fix)


def unread(reading: Reading, count: int) -> Finding:
    """Some of what steps gave in open runs cannot be held against the function that reads it."""
    results, verb = counted(count, "result"), "was" if count == 1 else "were"
    what = (
        f"{results} of step {reading.source} in open runs {verb} not looked at, which step {reading.step} takes as "
        f"`{reading.parameter}`: they are in the payload store, which cannot be read here"
    )
    return Finding(Verdict.WARN, what, "set ORCHESTRATOR_PAYLOAD_STORE as the workers have it")


def given(reading: Reading, outputs: Iterable[JsonValue]) -> Finding | None:
    """What a step gave in open runs, and the function that reads it does not take any more."""
    whys = [why for one in outputs if (why := reading.misfit(one)) is not None]
    if not whys:
        return None
    runs, verb = counted(len(whys), "open run"), "needs" if len(whys) == 1 else "need"
    what = (
        f"{runs} {verb} step {reading.step} (type `{reading.type}`), and its parameter "
        f"`{reading.parameter}` does not take what step {reading.source} gave: {whys[0]}"
    )
    return Finding(Verdict.BREAK, what, "let the parameter take both, or give the changed functions other keys")


def called(old: Manifest, new: Manifest, others: Mapping[str, tuple[Manifest, Mapping[str, Any]]]) -> Iterator[Finding]:
    """Steps of other flows that read the result of this one, and took all that it could be before. `others`: by name,
    each with the JSON Schemas of its functions' parameters, by type."""
    before, now = old.output_schema or {}, new.output_schema or {}
    if before == now:
        return
    for caller, key in callers(new.name, (manifest for manifest, _ in others.values())):
        for one in readings(caller, others[caller.name][1]):
            if one.source == key and one.narrower(before, now):
                what = (
                    f"the result: step {one.step} of flow {caller.name} takes it as `{one.parameter}`, and does not "
                    "take all that it may be now"
                )
                yield Finding(Verdict.BREAK, what, "let that parameter take the new result, or keep the old one")


def renamed(old: Manifest, new: Manifest, handlers: Mapping[str, Handler]) -> dict[str, str]:
    """Steps that have the same inputs under another key, and whose function is gone: most likely it was renamed. Old
    key to new one."""
    left = {key: step for key, step in new.steps.items() if key not in old.steps}
    found = {}
    for key, step in old.steps.items():
        if key in new.steps or step.type in handlers:
            continue
        same = next((other for other, one in left.items() if _work(one) == _work(step)), None)
        if same is not None:
            found[key] = same
            del left[same]
    return found


def needs(
    old: Manifest, new: Manifest, handlers: Mapping[str, Handler], open_runs: Mapping[str, int] | None
) -> Iterator[Need]:
    """The steps of a version that the code, which says `new`, could not run, of those that runs have yet to end: by
    step, how many runs; None: any step may be one."""
    for key, step in old.steps.items():
        if open_runs is not None and key not in open_runs:
            continue
        for definition in _handled(step):
            if why := _why_not(definition, handlers, old, new):
                yield Need(key, definition.type or "", None if open_runs is None else open_runs[key], why)


def judged(need: Need, new_name: str | None) -> Finding:
    """`new_name`: what the step is called now, most likely."""
    step = f"step {need.step} (type `{need.type}`) of an older version, and {need.why}"
    fix = _fix(need, new_name)
    if need.open_runs is None:
        return Finding(Verdict.UNKNOWN, f"open runs, if there are any, need {step}", fix)
    verb = "needs" if need.open_runs == 1 else "need"
    return Finding(Verdict.BREAK, f"{counted(need.open_runs, 'open run')} {verb} {step}", fix)


def _every(steps: Mapping[str, StepDef]) -> Iterator[tuple[str, StepDef]]:
    """Those inside of loops, too."""
    for key, step in steps.items():
        yield key, step
        yield from _every(step.steps)


def _handled(step: StepDef) -> Iterator[StepDef]:
    """What of it has a handler: itself, or what is inside."""
    return (one for _, one in _every({"": step}) if one.type is not None)


_LACKS: Final = "the code does not have it"


def _why_not(step: StepDef, handlers: Mapping[str, Handler], old: Manifest, new: Manifest) -> str | None:
    handler = handlers.get(step.type or "")
    if handler is None:
        return _LACKS
    return handler.misfit(step.inputs.keys()) or type_misfit(step, handler.takes, old, new)


def _fix(need: Need, new_name: str | None) -> str:
    if new_name is not None:
        return (
            f'if it was renamed to {new_name}, write `@step(key="{need.type}")` on the function; else keep it and name '
            f"it in `@flow(retired=[{need.type}])`"
        )
    if need.why == _LACKS:
        return f"keep its function and name it in `@flow(retired=[{need.type}])` until they have ended"
    return "give a new parameter a default, or the changed function another key and the old one to `retired`"


def _steps(old: Manifest, new: Manifest, handlers: Mapping[str, Handler]) -> Iterator[Finding]:
    again = renamed(old, new, handlers)
    for key, step in new.steps.items():
        if key not in old.steps and key not in again.values():
            yield Finding(Verdict.SAFE, f"step {key} is new")
        elif key in old.steps and (fields := _differing(old.steps[key], step)):
            yield Finding(Verdict.SAFE, f"step {key} has another {', '.join(fields)}")
    for key in old.steps:
        if key in again:
            what = f"step {key} is called {again[key]} now: its outputs are not found under that key"
            yield Finding(Verdict.WARN, what, f'if it is the same step, keep its key: `@step(key="{key}")`')
        elif key not in new.steps:
            yield Finding(Verdict.SAFE, f"step {key} is gone")


def _differing(old: StepDef, new: StepDef) -> list[str]:
    return [name for name in type(new).model_fields if getattr(old, name) != getattr(new, name)]


def _work(step: StepDef) -> object:
    """What it does, but for its name."""
    return step.model_dump(include={"inputs", "for_each", "run_after"}), [_work(child) for child in step.steps.values()]
