"""The options of a step, checked once."""

from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from orchestrator.core.durations import DurationLike, parse_duration
from orchestrator.core.manifest import Backoff, QueueName, Retry, StepDef
from orchestrator.core.polling import PollDef
from orchestrator.core.problem import KEY
from orchestrator.core.suggest import did_you_mean
from orchestrator.errors import DurationInvalid

_QUEUE: Final[TypeAdapter[str]] = TypeAdapter(QueueName)


class BadOption(ValueError):
    """An invalid option. What is wrong reads well after the name of the function; the fix is what to do about it."""

    def __init__(self, problem: str, fix: str = "correct the option") -> None:
        super().__init__(f"{problem}; {fix}")
        self.problem = problem
        self.fix = fix


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How a step is run. None means: what the flow or the worker does by default."""

    retries: int | None = None  # attempts after the first one
    backoff: Backoff | None = None
    never_retry: tuple[type[BaseException], ...] = ()
    timeout: timedelta | None = None
    queue_timeout: timedelta | None = None
    queue: str | None = None
    priority: int | None = None  # 0 first … 9 last
    transactional: bool = False
    poll: PollDef | None = None
    key: str | None = None
    description: str | None = None

    def merged(self, **given: Any) -> "StepOptions":
        """With those that are given (not None) replaced.

        Raises:
            BadOption: an unknown name or an invalid value.
        """
        known = {field.name for field in fields(self)}
        checked = {}
        for name, value in given.items():
            if name not in known:
                raise BadOption(f"has an unknown option `{name}`", did_you_mean(name, known))
            if value is not None:
                checked[name] = _CHECKS[name](name, value)
        merged = replace(self, **checked)
        if "backoff" in checked and not merged.retries:
            raise BadOption("has a `backoff` without `retries`, which does nothing", "add `retries=3`")
        return merged

    @property
    def retry(self) -> Retry | None:
        if self.retries is None:
            return None
        return Retry(max_attempts=self.retries + 1, backoff=self.backoff or Backoff())

    def step_def(self, **fields: Any) -> StepDef:
        """A manifest step with these options."""
        return StepDef(
            queue=self.queue,
            priority=self.priority,
            retry=self.retry,
            timeout=self.timeout,
            queue_timeout=self.queue_timeout,
            transactional=self.transactional,
            poll=self.poll,
            description=self.description,
            **fields,
        )


def _whole_number(low: int, high: int) -> Any:
    def check(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise BadOption(f"has `{name}={value!r}`", f"give a whole number from {low} to {high}")
        return value

    return check


def _duration(name: str, value: DurationLike) -> timedelta:
    try:
        found = parse_duration(value)
    except DurationInvalid as exc:
        raise BadOption(f"has `{name}={value!r}`: {exc.message.rstrip('.')}") from exc
    if not found:
        raise BadOption(f"has `{name}={value!r}`", "give more than zero, or leave it out for no limit")
    return found


def _backoff(name: str, value: object) -> Backoff:
    try:
        return value if isinstance(value, Backoff) else Backoff.parse(value)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise BadOption(f"has `{name}={value!r}`: {first}", 'write "1s..5m" or a list such as ["1s", "10s"]') from exc


def _exceptions(name: str, value: object) -> tuple[type[BaseException], ...]:
    found = tuple(value) if isinstance(value, tuple | list | set | frozenset) else (value,)
    for one in found:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise BadOption(f"has `{name}` with {one!r}", "give exception classes, such as `(ValueError,)`")
    return found


def _queue(name: str, value: object) -> str:
    try:
        return _QUEUE.validate_python(value, strict=True)
    except ValidationError as exc:
        raise BadOption(f"has `{name}={value!r}`", "give 1 to 100 letters, digits, `_`, `-` or `.`") from exc


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadOption(f"has `{name}={value!r}`", "give True or False")
    return value


def _key(name: str, value: object) -> str:
    if not isinstance(value, str) or not KEY.fullmatch(value):
        raise BadOption(f"has `{name}={value!r}`", "give 1 to 100 letters, digits, `_` or `-`")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadOption(f"has `{name}={value!r}`", "give a string")
    return value


_CHECKS: Final[dict[str, Any]] = {
    "retries": _whole_number(0, 999),
    "backoff": _backoff,
    "never_retry": _exceptions,
    "timeout": _duration,
    "queue_timeout": _duration,
    "queue": _queue,
    "priority": _whole_number(0, 9),
    "transactional": _flag,
    "poll": lambda name, value: value,
    "key": _key,
    "description": _text,
}
