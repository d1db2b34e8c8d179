"""What there is to draw of a flow or a run, whatever it is drawn with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.core.gates import Join
from orchestrator.core.manifest import Manifest, StepDef
from orchestrator.core.signals import awaited
from orchestrator.core.states import FINAL_STEP, StepKind, StepStatus
from orchestrator.core.wording import length

_LONG: Final = 60
"""A condition is cut behind so many characters."""
_ANY_END: Final = FINAL_STEP - {StepStatus.COMPENSATED}
_USUAL: Final = (StepStatus.SUCCEEDED,)


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a step of a run stands, with a word on it, such as the counts of a loop's items."""

    status: StepStatus
    note: str = ""


@dataclass(frozen=True, slots=True)
class Arrow:
    """From the box of the key, beside this one. `asks` is empty where its success is asked for."""

    before: str
    asks: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """One step. `id` is a name that every language takes. `what`: its type or nature, where that is not its key;
    `asks`: its condition and how it joins; `options`: how it is run. `inside`: the body of a loop."""

    id: str
    key: str
    kind: StepKind
    what: str
    asks: tuple[str, ...]
    options: tuple[str, ...]
    arrows: tuple[Arrow, ...]
    inside: "tuple[Box, ...]"
    stand: Stand | None


@dataclass(frozen=True, slots=True)
class Picture:
    """A flow, or with `stands` a run of it."""

    title: str
    boxes: tuple[Box, ...]

    @classmethod
    def of(cls, manifest: Manifest, title: str = "", stands: Mapping[str, Stand] | None = None) -> "Picture":
        """`stands`: by key, of the steps of a run."""
        name = title or f"{manifest.name}@{manifest.version}"
        return cls(name, _boxes(manifest.steps, "s", stands or {}))

    def every(self) -> Iterator[Box]:
        """All boxes, those of bodies too."""
        yield from _every(self.boxes)


def arrows(boxes: tuple[Box, ...]) -> Iterator[tuple[Box, Box, str]]:
    """From, to and what is asked, of all arrows; both ends lie beside each other, in a body or in none."""
    here = {box.key: box for box in boxes}
    for box in boxes:
        yield from ((here[arrow.before], box, arrow.asks) for arrow in box.arrows if arrow.before in here)
        yield from arrows(box.inside)


def _every(boxes: tuple[Box, ...]) -> Iterator[Box]:
    for box in boxes:
        yield box
        yield from _every(box.inside)


def _boxes(steps: Mapping[str, StepDef], prefix: str, stands: Mapping[str, Stand]) -> tuple[Box, ...]:
    return tuple(_box(key, step, f"{prefix}{number}", stands) for number, (key, step) in enumerate(steps.items()))


def _box(key: str, step: StepDef, id_: str, stands: Mapping[str, Stand]) -> Box:
    return Box(
        id=id_,
        key=key,
        kind=step.kind,
        what=_what(key, step),
        asks=tuple(_asks(step)),
        options=tuple(_options(step)),
        arrows=tuple(Arrow(before, _accepted(statuses)) for before, statuses in step.run_after.items()),
        inside=_boxes(step.steps, f"{id_}_", {}),
        stand=stands.get(key),
    )


def _what(key: str, step: StepDef) -> str:
    match step.kind:
        case StepKind.TASK:
            return "" if step.type in (None, key) else str(step.type)
        case StepKind.LOOP:
            return f"for each{f', {step.concurrency} at a time' if step.concurrency else ''}"
        case StepKind.REQUIRE:
            return f"require {_short(step.require)}"
        case StepKind.WAIT:
            return _wait(key, step)
        case StepKind.FLOW:
            return f"{'starts' if step.detached else 'calls'} flow {step.flow}"
        case _:
            return str(step.kind)


def _wait(key: str, step: StepDef) -> str:
    wait = awaited(key, step)
    if wait is None:
        return f"sleep {_short(step.sleep)}" if step.until is None else f"until {_short(step.until)}"
    until = f" until {_short(wait.until)}" if wait.until is not None else ""
    return f"{_short(wait.what)}{f' within {length(wait.timeout)}' if wait.timeout is not None else until}"


def _asks(step: StepDef) -> Iterator[str]:
    if step.when is not None:
        yield f"when {_short(step.when)}"
    if step.join is not Join.ALL:
        yield f"join {step.join}"


def _options(step: StepDef) -> Iterator[str]:
    if step.queue:
        yield f"queue {step.queue}"
    if step.retry and step.retry.max_attempts > 1:
        yield f"up to {step.retry.max_attempts} attempts"
    if step.timeout:
        yield f"timeout {length(step.timeout)}"
    if step.poll:
        yield f"asked every {length(step.poll.every)}"
    if step.transactional:
        yield "transactional"
    if step.may_fail:
        yield "may fail"
    if step.errors == "collect":
        yield "collects errors"
    if step.stop_on_failure:
        yield "stops at a failure"


def _accepted(statuses: tuple[StepStatus, ...]) -> str:
    if tuple(statuses) == _USUAL:
        return ""
    return "any end" if set(statuses) >= _ANY_END else " or ".join(statuses)


def _short(text: str | None) -> str:
    whole = " ".join((text or "").split())
    return whole if len(whole) <= _LONG else f"{whole[: _LONG - 1]}…"
