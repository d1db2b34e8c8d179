"""`schedule(flow, Cron(…))`: times at which a flow starts by itself, as triggers of its manifest."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from datetime import datetime
from typing import Any, Final, NoReturn

from orchestrator.authoring.flow import AnyFlow, Flow
from orchestrator.authoring.placeholder import refuse
from orchestrator.authoring.step import Length
from orchestrator.authoring.tracer import current
from orchestrator.authoring.where import caller
from orchestrator.core.timing import Cron, Every
from orchestrator.core.triggers import Missed, Overlap
from orchestrator.errors import AuthoringError, InputInvalid, ManifestInvalid

_OPTIONS: Final = ("jitter", "overlap", "missed", "window", "start", "end", "paused", "description")


@dataclass(frozen=True)
class Schedule:
    """A rule with the options of `schedule`, for `@flow(schedules=[…])`. None means: the default."""

    rule: Cron | Every
    _: KW_ONLY
    input: Mapping[str, Any] | None = None
    key: str | None = None
    jitter: Length | None = None
    overlap: Overlap | None = None
    missed: Missed | None = None
    window: Length | None = None
    start: datetime | str | None = None
    end: datetime | str | None = None
    paused: bool | None = None
    description: str | None = None


def schedule(
    flow: AnyFlow,
    rule: Cron | Every,
    *,
    input: Mapping[str, Any] | None = None,
    key: str | None = None,
    jitter: Length | None = None,
    overlap: Overlap | None = None,
    missed: Missed | None = None,
    window: Length | None = None,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    paused: bool | None = None,
    description: str | None = None,
) -> Schedule:
    """Start `flow` at the times of `rule`: `schedule(nightly, Cron("0 7 * * 1-5", tz="Europe/Paris"))`.

    `key` names it among the schedules of the flow (`cron` or `every` unless given). `jitter` moves each start back by
    up to that much. `overlap`: what becomes of a start while an earlier run is open: `allow`, `skip`, `queue` one, or
    `cancel` the earlier one. `missed`: which starts are made up for after an outage: none (`skip`), the `latest`, or
    `all`, none of them older than `window`.

    Raises:
        AuthoringError: naming file, line and what to write instead.
    """
    if current() is not None:
        refuse("`schedule` was called in a flow body", "call it below the flow")
    if not isinstance(flow, Flow):
        _fail(caller(), f"`schedule` takes a flow, not {flow!r:.60}", "decorate the function with `@flow` first")
    given = Schedule(
        rule,
        input=input,
        key=key,
        jitter=jitter,
        overlap=overlap,
        missed=missed,
        window=window,
        start=start,
        end=end,
        paused=paused,
        description=description,
    )
    return _add(flow, given, caller())


def add_all(flow: AnyFlow, schedules: Iterable[Schedule | Cron | Every], place: str) -> None:
    """The schedules of `@flow(schedules=[…])`.

    Raises:
        AuthoringError: one of them is invalid.
    """
    if isinstance(schedules, Schedule | Cron | Every | str):
        _fail(place, f"`schedules={schedules!r:.60}` is not a list", "write `schedules=[…]`")
    for one in schedules:
        _add(flow, one if isinstance(one, Schedule) else Schedule(one), place)


def _add(flow: AnyFlow, given: Schedule, place: str) -> Schedule:
    rule: object = given.rule  # code without a type checker may give anything
    if not isinstance(rule, Cron | Every):
        shown = f'`Cron("{rule}")`' if isinstance(rule, str) else '`Cron("0 7 * * *")` or `Every("15m")`'
        _fail(place, f"{rule!r:.60} is not a rule for a schedule of flow `{flow.name}`", f"write {shown}")
    triggers = flow.manifest.triggers
    key = given.key if given.key is not None else _free_key(given.rule, triggers)
    if key in triggers:
        hint = "give each schedule a `key` of its own"
        _fail(place, f"flow `{flow.name}` has a trigger `{key}` already", hint)
    options = {name: getattr(given, name) for name in _OPTIONS if getattr(given, name) is not None}
    trigger = {**_rule_fields(given.rule), **options, "input": _encoded(flow, key, given.input or {}, place)}
    try:
        flow.manifest = flow.manifest.model_copy(update={"triggers": {**triggers, key: trigger}})
    except ManifestInvalid as exc:
        raise AuthoringError(f"{place}: {exc.message}", place=place) from exc
    return replace(given, key=key)


def _free_key(rule: Cron | Every, taken: Mapping[str, object]) -> str:
    kind = "cron" if isinstance(rule, Cron) else "every"
    number = 1
    while (key := kind if number == 1 else f"{kind}-{number}") in taken:
        number += 1
    return key


def _rule_fields(rule: Cron | Every) -> dict[str, Any]:
    if isinstance(rule, Cron):
        return {"type": "cron", "expression": rule.expression, "zone": rule.tz, "gap": rule.gap, "fold": rule.fold}
    return {"type": "every", "interval": rule.interval, "anchor": rule.anchor}


def _encoded(flow: AnyFlow, key: str, given: object, place: str) -> dict[str, Any]:
    """The input as JSON, checked against the flow's parameters; defaults are filled in when a run starts."""
    if not isinstance(given, Mapping):
        _fail(place, f"schedule `{key}` has `input={given!r:.60}`", "give a dict of the flow's parameters")
    try:
        encoded = json.loads(flow.encode_input(given))
    except InputInvalid as exc:
        raise AuthoringError(f"{place}: schedule `{key}`: {exc.message}", place=place) from exc
    return {str(name): encoded[name] for name in given}


def _fail(place: str, problem: str, fix: str) -> NoReturn:
    raise AuthoringError(f"{place}: {problem}. Fix: {fix}.", place=place)
