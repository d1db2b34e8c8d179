"""How many workers a group of queues needs: one formula, of facts that the ledger has."""

from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from orchestrator.core.durations import format_duration, parse_duration
from orchestrator.core.manifest import QueueName
from orchestrator.core.wording import counted

_SHORTEST_S: Final = 0.001
"""A step takes some time, whatever the clock says: else a backlog would ask for nobody."""


def _some_time(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("it must be more than zero. Fix: write 30s, 5m or plain seconds")
    return value


_Length = Annotated[timedelta, BeforeValidator(parse_duration), AfterValidator(_some_time)]


class Group(BaseModel):
    """Workers that are alike: what they take from, and `slots`, the steps that one of them runs at a time.

    `target_wait`: how long a ready step may wait for its turn. `startup`: how long a new worker takes until it runs
    steps; what falls due within that is counted already.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    queues: Annotated[tuple[QueueName, ...], Field(min_length=1, max_length=100)]
    slots: Annotated[int, Field(ge=1, le=10_000)]
    min: Annotated[int, Field(ge=0, le=10_000)] = 0
    max: Annotated[int, Field(ge=1, le=10_000)] = 100
    target_wait: _Length = timedelta(seconds=60)
    startup: _Length = timedelta(seconds=30)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min is {self.min}, more than max ({self.max}). Fix: lower min, or raise max")
        return self


@dataclass(frozen=True, slots=True)
class Load:
    """What a group has to do. `due`: steps that are ready within `startup`. `mean_s`: how long a step takes; None: no
    attempt has ended yet. `all_counted` False: there is more than was counted."""

    running: int
    ready: int
    due: int
    mean_s: float | None
    all_counted: bool = True


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many workers a group needs now, what that was made of, and why in words."""

    group: str
    replicas: int
    running: int
    ready: int
    due: int
    mean_duration_s: float | None
    slots_needed: float
    slots: int
    reason: str


def needed(name: str, group: Group, load: Load) -> Scaling:
    """Enough that nothing waits longer than `target_wait`, and never fewer than have room for what runs.

    By Little's law: of steps that take `mean` seconds, a slot runs `target_wait / mean` within that time; of longer
    ones each needs a slot of its own. What falls due is counted as what is ready, so that nothing changes when it does.
    """
    target_s = group.target_wait.total_seconds()
    weight = 1.0 if load.mean_s is None else min(1.0, max(load.mean_s, _SHORTEST_S) / target_s)
    slots_needed = load.running + (load.ready + load.due) * weight
    # Four slots may come out as a hair more, and the shortest step is more than none.
    wanted = ceil(round(slots_needed / group.slots, 6)) or int(slots_needed > 0)
    busy = ceil(load.running / group.slots)
    replicas = max(min(max(wanted, group.min), group.max), busy)
    return Scaling(
        name,
        replicas,
        load.running,
        load.ready,
        load.due,
        load.mean_s,
        slots_needed,
        group.slots,
        f"{_sum(group, load, slots_needed)}: {_worded(group, wanted, replicas)}",
    )


def _sum(group: Group, load: Load, slots_needed: float) -> str:
    length = "of unknown length" if load.mean_s is None else f"of {load.mean_s:.3g} s"
    ready = f"{'' if load.all_counted else 'more than '}{load.ready} ready"
    return (
        f"{load.running} running, {ready}, {load.due} due within {format_duration(group.startup)}, {length} each, to "
        f"begin within {format_duration(group.target_wait)}, take {counted(ceil(slots_needed), 'slot')}"
    )


def _worded(group: Group, wanted: int, replicas: int) -> str:
    said = f"{counted(wanted, 'worker')} with {counted(group.slots, 'slot')}"
    if replicas > group.max:
        return f"{said}; at most {group.max} are allowed, but what runs needs {replicas}"
    if replicas < wanted:
        return f"{said}; at most {replicas} are allowed"
    return f"{said}; at least {replicas} are kept" if replicas > wanted else said
