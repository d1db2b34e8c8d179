"""Which fields a step of each kind may have."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from orchestrator.core.problem import Problem
from orchestrator.core.states import StepKind

if TYPE_CHECKING:
    from orchestrator.core.manifest import StepDef

_K: Final = StepKind
_EVERY: Final = frozenset({"run_after", "join", "when", "may_fail", "description"})
_QUEUED: Final = frozenset({"queue", "priority", "queue_timeout"})
_FIELDS: Final = {
    _K.TASK: _EVERY | _QUEUED | {"type", "inputs", "retry", "timeout", "transactional", "poll", "secret"},
    _K.LOOP: _EVERY | _QUEUED | {"for_each", "steps", "concurrency", "errors", "stop_on_failure", "output"},
    _K.MERGE: _EVERY | {"value", "rest"},
    _K.REQUIRE: _EVERY | {"require", "message"},
    _K.WAIT: _EVERY | {"sleep", "until", "signal", "approval"},
    _K.FLOW: _EVERY | {"flow", "flow_version", "detached", "inputs", "retry", "secret"},
}
NAMES: Final = {
    _K.TASK: "a step",
    _K.LOOP: "a loop",
    _K.MERGE: "a merge",
    _K.REQUIRE: "a requirement",
    _K.WAIT: "a wait",
    _K.FLOW: "a call of a flow",
}
_GIVE: Final = {
    **dict.fromkeys(("concurrency", "errors", "stop_on_failure", "output"), "give `for_each`, or leave it out"),
    "rest": "give `value`, or leave it out",
}
_WAITS: Final = ("sleep", "until", "signal", "approval")
_CALLS: Final = ("flow", "flow_version", "detached")


def problems(place: str, step: "StepDef") -> Iterator[Problem]:
    """The fields that do not go with what the step is."""
    if len(waits := [name for name in given(step) if name in _WAITS]) > 1:
        yield Problem(place, f"waits by {' and '.join(waits)}", "make a step of each")
    for name in given(step):
        if name not in _FIELDS[step.kind]:
            yield Problem(f"{place}.{name}", *_what(place, step.kind, name))


def given(step: "StepDef") -> list[str]:
    """The fields that are not as they are by default, in order."""
    fields = type(step).model_fields
    return [name for name in fields if getattr(step, name) != fields[name].default]


def _what(place: str, kind: StepKind, name: str) -> tuple[str, str]:
    owner = next(one for one in _FIELDS if name in _FIELDS[one])
    if kind is StepKind.TASK:
        return f"only {NAMES[owner]} has `{name}`", _GIVE.get(name, "leave it out")
    if kind is StepKind.LOOP:
        fix = f"move it to the step in `{place}.steps`" if owner is StepKind.TASK else "leave it out"
        return f"a loop has no `{name}`", fix
    fix = "leave it out: no handler runs" if owner is StepKind.TASK else "leave it out"
    return f"{NAMES[kind]} has no `{name}`", fix
