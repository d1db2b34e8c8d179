"""Polling: a step that is asked again until what it waits for is there. Its part of the manifest, and its rules."""

import json
from datetime import timedelta
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from orchestrator.core.durations import Duration, format_duration
from orchestrator.core.expressions import EvaluationFailed, Expr, Scope, evaluate, parse_bare


class UntilInvalid(Exception):
    """`until` cannot be evaluated with what the step returned: it will not be with what it returns next time."""


def _apart(every: timedelta) -> timedelta:
    if every < timedelta(seconds=1):
        raise ValueError("polls are a second apart at least")
    return every


class PollDef(BaseModel):
    """How often a step is asked, for how long in all, how often at least, and which of its outputs it waits for: an
    expression over `@output()`; without one, any."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    every: Annotated[Duration, AfterValidator(_apart)]
    timeout: Annotated[Duration, Field(gt=timedelta(0))]
    min_attempts: Annotated[int, Field(ge=1, le=1000)] = 1
    until: Annotated[str, Field(min_length=1)] | None = None

    def unmet(self, output: str) -> str | None:
        """Why an output, as JSON text, is not the one that is waited for; None: it is.

        Raises:
            UntilInvalid: `until` cannot be evaluated with it, or is neither true nor false.
        """
        if self.until is None:
            return None
        try:
            found = evaluate(_parsed(self.until), Scope(output=json.loads(output)))
        except EvaluationFailed as exc:
            raise _invalid(self.until, exc.problem) from exc
        if not isinstance(found, bool):
            raise _invalid(self.until, "it is neither true nor false")
        return None if found else f"`{self.until}` is false"

    def timed_out(self, polls: int, last: str) -> str:
        """What people read when the time is over."""
        times = "1 poll" if polls == 1 else f"{polls} polls"
        return f"not ready after {format_duration(self.timeout)}, {times}" + (f"; last: {last}" if last else "")


@lru_cache(maxsize=256)
def _parsed(text: str) -> Expr:
    return parse_bare(text)


def _invalid(until: str, problem: str) -> UntilInvalid:
    return UntilInvalid(
        f"`until` of the step cannot be evaluated: `{until}`: {problem}. Fix: correct the expression for later runs; "
        "`number(…)` and `time(…)` read a text."
    )
