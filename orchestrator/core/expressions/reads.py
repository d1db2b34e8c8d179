"""What has to be read before expressions can be evaluated."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

from orchestrator.core.expressions.tree import Ref


@dataclass(frozen=True, slots=True)
class Reads:
    """Of one run: the outputs of steps, how steps ended (their status, and the error if they failed), its input, its
    headers."""

    outputs: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    trigger: bool = False
    headers: bool = False

    @classmethod
    def of(cls, refs: Collection[Ref]) -> Self:
        """What these references need."""
        roots = {ref.root for ref in refs}
        ends = {ref.key or "" for ref in refs if ref.root == "step" and ref.member != "output"}
        outputs = {ref.key or "" for ref in refs if ref.root == "step" and ref.member == "output"}
        return cls(tuple(sorted(outputs)), tuple(sorted(ends)), "trigger" in roots, "headers" in roots)

    @property
    def more(self) -> bool:
        """Whether there is more to it than outputs and the input."""
        return self.headers or bool(self.ends)
