"""Signals and approvals: what a step may wait for that somebody sends. Their parts of the manifest, and their rules."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, SerializerFunctionWrapHandler
from pydantic.functional_serializers import model_serializer

from orchestrator.core.durations import Duration
from orchestrator.core.expressions import is_expression
from orchestrator.core.inputs import canonical
from orchestrator.core.times import parse_time

if TYPE_CHECKING:
    from orchestrator.core.manifest import StepDef

PAYLOAD_LIMIT: Final = 256 * 1024
"""Bytes of JSON of one payload."""
KEPT_LIMIT: Final = 1_000
"""Signals that one run keeps until somebody takes them."""
KEY_LIMIT: Final = 200
"""Characters of a key."""

TITLE_LIMIT: Final = 500
"""Characters of what somebody is asked."""

Positive = Annotated[Duration, Field(gt=timedelta(0))]


def _is_time(value: str) -> str:
    if not is_expression(value):
        time_of(value)
    return value


Time = Annotated[str, AfterValidator(_is_time)]
"""A time with its offset, or an expression that gives one."""


def time_of(text: object) -> datetime:
    """
    Raises:
        ValueError: this is not a time in ISO 8601 with an offset.
    """
    found = parse_time(text)
    if found is None or found.tzinfo is None:
        raise ValueError(f"{text!r:.60} is not a time with an offset, such as `2026-01-31T12:00:00Z`")
    return found


def key_text(value: object) -> str:
    """The key of a wait or a signal: the text of a JSON scalar.

    Raises:
        ValueError: it is not one, or too long.
    """
    if value is None or isinstance(value, list | dict):
        raise ValueError(
            f"a key is a text, a number or a bool, not {'null' if value is None else type(value).__name__}"
        )
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if len(text) > KEY_LIMIT:
        raise ValueError(f"a key has {KEY_LIMIT} characters at most, this one has {len(text)}")
    return text


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True)


class SignalDef(_Part):
    """A step that waits for a signal: its output is the payload, which fits `schema`. Of a signal with another `key` it
    knows nothing. When nothing has come by the time, it fails, or gives `default`, which may be null."""

    name: str
    key: JsonValue = ""
    timeout: Positive | None = None
    until: Time | None = None
    default: JsonValue = None
    form: Annotated[dict[str, JsonValue], Field(alias="schema")] = {}

    @model_serializer(mode="wrap")
    def _with_null(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _kept(handler(self), "default", self)

    @property
    def values(self) -> JsonValue:
        """Where it may have expressions, by field."""
        return {"key": self.key, "until": self.until}


class ApprovalDef(_Part):
    """A step that waits for somebody's answer, which fits `form`. `to` says who is asked, `show` what they are shown.
    When nobody has answered `within` that time, it fails, or gives `late`."""

    title: Annotated[str, Field(min_length=1, max_length=TITLE_LIMIT)]
    to: Annotated[str, Field(min_length=1, max_length=1000)]
    show: dict[str, JsonValue] = {}
    within: Positive | None = None
    late: JsonValue = None
    form: dict[str, JsonValue] = {}

    @model_serializer(mode="wrap")
    def _with_null(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _kept(handler(self), "late", self)

    @property
    def values(self) -> dict[str, JsonValue]:
        """Where it may have expressions, by field."""
        return {"title": self.title, "to": self.to, "show": self.show}


def _kept(dumped: dict[str, Any], name: str, part: BaseModel) -> dict[str, Any]:
    """A null that was given means something else than none."""
    return {**dumped, name: getattr(part, name)} if name in part.model_fields_set else dumped


@dataclass(frozen=True, slots=True)
class Awaited:
    """What a step waits for. The signal of an approval has the name of its step; inside of a loop, that of its row."""

    name: str
    key: JsonValue
    timeout: timedelta | None
    until: str | None
    form: Mapping[str, JsonValue]
    default: tuple[JsonValue] | None
    """What it gives when the time is over; None: it fails."""
    approval: ApprovalDef | None = None

    @property
    def error(self) -> str:
        """The type of the failure when the time is over."""
        return "SignalTimeout" if self.approval is None else "ApprovalTimeout"

    @property
    def what(self) -> str:
        """For people."""
        return f"signal {self.name}" if self.approval is None else f"the answer to {self.approval.title!r}"


def awaited(key: str, step: "StepDef") -> Awaited | None:
    """What the step of that key waits for; None: for no signal."""
    if (signal := step.signal) is not None:
        default = (signal.default,) if "default" in signal.model_fields_set else None
        return Awaited(signal.name, signal.key, signal.timeout, signal.until, signal.form, default)
    if (asked := step.approval) is not None:
        late = (asked.late,) if "late" in asked.model_fields_set else None
        return Awaited(key, "", asked.within, None, asked.form, late, asked)
    return None


@dataclass(frozen=True, slots=True)
class Signal:
    """What somebody sends to a run. `payload` is JSON text. The same `id` is delivered once; None: each is another.
    `ttl`: how long it is kept when nothing waits for it; None: until the run ends. `answers`: it is
    the answer to an approval, and `name` the key of its step."""

    name: str
    payload: str = field(repr=False)
    key: str = ""
    id: str | None = None
    by: str | None = None
    ttl: timedelta | None = None
    answers: bool = False
    may: Callable[[str | None], bool] | None = None
    """Whether whoever sends it is somebody that an approval asks; None: that is not looked at."""

    def digest(self, value: object) -> str:
        """Tells whether two signals say the same; `value` is the payload."""
        return hashlib.sha256(f"{self.key}\0{canonical(value)}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a signal. `delivered`: `step` took it at once; `kept`: a step that waits for it later takes it,
    until `expires_at`, or until the run ends; `step` is then the one that has done so. `duplicate`: this is what the
    first one with its id was answered. `at`: when it came."""

    delivered: bool
    kept: bool
    duplicate: bool
    id: str
    at: datetime
    step: str | None = None
    expires_at: datetime | None = None
