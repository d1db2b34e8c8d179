"""What may start a flow, as parts of its manifest: by hand, by cron, by interval, by a webhook."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag, TypeAdapter

from orchestrator.core.durations import Duration
from orchestrator.core.timing.rules import (
    Cron,
    Every,
    Expression,
    Fold,
    Gap,
    Instant,
    Interval,
    Timing,
    WholeInstant,
    Zone,
)
from orchestrator.core.webhook_triggers import WebhookTrigger

Overlap = Literal["allow", "skip", "queue", "cancel"]
Missed = Literal["skip", "latest", "all"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TriggerDef(_Part):
    """Started by hand, by the client or the command line."""

    type: Literal["manual"] = "manual"


class ScheduleOptions(_Part):
    """What every schedule has."""

    input: dict[str, JsonValue] = {}
    jitter: Duration = timedelta(0)
    overlap: Overlap = "allow"
    missed: Missed = "latest"
    window: Annotated[Duration, Field(gt=timedelta(0))] | None = None
    start: Instant | None = None
    end: Instant | None = None
    paused: bool = False
    description: str | None = None


class CronTrigger(ScheduleOptions):
    """Started at wall times."""

    type: Literal["cron"]
    expression: Expression
    zone: Zone = "UTC"
    gap: Gap = "auto"
    fold: Fold = "auto"

    @property
    def rule(self) -> Cron:
        return Cron(self.expression, self.zone, gap=self.gap, fold=self.fold)

    def timing(self) -> Timing:
        return Timing(self.rule, self.jitter, self.start, self.end)


class EveryTrigger(ScheduleOptions):
    """Started at fixed intervals."""

    type: Literal["every"]
    interval: Interval
    anchor: WholeInstant | None = None

    @property
    def rule(self) -> Every:
        return Every(self.interval, self.anchor)

    def timing(self) -> Timing:
        return Timing(self.rule, self.jitter, self.start, self.end)


TRIGGERS: Final[Mapping[str, type[BaseModel]]] = {
    "manual": TriggerDef,
    "cron": CronTrigger,
    "every": EveryTrigger,
    "webhook": WebhookTrigger,
}


def _kind(value: object) -> object:
    kind = value.get("type", "manual") if isinstance(value, Mapping) else getattr(value, "type", "manual")
    return kind if isinstance(kind, str) else str(kind)


ScheduleDef = CronTrigger | EveryTrigger
Trigger = Annotated[
    Annotated[TriggerDef, Tag("manual")]
    | Annotated[CronTrigger, Tag("cron")]
    | Annotated[EveryTrigger, Tag("every")]
    | Annotated[WebhookTrigger, Tag("webhook")],
    Discriminator(_kind),
]
_SCHEDULE: Final[TypeAdapter[ScheduleDef]] = TypeAdapter(Annotated[ScheduleDef, Field(discriminator="type")])


def schedule_def(definition: Mapping[str, Any]) -> ScheduleDef:
    """A stored definition as a trigger.

    Raises:
        pydantic.ValidationError: it is not one, or this machine's zone database lacks its zone.
    """
    return _SCHEDULE.validate_python(definition)


def overridden(trigger: ScheduleDef, expression: str | None, zone: str | None) -> ScheduleDef:
    """The trigger with an operator's expression, zone or both; an interval becomes a cron rule with its options.

    Raises:
        ScheduleInvalid: the expression or the zone is invalid.
    """
    if expression is None and (zone is None or isinstance(trigger, EveryTrigger)):
        return trigger
    shared = {name: getattr(trigger, name) for name in ScheduleOptions.model_fields}
    if isinstance(trigger, CronTrigger):
        rule = Cron(expression or trigger.expression, zone or trigger.zone, gap=trigger.gap, fold=trigger.fold)
    else:
        rule = Cron(expression or "", zone or "UTC")
    return CronTrigger(type="cron", expression=rule.expression, zone=rule.tz, gap=rule.gap, fold=rule.fold, **shared)
