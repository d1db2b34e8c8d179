"""Steps that poll: how they say that they are not ready yet, and how often they are asked."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import FrameType
from typing import Any

from pydantic import ValidationError

from orchestrator.authoring.conditions import truth
from orchestrator.authoring.options import BadOption
from orchestrator.authoring.placeholder import Node, Placeholder, refuse
from orchestrator.authoring.tracer import Tracer
from orchestrator.core.durations import DurationLike, parse_duration
from orchestrator.core.expressions import Ref, render
from orchestrator.core.polling import PollDef


class NotYet(Exception):
    """Raised by a step that polls: what it waits for is not there. That is no failure: the step is asked again after
    its `every`, or once after `after` instead, which is a second at least; until its `timeout` is over."""

    __module__ = "orchestrator"  # the name by which people import it, also in lists and logs

    def __init__(self, why: str = "", *, after: DurationLike | None = None) -> None:
        """
        Raises:
            DurationInvalid: `after` is not a length of time.
        """
        super().__init__(why)
        self.why = str(why)
        self.after = None if after is None else parse_duration(after)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.why, self.after)


def _again(why: str, after: DurationLike | None) -> NotYet:
    return NotYet(why, after=after)


@dataclass(frozen=True, slots=True)
class Poll:
    """`@step(poll=Poll(every="10s", timeout="2m"))`: the step is asked again until it does not raise `NotYet`, and,
    with `until`, until that is true of what it returns: `until=lambda seen: seen.done`. It is asked `min_attempts`
    times at least; the `timeout` is over all, from the first time on."""

    every: DurationLike
    timeout: DurationLike
    min_attempts: int = 1
    until: Callable[[Any], object] | None = None


@dataclass(frozen=True, slots=True)
class PollState:
    """How far the polling of a step is: the number of this poll, from 1, when the first began, and when the last is."""

    number: int
    started: datetime
    deadline: datetime


def definition(poll: object, returns: Any) -> PollDef | None:
    """As a manifest has it; `returns` is the type of the step's result.

    Raises:
        BadOption: it is not a `Poll`, or a value of it is wrong.
    """
    if poll is None:
        return None
    if not isinstance(poll, Poll):
        raise BadOption(f"has `poll={poll!r}`", 'write `poll=Poll(every="10s", timeout="2m")`')
    until = None if poll.until is None else _traced(poll.until, returns)
    try:
        given = {"every": poll.every, "timeout": poll.timeout, "min_attempts": poll.min_attempts, "until": until}
        return PollDef.model_validate(given)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        name = first["loc"][0]
        message = first["msg"].removeprefix("Value error, ").partition(" Fix: ")[0].rstrip(".")
        raise BadOption(f"has `Poll({name}={getattr(poll, str(name))!r})`: {message}") from exc


class _Nowhere:
    """No flow's body is traced."""

    def step_called(self, frame: FrameType | None) -> None:
        refuse("`until` calls a step", "ask for something of its argument, such as `seen.done`")


def _traced(until: Callable[[Any], object], returns: Any) -> str:
    """The condition as an expression: it is called once, with a stand-in for the result.

    Raises:
        AuthoringError: it gives no condition.
    """
    tracer = Tracer("", _Nowhere())
    with tracer.active():
        seen = until(Placeholder(Node(Ref("output"), returns, tracer, "the result of the step")))
        return render(truth(tracer, seen))
