"""What became of one item of an `each` that collects errors."""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from orchestrator.authoring.blocks import StepError

R = TypeVar("R")


class Outcome(BaseModel, Generic[R]):
    """`ok`: it succeeded, with this `value`; otherwise `error` says why it failed, or `skipped` why it never ran."""

    model_config = ConfigDict(frozen=True)

    ok: bool
    value: R | None = None
    error: StepError | None = None
    skipped: str | None = None
