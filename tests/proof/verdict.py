"""What a checker says."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Violation:
    """An invariant that did not hold, where, and what shows it."""

    invariant: str
    sentence: str
    run_id: str = ""
    step_key: str = ""
    evidence: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = " ".join(part for part in (self.run_id, self.step_key) if part)
        lines = "".join(f"\n    {line}" for line in self.evidence)
        return f"{self.invariant} {where}: {self.sentence}{lines}"


@dataclass(frozen=True)
class Verdict:
    """Every violation, and the figures of the experiment."""

    violations: tuple[Violation, ...]
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def broken(self) -> set[str]:
        """The invariants that did not hold."""
        return {violation.invariant for violation in self.violations}
