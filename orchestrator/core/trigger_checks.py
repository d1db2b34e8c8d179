"""What can be wrong with the triggers of a manifest beyond their single fields."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from orchestrator.core.durations import format_duration
from orchestrator.core.expressions import find, find_bare, refs
from orchestrator.core.headers import is_secret
from orchestrator.core.problem import Problem, key_problems, written
from orchestrator.core.schemas import Misfit, misfits
from orchestrator.core.suggest import did_you_mean
from orchestrator.core.taint import secret_names
from orchestrator.core.timing.rules import Every
from orchestrator.core.triggers import ScheduleDef
from orchestrator.core.values import show_path
from orchestrator.core.webhook_triggers import WebhookTrigger
from orchestrator.errors import ExpressionInvalid, ManifestInvalid

if TYPE_CHECKING:
    from orchestrator.core.manifest import Manifest

_INSTANT: Final = timedelta(microseconds=1)
_SOME_DAY: Final = datetime(2024, 1, 1, tzinfo=UTC)
_SAMPLE: Final = 60


def problems(manifest: "Manifest") -> Iterator[Problem]:
    """Every problem of the triggers, in the order of the manifest."""
    for key in manifest.triggers:
        yield from key_problems(f"triggers.{key}", key)
    for key, one in manifest.schedules.items():
        place = f"triggers.{key}"
        yield from _bound_problems(place, one)
        yield from _jitter_problems(place, one)
        yield from _input_problems(manifest, f"{place}.input", one)
    for slug, webhook in manifest.webhooks.items():
        yield from _expression_problems(f"triggers.{slug}", webhook)
        yield from _mapping_problems(manifest, f"triggers.{slug}.input", webhook)
        if webhook.search is not None and webhook.search not in manifest.search:
            hint = did_you_mean(webhook.search, manifest.search) or "declare it: `@flow(search=[…])`"
            yield Problem(f"triggers.{slug}.search", f"the flow has no search attribute `{webhook.search}`", hint)


def _mapping_problems(manifest: "Manifest", place: str, one: WebhookTrigger) -> Iterator[Problem]:
    """Of an input that is made name by name, the names can be checked before anything comes."""
    names = manifest.input_schema.get("properties")
    if one.signal is not None or not isinstance(one.input, dict) or not isinstance(names, dict):
        return
    if manifest.input_schema.get("additionalProperties") is False:
        for unknown in sorted(one.input.keys() - names.keys()):
            hint = did_you_mean(unknown, names) or None
            yield Problem(f"{place}.{unknown}", f"the flow has no input `{unknown}`", hint)
    required = manifest.input_schema.get("required")
    for name in map(str, required) if isinstance(required, list) else ():
        if name not in one.input:
            yield Problem(f"{place}.{name}", f"the flow needs the input `{name}`", "give it in `input`")


def _expression_problems(place: str, one: WebhookTrigger) -> Iterator[Problem]:
    """A delivery has a body and headers, and nothing else that could be read."""
    found = [*find(one.input, ("input",)), *find_bare(one.idempotency_key, ("idempotency_key",))]
    found += [*find_bare(one.run, ("run",)), *find_bare(one.signal_key, ("signal_key",))]
    for each in found:
        where = place + written(each.path)
        if isinstance(each.expr, ExpressionInvalid):
            yield Problem(where, each.expr.problem or each.expr.message, each.expr.fix)
            continue
        for ref in refs(each.expr):
            if ref.root == "headers" and ref.path and is_secret(str(ref.path[0])):
                yield Problem(where, f"the header `{ref.path[0]}` is never kept", "read the body")
            elif ref.root not in ("trigger", "headers"):
                yield Problem(where, f"`{ref}` is not known when a delivery comes", "read `@triggerBody()`")


def _bound_problems(place: str, one: ScheduleDef) -> Iterator[Problem]:
    if one.start is None:
        return
    if one.end is not None and one.end <= one.start:
        hint = "swap them" if one.end < one.start else "give a later `end`, or leave it out"
        yield Problem(f"{place}.end", f"`end` {one.end} is not after `start` {one.start}", hint)
    elif one.timing().after(one.start - _INSTANT) is None:
        until = "`end`" if one.end is not None else "the year 9999"
        yield Problem(place, f"never fires between `start` {one.start} and {until}", "change the rule or its bounds")


def _jitter_problems(place: str, one: ScheduleDef) -> Iterator[Problem]:
    """A fire that may be moved past the next one would only make the next one late."""
    if one.jitter and one.jitter >= (distance := _shortest(one)):
        given, shown = format_duration(one.jitter), format_duration(distance)
        yield Problem(f"{place}.jitter", f"{given} is not less than the {shown} between two fires", "shorten it")


def _shortest(one: ScheduleDef) -> timedelta:
    if isinstance(one.rule, Every):
        return one.rule.interval
    since = one.start - _INSTANT if one.start is not None else _SOME_DAY
    fires = one.timing().between(since, datetime.max.replace(tzinfo=UTC), _SAMPLE)
    return min((later - fire for fire, later in pairwise(fires)), default=timedelta.max)


def _input_problems(manifest: "Manifest", place: str, one: ScheduleDef) -> Iterator[Problem]:
    try:
        found = list(misfits(json.dumps(manifest.input_schema, sort_keys=True), one.input, secret_names(manifest)))
    except ManifestInvalid:
        return
    for each in found:
        yield from _misfits(manifest, place, each)


def _misfits(manifest: "Manifest", place: str, found: Misfit) -> Iterator[Problem]:
    """The misfit at its value; a missing or unknown name is named with its own place."""
    names = manifest.input_schema.get("properties")
    known = list(names) if isinstance(names, dict) else []
    where = show_path(found.path)
    here = place if not where else place + where if where.startswith("[") else f"{place}.{where}"
    if where or not (found.missing or found.unknown):
        yield Problem(here, found.message)
    for name in sorted(found.unknown) if not where else ():
        yield Problem(f"{place}.{name}", f"the flow has no input `{name}`", did_you_mean(name, known) or None)
    if found.missing and not where:
        problem, fix = (
            f"the flow needs the input `{found.missing}`",
            f'give it in the schedule\'s `input`: {{"{found.missing}": …}}',
        )
        yield Problem(f"{place}.{found.missing}", problem, fix)
